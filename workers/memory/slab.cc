// SPDX-License-Identifier: MIT
#include "workers/memory/slab.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

#include "workers/memory/file_closer.h"

namespace smbdirect::workers {

namespace {

void* map_pages(size_t bytes) {
  void* at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

constexpr size_t kBits = 64;
constexpr uint32_t kSmallSlab = 64 * 1024;

/// The whole pages of a slab; those it shares with its neighbours stay.
void give_pages_back(const Slab& slab) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto from = reinterpret_cast<uintptr_t>(slab.data);
  const uintptr_t begin = (from + page - 1) / page * page;
  const uintptr_t end = (from + slab.size) / page * page;
  if (begin < end) (void)::madvise(slab.data + (begin - from), end - begin, MADV_DONTNEED);
}

}  // namespace

bool Budget::has_room(uint64_t bytes) const {
  if (limit_ < used_ || limit_ - used_ < bytes) return false;
  return parent_ == nullptr || parent_->has_room(bytes);
}

bool Budget::charge(uint64_t bytes) {
  if (!has_room(bytes)) return false;
  force(bytes);
  return true;
}

void Budget::force(uint64_t bytes) {
  used_ += bytes;
  if (parent_ != nullptr) parent_->force(bytes);
}

void Budget::refund(uint64_t bytes) {
  assert(used_ >= bytes);
  used_ -= bytes;
  if (parent_ != nullptr) parent_->refund(bytes);
}

struct SlabChunk {
  SlabPool& pool;
  Arena& arena;
  size_t index;
  std::byte* data = nullptr;
  uint32_t key = 0;
  size_t count;           // of slabs
  Slab* slabs = nullptr;  // mapped: it is to go with the chunk; made as they are first used
  Slab* free = nullptr;   // used before
  size_t fresh = 0;       // from here on no slab was ever used
  size_t in_use = 0;
  size_t idle = 0;  // of those in `free`: were used since their pages went back

