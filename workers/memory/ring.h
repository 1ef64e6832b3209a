// SPDX-License-Identifier: MIT
// A queue that keeps its memory: power-of-two ring, doubles when full, so that steady state allocates
// nothing. Elements are moved in and out; popped elements are reset at once (they may hold references).
#pragma once

#include <cassert>
#include <cstddef>
#include <utility>
#include <vector>

namespace smbdirect::workers {

template <class T>
class Ring {
 public:
  explicit Ring(size_t capacity = 16) {
    size_t n = 1;
    while (n < capacity) n *= 2;
    slots_.resize(n);
  }

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] T& front() { return at(0); }
  [[nodiscard]] const T& front() const { return slots_[head_]; }
  [[nodiscard]] T& back() { return at(size_ - 1); }
  /// The i-th element from the front.
  [[nodiscard]] T& at(size_t i) {
    assert(i < size_);
    return slots_[(head_ + i) & (slots_.size() - 1)];
  }

  T& push(T value) {
    if (size_ == slots_.size()) double_up();
    T& slot = slots_[(head_ + size_) & (slots_.size() - 1)];
    slot = std::move(value);
    ++size_;
    return slot;
  }
  T pop() {
    assert(size_ > 0);
    T value = std::exchange(slots_[head_], T{});
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
    return value;
  }
  void clear() {
    while (!empty()) (void)pop();
  }

 private:
  void double_up() {
    std::vector<T> wider(slots_.size() * 2);
    for (size_t i = 0; i < size_; ++i) wider[i] = std::move(at(i));
    slots_ = std::move(wider);
    head_ = 0;
  }

  std::vector<T> slots_;
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace smbdirect::workers
