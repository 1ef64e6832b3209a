// SPDX-License-Identifier: MIT
// Finds the process that serves a connection in upstream mode "channel", and connects it. The supervisor's
// answer to the connection's CLAIM decides (contract.h): for a client that no process serves, a process is
// started that opens the channel at this worker's socket, with a cookie; for a client that a process already
// serves, the channel is passed to that process, through a channel that it has with this worker, or else
// through the supervisor and another worker. Owned by the worker, outlives its sessions; one thread. When it
// dies the channels end with it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include <uv.h>

#include "daemon/contract/messages.h"
#include "protocol/proxy/frames.h"
#include "shm/base/connection_id.h"
#include "shm/registry_reader.h"
#include "workers/native/peer_listener.h"
#include "workers/native/peers.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

class PeerFinder final : public Peers {
 public:
  /// How long a process that serves the client already has to take another channel of it.
  static constexpr uint64_t kPassMs = 1'000;

  using Send = std::function<void(const daemon::FromWorker& message, int descriptor)>;
  /// deadline_ms: from the client's first message until a process has attached itself.
  PeerFinder(uv_loop_t& loop, Send send, uint32_t deadline_ms);
  ~PeerFinder();

  // --- from the supervisor ---
  void listen_for_peers(shm::UniqueFd listening);
  void map_registry(const shm::UniqueFd& registry);
  void claimed(shm::ConnectionId connection, daemon::ClaimOutcome outcome);
  void refused(shm::ConnectionId connection, int error);
  /// Another worker's channel, for a process that has one with this worker.
  void pass_to(uint64_t sequence, uint32_t process, shm::UniqueFd socket);

  // --- for the sessions ---
  [[nodiscard]] std::unique_ptr<Upstream> request(PeerRequest request) override;
  void serving(shm::ConnectionId connection, uint32_t process, Pass pass) override;
  void ended(shm::ConnectionId connection) override { serving_.erase(connection); }

 private:
  class Attempt;
  struct Serving {
    uint32_t process{};
    Pass pass;
  };

  /// Through a channel that the process has with this worker: false when none takes it.
  bool pass(uint32_t process, shm::UniqueFd socket);
  [[nodiscard]] bool knows(uint32_t process) const;
  /// The process that serves the client, as far as the registry tells.
  [[nodiscard]] uint32_t owner(const shm::Guid& guid) const;

  uv_loop_t& loop_;
  Send send_;
  uint32_t deadline_ms_;
  std::optional<shm::RegistryReader> registry_;
  std::unordered_map<shm::ConnectionId, Attempt*> attempts_;
  std::map<protocol::proxy::Cookie, Attempt*> by_cookie_;  // those that wait for a process to come
  std::unordered_map<shm::ConnectionId, Serving> serving_;
  std::unique_ptr<PeerListener> listener_;
};

}  // namespace smbdirect::workers
