// SPDX-License-Identifier: MIT
// How a session takes memory for payload: within its own budget, its client's share and the worker's limit,
// and with a minimum in each direction that keeps it going when other sessions have all the memory. Owned by
// one session, one thread. Memory is released by dropping the references to it.
#pragma once

#include <cstdint>
#include <memory>

#include "workers/memory/slab.h"
#include "workers/session/admission.h"
#include "workers/session/worker_memory.h"

namespace smbdirect::workers {

class SessionMemory {
 public:
  SessionMemory(WorkerMemory& worker, std::shared_ptr<WorkerMemory::Client> client, SlabPool& slabs,
                Budget& budget)
      : worker_(worker), client_(std::move(client)), slabs_(slabs), budget_(budget) {}
  SessionMemory(const SessionMemory&) = delete;
  SessionMemory& operator=(const SessionMemory&) = delete;

  /// A slab for what the client sends. only: it has no other, that way; then one is always there, in the end.
  [[nodiscard]] SlabRef slab(bool only);
  /// One block of more than a slab, that way. only: as for slab(); then the connection's own limit does not
  /// count, for nothing smaller would do.
  [[nodiscard]] SlabRef block(uint32_t size, bool only);
  /// The same for what smbd sends, which was admitted when it was asked for: no share is looked at, for
  /// smbd's socket must be drained.
  [[nodiscard]] SlabRef reply_block(uint32_t size, bool only);
  /// Whether a reader of smbd's stream that has no slab may take one over its budget's limit.
  [[nodiscard]] bool reply_floor() const { return worker_.floor_fits(slabs_.slab_size()); }

  /// Who is waited for since the last refusal here.
  [[nodiscard]] Room short_of() const { return short_of_; }
  void clear_shortage() { short_of_ = Room::yes; }
  void note(Room room) { short_of_ = room; }
  /// The next refusal becomes a yes.
  void let_through() { let_through_ = true; }

 private:
  [[nodiscard]] SlabRef refuse(uint64_t size);
  [[nodiscard]] bool passes();

  WorkerMemory& worker_;
  std::shared_ptr<WorkerMemory::Client> client_;
  SlabPool& slabs_;
  Budget& budget_;
  Room short_of_ = Room::yes;
  bool let_through_ = false;
};

}  // namespace smbdirect::workers
