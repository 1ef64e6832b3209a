// SPDX-License-Identifier: MIT
// Sequence locks over 64-bit words in memory that several processes map: one writer, any number of readers
// that never write and never wait. A guarded group of words has a sequence word: odd while the writer is
// changing the group, and larger by two after each change. A reader copies the words between two looks at
// the sequence word and has a copy that was true at one moment if both looks saw the same even number.
//
// Every store here is a release and every load an acquire, so a reader that sees one store of the writer
// sees all earlier ones: what a reader sees is always the memory as it was after some store, and never goes
// back. That is all the proof needs (and what the model checker of the tests enumerates), it costs nothing
// on x86, and thread sanitizers understand it, which they do not with stand-alone fences.
//
// A writer that dies inside a change leaves an odd sequence; readers give up after a number of attempts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace smbdirect::shm {

static_assert(std::atomic_ref<uint64_t>::is_always_lock_free, "a lock would live in one process only");
static_assert(std::atomic_ref<uint64_t>::required_alignment == alignof(uint64_t));

[[nodiscard]] inline uint64_t load_word(const uint64_t& word) {
  // atomic_ref wants a mutable object even to read it; lock-free loads of a read-only mapping are plain
  // loads.
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
}
inline void store_word(uint64_t& word, uint64_t value) {
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
}

/// A process's view of shared words. Templates take any type with these members, so that tests can put a
/// model of memory in its place.
class MappedWords {
 public:
  /// A change is a few dozen stores; a writer that was preempted inside one comes back too late for any
  /// number of attempts that a reader would want to spend.
  static constexpr int kReadAttempts = 64;

  explicit MappedWords(std::span<const uint64_t> words) : words_(words) {}
  [[nodiscard]] uint64_t load(size_t index) const { return load_word(words_[index]); }
  /// An attempt failed, another follows.
  void retry() const {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

 private:
  std::span<const uint64_t> words_;
};

/// Runs body, which loads words of the group, until one run saw no change. False: none did, ignore what body
/// left behind. body meets torn states: it must bound whatever it takes from the words.
template <class Memory, class Body>
[[nodiscard]] bool read_stable(const Memory& memory, size_t sequence_index, Body&& body) {
  for (int attempt = 0; attempt < Memory::kReadAttempts; ++attempt) {
    if (attempt > 0) memory.retry();
    const uint64_t before = memory.load(sequence_index);
    if (before % 2 != 0) continue;
    body();
    if (memory.load(sequence_index) == before) return true;
  }
  return false;
}

}  // namespace smbdirect::shm
