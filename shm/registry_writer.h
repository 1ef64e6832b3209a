// SPDX-License-Identifier: MIT
// The rules of the GUID registry: what CLAIM, CHANNEL_UP and CHANNEL_DOWN of workers do to it and what they
// are answered. No I/O and no clock; the caller passes the time. Owned by the supervisor, single-threaded.
// Readers see each change to an entry whole (registry_table.h); the end of a worker or a peer is one change
// for each of its entries.
//
// The first connection of a client is granted the claim and is STARTING; others of the same client wait for
// its outcome. When a channel with smbd is up the entry is LIVE, and its owner is the *peer*, the smbd
// process, not a worker: workers are a mask of those that have channels with it. A dead worker's bit is
// cleared, and the entry is removed when no worker is left or the peer has gone. A zero GUID identifies no
// client and cannot be claimed; the caller checks that connections with a dialect below 2.1, which have no
// GUID, are not claimed.
//
// Workers are not trusted: messages about slots, generations and channels that they do not have are refused.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "shm/registry_table.h"

namespace smbdirect::shm {

enum class Claim : uint8_t {
  granted,        // STARTING: the connection is the client's first, say how it ended
  wait,           // STARTING elsewhere: ask again when that is decided
  owner,          // LIVE: the entry names the peer and the workers
  not_claimable,  // a zero GUID: go on without the registry
  full,           // no room: go on without the registry
  stale,          // the worker is not the current one of its slot
};

struct ClaimAnswer {
  Claim outcome{};
  std::optional<Entry> entry;  // with wait and owner
};

enum class Report : uint8_t {
  done,
  unknown,      // there is no such entry, or it has no such channel or claim of this worker
  other_owner,  // the entry belongs to another peer; nothing was recorded. One of the two must have died: if
                // it is the owner, unnoticed, peer_gone() and the same report again set it right
  not_claimable,  // a zero GUID
  full,           // no room
  stale,          // the worker is not the current one of its slot
};

class RegistryWriter {
 public:
  /// See RegistryTable::create().
  [[nodiscard]] static Result<RegistryWriter> create(size_t entries, std::optional<SipKey> key = {});

  /// To be passed to workers.
  [[nodiscard]] int fd() const { return table_.map().fd(); }

  /// A worker runs in this slot from now on. What an earlier one of the slot had is cleared; the GUIDs whose
  /// entries went are returned. Generations of a slot must not repeat: they distinguish late messages from
  /// current ones.
  std::vector<Guid> worker_started(const WorkerRef& worker);
  /// The worker has ended. Returns the GUIDs whose entries were removed: connections that wait for them may
  /// claim again.
  std::vector<Guid> worker_gone(const WorkerRef& worker);

  [[nodiscard]] ClaimAnswer claim(const Guid& guid, const Host& address, const WorkerRef& worker,
                                  uint64_t now_ms);
  /// The claim's connection ended before a channel was up, or has had its time. The worker must be the one
  /// that was granted the claim.
  Report claim_failed(const Guid& guid, const WorkerRef& worker);
  /// One more channel between this worker and the peer. An unknown peer (pid 0) is taken for the entry's
  /// peer. It needs no claim: a channel that is up is a fact, also when its claim was ended meanwhile.
  Report channel_up(const Guid& guid, const WorkerRef& worker, const Peer& peer, const Host& address,
                    uint64_t now_ms);
  /// One channel fewer. A known peer that is not the entry's is `other_owner`: a late message about a peer
  /// that has gone must not end a channel with its successor.
  Report channel_down(const Guid& guid, const WorkerRef& worker, const Peer& peer = {});
  /// The smbd process has ended: its entries go. Returns their GUIDs.
  std::vector<Guid> peer_gone(const Peer& peer);

  [[nodiscard]] std::optional<Entry> find(const Guid& guid) const;
  /// The workers that serve clients of this address, or work on their first connection.
  [[nodiscard]] uint64_t workers_at(const Host& address) const;
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool is_current(const WorkerRef& worker) const;

  [[nodiscard]] RegistryTable& table() { return table_; }

 private:
  struct HostHash {
    SipKey key;
    size_t operator()(const Host& host) const;
  };

  explicit RegistryWriter(RegistryTable table);

  void put(size_t index, const std::optional<Entry>& before, const Entry& after);
  void erase(size_t index, const Entry& before);
  void index_remove(size_t index, const Entry& entry);
  void index_add(size_t index, const Entry& entry);
  /// Ends what the entry has of a worker that is `gone`; true if the entry went.
  bool drop_worker(size_t index, Entry entry, const WorkerRef& gone);

  RegistryTable table_;
  size_t size_ = 0;
  std::array<std::optional<uint32_t>, kWorkerSlots> workers_;     // slot -> its worker's generation
  std::unordered_multimap<Host, uint32_t, HostHash> by_address_;  // -> entry index
};

}  // namespace smbdirect::shm
