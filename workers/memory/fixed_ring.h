// SPDX-License-Identifier: MIT
// A first-in first-out queue of fixed capacity, for plain values. Its memory is allocated when it is made and
// touched as it is used: empty again, it starts over at its first slot, so that a quiet connection touches
// few pages. Part of a connection's state; one thread.
#pragma once

#include <cstdint>
#include <memory>

namespace smbdirect::workers {

template <class T>
class FixedRing {
 public:
  explicit FixedRing(uint32_t capacity)
      : capacity_(capacity), slots_(std::make_unique_for_overwrite<T[]>(capacity)) {}

  [[nodiscard]] uint32_t size() const { return count_; }
  [[nodiscard]] uint32_t capacity() const { return capacity_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool full() const { return count_ == capacity_; }
  [[nodiscard]] T& operator[](uint32_t i) { return slots_[wrap(head_ + i)]; }
  [[nodiscard]] const T& operator[](uint32_t i) const { return slots_[wrap(head_ + i)]; }
  [[nodiscard]] T& front() { return slots_[head_]; }
  [[nodiscard]] const T& front() const { return slots_[head_]; }
  /// Not when full.
  T& push(const T& value) { return slots_[wrap(head_ + count_++)] = value; }
  /// Takes the slot behind the newest, which next() has filled, into the queue. Not when full.
  void extend() { ++count_; }
  [[nodiscard]] T& next() { return slots_[next_slot()]; }
  void pop() {
    --count_;
    head_ = count_ == 0 ? 0 : wrap(head_ + 1);
  }
  /// Forgets the newest n.
  void drop_newest(uint32_t n) { count_ -= n; }
  void clear() { head_ = count_ = 0; }
  /// The slot push() will fill next, for arrays that run beside this one.
  [[nodiscard]] uint32_t next_slot() const { return wrap(head_ + count_); }
  [[nodiscard]] uint32_t slot_of(uint32_t i) const { return wrap(head_ + i); }

 private:
  [[nodiscard]] uint32_t wrap(uint32_t i) const { return i >= capacity_ ? i - capacity_ : i; }

  uint32_t capacity_;
  uint32_t head_ = 0;
  uint32_t count_ = 0;
  std::unique_ptr<T[]> slots_;
};

}  // namespace smbdirect::workers