  SlabChunk(SlabPool& of, size_t at)
      : pool(of), arena(of.arena()), index(at), count(SlabPool::kChunkBytes / of.slab_size()) {}
  SlabChunk(const SlabChunk&) = delete;
  SlabChunk& operator=(const SlabChunk&) = delete;
  ~SlabChunk() {
    if (key != 0) arena.remove(key);
    if (data != nullptr) ::munmap(data, SlabPool::kChunkBytes);
    if (slabs != nullptr) ::munmap(slabs, count * sizeof(Slab));
  }
  [[nodiscard]] bool map() {
    data = static_cast<std::byte*>(map_pages(SlabPool::kChunkBytes));
    slabs = static_cast<Slab*>(map_pages(count * sizeof(Slab)));
    if (data == nullptr || slabs == nullptr) return false;
    // Where the system makes pages large by itself, one small slab would bring 2 MiB with it.
    if (pool.slab_size() <= kSmallSlab) (void)::madvise(data, SlabPool::kChunkBytes, MADV_NOHUGEPAGE);
    key = arena.add({data, SlabPool::kChunkBytes});
    return true;
  }
  [[nodiscard]] bool has_room() const { return in_use < count; }
  [[nodiscard]] Slab* make() {
    const uint32_t size = pool.slab_size();
    const size_t at = fresh++;
    return std::construct_at(
        &slabs[at], Slab{.data = data + at * size, .size = size, .key = key, .chunk = this, .arena = &arena});
  }
};

void SlabRef::reset() {
  Slab* slab = std::exchange(slab_, nullptr);
  if (slab == nullptr || --slab->refs != 0) return;
  if (slab->budget != nullptr) slab->budget->refund(slab->size);
  if (slab->chunk != nullptr) {
    slab->chunk->pool.give_back(*slab);
  } else {
    const std::unique_ptr<Slab> dies(slab);
    const std::unique_ptr<OpenFile> window(slab->window);
    if (window != nullptr) return;
    if (slab->arena != nullptr) slab->arena->remove(slab->key);
    ::munmap(slab->data, slab->size);
  }
}

void SlabRef::discard() {
  if (slab_ != nullptr && slab_->arena != nullptr && !slab_->arena->registered(slab_->key))
    give_pages_back(*slab_);
}

void SlabRef::recharge(Budget& budget) {
  if (slab_ == nullptr || slab_->budget == nullptr) return;
  slab_->budget->refund(slab_->size);
  slab_->budget = &budget;
  budget.force(slab_->size);
}

SlabPool::SlabPool(Arena& arena, uint32_t slab_size) : arena_(arena), slab_size_(slab_size) {
  assert(slab_size > 0 && slab_size <= kChunkBytes);
}

SlabPool::~SlabPool() { assert(in_use_ == 0); }

size_t SlabPool::chunks() const {
  return static_cast<size_t>(std::ranges::count_if(chunks_, [](const auto& c) { return c != nullptr; }));
}

// --- which chunk ---

void SlabPool::mark(const SlabChunk& chunk) {
  uint64_t& word = with_room_[chunk.index / kBits];
  const uint64_t bit = uint64_t{1} << chunk.index % kBits;
  if (chunk.has_room()) {
    word |= bit;
    first_word_ = std::min(first_word_, chunk.index / kBits);
  } else {
    word &= ~bit;
  }
}

SlabChunk* SlabPool::first_with_room() {
  for (; first_word_ < with_room_.size(); ++first_word_) {
    const uint64_t word = with_room_[first_word_];
    if (word != 0) return chunks_[first_word_ * kBits + static_cast<size_t>(std::countr_zero(word))].get();
  }
  return nullptr;
}

SlabChunk* SlabPool::grow() {
  auto hole = std::ranges::find_if(chunks_, [](const auto& c) { return c == nullptr; });
  if (hole == chunks_.end()) {
    chunks_.emplace_back();
    hole = chunks_.end() - 1;
    with_room_.resize((chunks_.size() + kBits - 1) / kBits);
  }
  auto chunk = std::make_unique<SlabChunk>(*this, static_cast<size_t>(hole - chunks_.begin()));
  if (!chunk->map()) return nullptr;
  *hole = std::move(chunk);
  mark(**hole);
  return hole->get();
}

// --- taking and giving back ---

Slab* SlabPool::take() {
  SlabChunk* chunk = first_with_room();
  if (chunk == nullptr) chunk = grow();
  if (chunk == nullptr) return nullptr;
  Slab* slab = chunk->free;
  if (slab != nullptr) {
    chunk->free = slab->next_free;
    if (slab->touched) {
      --chunk->idle;
      idle_low_ = std::min(idle_low_, --idle_);
    }
  } else {
    slab = chunk->make();
  }
  slab->refs = 1;
  slab->touched = true;
  ++in_use_;
  ++chunk->in_use;
  if (!chunk->has_room()) mark(*chunk);
  return slab;
}

SlabRef SlabPool::acquire(Budget& budget) {
  if (!budget.has_room(slab_size_)) return {};
  return acquire_forced(budget);
}

SlabRef SlabPool::acquire_forced(Budget& budget) {
  Slab* slab = take();
  if (slab == nullptr) return {};
  budget.force(slab_size_);
  slab->budget = &budget;
  return SlabRef(slab);
}

void SlabPool::give_back(Slab& slab) {
  SlabChunk& chunk = *slab.chunk;
  slab.budget = nullptr;
  slab.next_free = chunk.free;
  chunk.free = &slab;
  ++chunk.idle;
  ++idle_;
  --in_use_;
  if (chunk.in_use-- == chunk.count) mark(chunk);
}

// --- giving memory back to the system ---

/// Slabs that are free and cost nothing any more.
size_t SlabPool::give_up(SlabChunk& chunk) {
  const size_t given = chunk.idle;
  if (chunk.in_use == 0) {
    with_room_[chunk.index / kBits] &= ~(uint64_t{1} << chunk.index % kBits);
    chunks_[chunk.index].reset();
    return given;
  }
  if (given == 0 || arena_.registered(chunk.key)) return 0;
  for (Slab* slab = chunk.free; slab != nullptr; slab = slab->next_free) {
    if (slab->touched) give_pages_back(*slab);
    slab->touched = false;
  }
  chunk.idle = 0;
  return given;
}

bool SlabPool::trim(bool new_round) {
  const size_t warm = kWarmBytes / slab_size_;
  surplus_ = std::min(surplus_, idle_ > warm ? idle_ - warm : 0);
  if (new_round) {
    surplus_ = idle_low_ > warm ? idle_low_ - warm : 0;
    idle_low_ = idle_;
  }
  const size_t most = std::min(surplus_, kTrimBytes / slab_size_);
  size_t given = 0;
  for (size_t i = chunks_.size(); i > 0 && given < most; --i) {
    if (chunks_[i - 1] != nullptr) given += give_up(*chunks_[i - 1]);
  }
  idle_ -= given;
  idle_low_ = std::min(idle_low_, idle_);
  surplus_ -= std::min(surplus_, given);
  while (!chunks_.empty() && chunks_.back() == nullptr) chunks_.pop_back();
  return given > 0 && surplus_ > 0;
}

namespace {

SlabRef adopt_pages(Arena& arena, void* data, uint32_t size, Budget& budget) {
  if (data == nullptr) {
    budget.refund(size);
    return {};
  }
  auto* bytes = static_cast<std::byte*>(data);
  auto slab = std::make_unique<Slab>(Slab{.data = bytes,
                                          .size = size,
                                          .key = arena.add({bytes, size}),
                                          .refs = 1,
                                          .arena = &arena,
                                          .budget = &budget});
  return SlabRef(slab.release());
}

}  // namespace

SlabRef acquire_block(Arena& arena, uint32_t size, Budget& budget) {
  return budget.has_room(size) ? acquire_block_forced(arena, size, budget) : SlabRef{};
}

SlabRef acquire_block_forced(Arena& arena, uint32_t size, Budget& budget) {
  budget.force(size);
  return adopt_pages(arena, map_pages(size), size, budget);
}

SlabRef acquire_shared(Arena& arena, int fd, uint32_t size, Budget& budget) {
  if (!budget.charge(size)) return {};
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return adopt_pages(arena, at == MAP_FAILED ? nullptr : at, size, budget);
}

SlabRef map_file(int fd, uint64_t offset, uint32_t size, Budget& budget, FileCloser& closer) {
  closer.reclaim();
  if (!budget.charge(size)) return {};
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) {
    budget.refund(size);
    return {};
  }
  auto* data = static_cast<std::byte*>(at);
  auto window = std::make_unique<OpenFile>(closer, std::span(data, size), budget, size);
  auto slab = std::make_unique<Slab>(Slab{.data = data, .size = size, .refs = 1, .window = window.get()});
  (void)window.release();  // the slab's
  return SlabRef(slab.release());
}

}  // namespace smbdirect::workers
