// SPDX-License-Identifier: MIT
// The worker's memory for payload: fixed-size slabs carved from large mappings, handed out by reference
// count, charged to budgets. Single-threaded; owned by the worker (or smbdirect-connect) and outliving
// every connection. Nothing here is shared between processes.
//
// A SlabRef keeps a slab alive while anything still points into it: a queued write to smbd, a posted
// SEND. The last reference returns the slab to its pool and its bytes to the budget they were charged to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "workers/memory/arena.h"

namespace smbdirect::workers {

/// A limit on bytes, with an optional wider limit around it (connection within worker).
class Budget {
 public:
  explicit Budget(uint64_t limit, Budget* parent = nullptr) : limit_(limit), parent_(parent) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Takes all of `bytes` from this budget and its parents, or nothing.
  [[nodiscard]] bool charge(uint64_t bytes);
  /// Takes them even over the limit: what cannot wait (a receive that must be posted).
  void force(uint64_t bytes);
  void refund(uint64_t bytes);
  [[nodiscard]] uint64_t used() const { return used_; }
  [[nodiscard]] uint64_t limit() const { return limit_; }
  /// What is charged already stays, also where it is more.
  void set_limit(uint64_t limit) { limit_ = limit; }
  /// Whether charge(bytes) would succeed now.
  [[nodiscard]] bool has_room(uint64_t bytes) const;

 private:
  uint64_t limit_;
  uint64_t used_ = 0;
  Budget* parent_;
};

struct SlabChunk;
class FileCloser;
class OpenFile;

/// Bookkeeping of one slab; lives in its pool, or on the heap for a block of its own.
struct Slab {
  std::byte* data{};
  uint32_t size{};
  uint32_t key{};  // of the arena's block it lies in
  uint32_t refs{};
  bool touched{};      // handed out before: its pages may be there
  SlabChunk* chunk{};  // null: a block of its own, unmapped when released...
  Arena* arena{};      // ...after it has left the arena, if it is in one
  OpenFile* window{};  // of a file: owned, and unmaps and refunds itself
  Budget* budget{};    // refunded `size` when released
  Slab* next_free{};
};

/// Shared ownership of one slab: all owners are on one thread. Copies are explicit (share()).
class SlabRef {
 public:
  SlabRef() = default;
  explicit SlabRef(Slab* slab) : slab_(slab) {}  // adopts one reference
  SlabRef(SlabRef&& other) noexcept : slab_(std::exchange(other.slab_, nullptr)) {}
  SlabRef& operator=(SlabRef&& other) noexcept {
    if (this != &other) {
      reset();
      slab_ = std::exchange(other.slab_, nullptr);
    }
    return *this;
  }
  SlabRef(const SlabRef&) = delete;
  SlabRef& operator=(const SlabRef&) = delete;
  ~SlabRef() { reset(); }

  [[nodiscard]] SlabRef share() const {
    if (slab_ != nullptr) ++slab_->refs;
    return SlabRef(slab_);
  }
  void reset();
  [[nodiscard]] explicit operator bool() const { return slab_ != nullptr; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {slab_->data, slab_->size}; }
  [[nodiscard]] uint32_t key() const { return slab_->key; }
  [[nodiscard]] bool sole() const { return slab_->refs == 1; }
  /// Nobody needs what it holds: its pages go back to the system, unless a device has them. It can be used
  /// on; what it holds is then undefined.
  void discard();
  /// It counts in this budget from now on, over its limit when it must, and no longer in the one that it was
  /// charged to: for what outlives the owner of that one.
  void recharge(Budget& budget);

 private:
  Slab* slab_ = nullptr;
};

/// Slabs of one size. Grows by mappings of kChunkBytes up to what budgets allow. Slabs are taken from the
/// first chunk that has one, so that the last ones become empty; trim() frees what was not needed for a
/// while. In between, pages stay warm and registrations stay. Acquiring and releasing are O(1) and make no
/// system call.
class SlabPool {
 public:
  static constexpr size_t kChunkBytes = 4u << 20;
  static constexpr size_t kWarmBytes = kChunkBytes;  // free memory that is always kept
  static constexpr size_t kTrimBytes = 64u << 20;    // given back by one call, so that none takes long

  SlabPool(Arena& arena, uint32_t slab_size);
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;
  ~SlabPool();

  [[nodiscard]] uint32_t slab_size() const { return slab_size_; }
  [[nodiscard]] Arena& arena() const { return arena_; }
  /// An empty reference when the budget or the system's memory is exhausted.
  [[nodiscard]] SlabRef acquire(Budget& budget);
  /// As acquire(), but over the budget's limit when it must be; empty only when mapping fails.
  [[nodiscard]] SlabRef acquire_forced(Budget& budget);
  [[nodiscard]] size_t slabs_in_use() const { return in_use_; }
  [[nodiscard]] size_t chunks() const;
  /// To be called now and then: of the memory that was free all through the last round, what is over
  /// kWarmBytes goes back to the system, a share with each call. Chunks that are wholly free are unmapped
  /// (and their registrations given up); of the others, free pages go unless a device has them. True: there
  /// is more to free, by further calls with new_round false.
  bool trim(bool new_round = true);

 private:
  friend class SlabRef;
  Slab* take();
  SlabChunk* grow();
  void give_back(Slab& slab);
  void mark(const SlabChunk& chunk);
  SlabChunk* first_with_room();
  size_t give_up(SlabChunk& chunk);

  Arena& arena_;
  uint32_t slab_size_;
  size_t in_use_ = 0;
  size_t idle_ = 0;                                 // free slabs that were used before
  size_t idle_low_ = 0;                             // the fewest of them in this round
  size_t surplus_ = 0;                              // of them, still to be given back
  std::vector<std::unique_ptr<SlabChunk>> chunks_;  // by index; the memory is gone where there is none
  std::vector<uint64_t> with_room_;                 // a bit for each chunk that has a free slab
  size_t first_word_ = 0;                           // no bit is set before this word
};

/// One contiguous block larger than a slab (a gathered compound). Pages are touched only as they are
/// filled, so announcing a length costs nothing. Empty when the budget is exhausted.
[[nodiscard]] SlabRef acquire_block(Arena& arena, uint32_t size, Budget& budget);
/// As acquire_block(), but over the budget's limit when it must be; empty only when mapping fails.
[[nodiscard]] SlabRef acquire_block_forced(Arena& arena, uint32_t size, Budget& budget);

/// The same, for memory that is shared through the descriptor: at least `size` bytes, which cannot be
/// truncated.
[[nodiscard]] SlabRef acquire_shared(Arena& arena, int fd, uint32_t size, Budget& budget);

/// A window of a file, which may begin or end beyond the file's end; in no block of an arena (key 0). For
/// system calls only: who reads what the file does not have dies of it. The budget counts addresses, of which
/// a process has enough: the memory is the page cache's. The closer unmaps it, for it may be the last that
/// keeps a deleted file.
[[nodiscard]] SlabRef map_file(int fd, uint64_t offset, uint32_t size, Budget& budget, FileCloser& closer);

}  // namespace smbdirect::workers
