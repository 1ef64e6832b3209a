// SPDX-License-Identifier: MIT
// A protection domain and the arena's blocks as registered in it: a block is registered when work first names
// it, for local use only, and deregistered before the block's memory is freed. One per device, or one per
// connection where the peer must not reach other connections' memory (endpoint.h). Owned by the device or the
// endpoint; outlives the queue pairs made in it; the loop's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "shm/base/result.h"
#include "workers/fabric/verbs/handles.h"
#include "workers/memory/arena.h"

namespace smbdirect::workers::fabric::verbs {

class MrTable final : private Arena::Registrar {
 public:
  [[nodiscard]] static shm::Result<std::unique_ptr<MrTable>> create(VerbsApi& api, ibv_context& context,
                                                                    Arena& arena);
  ~MrTable();
  MrTable(const MrTable&) = delete;
  MrTable& operator=(const MrTable&) = delete;

  [[nodiscard]] ibv_pd& pd() const { return *pd_; }

  /// The local key for a block's memory. Nothing for a key that names no block, and when the device (or the
  /// limit on locked memory) takes no more.
  [[nodiscard]] std::optional<uint32_t> local_key(uint32_t key) {
    if (key < blocks_.size() && blocks_[key] != nullptr) return blocks_[key]->lkey;
    return add(key);
  }
  /// Memory registered for a purpose of its own.
  [[nodiscard]] shm::Result<MrHandle> add_memory(std::span<std::byte> memory, int access);

  [[nodiscard]] size_t registered() const;

 private:
  MrTable(VerbsApi& api, Arena& arena, PdHandle pd);
  void block_gone(uint32_t key) override;
  [[nodiscard]] bool holds(uint32_t key) const override {
    return key < blocks_.size() && blocks_[key] != nullptr;
  }
  std::optional<uint32_t> add(uint32_t key);

  VerbsApi& api_;
  Arena& arena_;
  PdHandle pd_;
  std::vector<MrHandle> blocks_;  // by key
  bool refusal_logged_ = false;
};

}  // namespace smbdirect::workers::fabric::verbs
