// SPDX-License-Identifier: MIT
// A queue that keeps its memory: power-of-two ring, nothing before its first element, doubles when full, so
// that steady state allocates nothing. trim() frees memory that a burst needed and that is no longer used.
// Elements are moved in and out; popped elements are reset at once (they may hold references). Empty again,
// it starts over at its first slot, so that a quiet connection touches few pages.
//
// It has no bound: code that pushes entries caused by a peer must bound them.
#pragma once

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace smbdirect::workers {

template <class T>
class Ring {
 public:
  /// first: room to begin with, and the least that trim() leaves.
  explicit Ring(size_t first = 16) : first_(std::bit_ceil(first)) {}
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] size_t capacity() const { return capacity_; }
  [[nodiscard]] T& front() { return at(0); }
  [[nodiscard]] const T& front() const { return at(0); }
  [[nodiscard]] T& back() { return at(size_ - 1); }
  /// The i-th element from the front.
  [[nodiscard]] T& at(size_t i) {
    assert(i < size_);
    return slots_[wrap(head_ + i)];
  }
  [[nodiscard]] const T& at(size_t i) const {
    assert(i < size_);
    return slots_[wrap(head_ + i)];
  }
  [[nodiscard]] T& operator[](size_t i) { return at(i); }
  [[nodiscard]] const T& operator[](size_t i) const { return at(i); }

  T& push(T value) {
    T& slot = next();
    slot = std::move(value);
    extend();
    return slot;
  }
  /// The slot behind the newest, to be filled in place...
  [[nodiscard]] T& next() {
    if (size_ == capacity_) resize(std::max(first_, capacity_ * 2));
    return slots_[wrap(head_ + size_)];
  }
  /// ...and taken into the queue.
  void extend() {
    ++size_;
    peak_ = std::max(peak_, size_);
  }
  T pop() {
    T value = std::move(front());
    drop();
    return value;
  }
  /// pop() without the value.
  void drop() {
    assert(size_ > 0);
    reset(slots_[head_]);
    --size_;
    head_ = size_ == 0 ? 0 : wrap(head_ + 1);
  }
  /// Forgets the newest n.
  void drop_newest(size_t n) {
    for (; n > 0; --n) {
      reset(back());
      --size_;
    }
  }
  void clear() {
    while (!empty()) drop();
  }

  /// To be called now and then: frees what was not needed since the last call, but keeps enough for another
  /// burst of that size. Moves elements.
  void trim() {
    const size_t keep = peak_ == 0 ? 0 : std::max(first_, std::bit_ceil(peak_) * 2);
    peak_ = size_;
    if (keep < capacity_) resize(keep);
  }

 private:
  static void reset(T& slot) {
    if constexpr (!std::is_trivially_copyable_v<T>) slot = T{};
  }
  [[nodiscard]] size_t wrap(size_t i) const { return i & (capacity_ - 1); }

  void resize(size_t capacity) {
    auto slots = capacity == 0 ? nullptr : std::make_unique_for_overwrite<T[]>(capacity);
    for (size_t i = 0; i < size_; ++i) slots[i] = std::move(at(i));
    slots_ = std::move(slots);
    capacity_ = capacity;
    head_ = 0;
  }

  size_t first_;
  std::unique_ptr<T[]> slots_;
  size_t capacity_ = 0;
  size_t head_ = 0;
  size_t size_ = 0;
  size_t peak_ = 0;  // the most elements since the last trim()
};

}  // namespace smbdirect::workers
