// SPDX-License-Identifier: MIT
#include "workers/memory/slab.h"

#include <cassert>
#include <sys/mman.h>

namespace smbdirect::workers {

namespace {

void* map_pages(size_t bytes) {
  void* at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
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

void SlabRef::reset() {
  Slab* slab = std::exchange(slab_, nullptr);
  if (slab == nullptr || --slab->refs != 0) return;
  if (slab->budget != nullptr) slab->budget->refund(slab->size);
  if (slab->pool != nullptr) {
    slab->pool->give_back(*slab);
  } else {
    slab->arena->remove(slab->key);
    ::munmap(slab->data, slab->size);
    const std::unique_ptr<Slab> dies(slab);
  }
}

struct SlabPool::Mapping {
  Arena& arena;
  std::byte* data = nullptr;
  uint32_t key = 0;
  std::vector<Slab> slabs;

  explicit Mapping(Arena& of) : arena(of) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data == nullptr) return;
    arena.remove(key);
    ::munmap(data, kChunkBytes);
  }
};

SlabPool::SlabPool(Arena& arena, uint32_t slab_size) : arena_(arena), slab_size_(slab_size) {
  assert(slab_size > 0 && slab_size <= kChunkBytes);
}

SlabPool::~SlabPool() { assert(in_use_ == 0); }

bool SlabPool::grow() {
  auto mapping = std::make_unique<Mapping>(arena_);
  mapping->data = static_cast<std::byte*>(map_pages(kChunkBytes));
  if (mapping->data == nullptr) return false;
  mapping->key = arena_.add({mapping->data, kChunkBytes});
  mapping->slabs.resize(kChunkBytes / slab_size_);
  size_t at = 0;
  for (Slab& slab : mapping->slabs) {
    slab = {.data = mapping->data + at,
            .size = slab_size_,
            .key = mapping->key,
            .pool = this,
            .next_free = free_};
    free_ = &slab;
    at += slab_size_;
  }
  mappings_.push_back(std::move(mapping));
  return true;
}

Slab* SlabPool::take() {
  if (free_ == nullptr && !grow()) return nullptr;
  Slab* slab = std::exchange(free_, free_->next_free);
  slab->refs = 1;
  ++in_use_;
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
  slab.budget = nullptr;
  slab.next_free = free_;
  free_ = &slab;
  --in_use_;
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

}  // namespace smbdirect::workers
