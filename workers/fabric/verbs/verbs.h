// SPDX-License-Identifier: MIT
// The verbs fabric's entry point: endpoints on RDMA devices through libibverbs (RoCE, InfiniBand, hardware
// iWARP, rxe, siw). One object for each process that uses it, on its loop's thread, made after the process's
// last change of credentials; outlives its endpoints; everything ends with the process.
//
// A device is opened when the first connection arrives on it and closed when it is removed or has been idle
// for a while (rxe and siw wait for that before they can be deleted). The arena's blocks are registered with
// a device when they are first used there, without remote rights.
//
// What the seam leaves open, here:
//  - A SEND or an RDMA WRITE completes when the peer's device has acknowledged it.
//  - READs beyond min(device, peer, Options) wait inside; SENDs and WRITEs posted after one do not wait.
//  - ring() posts all that was queued as one chain for each queue (one doorbell); only the last of a chain
//  and
//    some in between are signalled.
//  - A bad rkey in a descriptor ends this connection only (peer_terminate).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <sys/socket.h>

#include <uv.h>

#include "daemon/contract/rdma_ucm.h"
#include "shm/base/result.h"
#include "shm/loop/busy_poll.h"
#include "workers/fabric/fabric.h"
#include "workers/memory/arena.h"

namespace smbdirect::workers::fabric::verbs {

struct Options {
  uint8_t max_inbound_reads = 0;    // responder_resources: reads of the peer we serve at once (server: none)
  uint8_t max_outbound_reads = 32;  // initiator_depth we ask for at most
  uint32_t max_send_work = 512;
  uint32_t max_receive_work = 256;  // at least what may be granted, and one
  uint32_t handshake_timeout_ms = 5000;
  uint32_t busy_poll_us = 0;                 // spin on a device's CQ for this long before sleeping...
  const shm::BusyPoll* busy_poll = nullptr;  // ... and for as long as this keeps the loop awake; outlives all
  uint32_t device_idle_ms = 10'000;          // a device without connections is closed after this
};

/// A connection request on another rdma_cm file (the hand-over file), and what came with it.
struct Request {
  uint32_t id{};
  int handover_fd{-1};
  daemon::CmParameters parameters;
};

class Fabric {
 public:
  /// Opens the worker's own rdma_cm file at once; fails when it cannot (no module, no permission). Loads the
  /// devices' drivers, which takes a while and needs the file system.
  [[nodiscard]] static shm::Result<std::unique_ptr<Fabric>> open(uv_loop_t& loop, Arena& arena);
  virtual ~Fabric() = default;

  /// Takes a request over: the id belongs to this process when this succeeds, and stays with its owner
  /// otherwise.
  [[nodiscard]] virtual shm::Result<> take(const Request& request) = 0;
  /// Accepting side, of an id taken.
  [[nodiscard]] virtual std::unique_ptr<Endpoint> accept(const Request& request, const Options& options,
                                                         Handler& handler) = 0;
  /// An id that was taken but is not needed.
  virtual void reject(const Request& request) = 0;
};

/// Connecting side, through librdmacm (smbdirect-connect, tests, the benchmark). Expose()d memory is
/// registered for the purpose; Attributes say whether the peer may invalidate it.
class Connector {
 public:
  /// Loads the devices' drivers; fails where there is no device at all.
  [[nodiscard]] static shm::Result<std::unique_ptr<Connector>> open(uv_loop_t& loop, Arena& arena);
  virtual ~Connector() = default;
  [[nodiscard]] virtual shm::Result<std::unique_ptr<Endpoint>> connect(
      const sockaddr_storage& to, const std::optional<sockaddr_storage>& from, const Options& options,
      Handler& handler) = 0;
};

}  // namespace smbdirect::workers::fabric::verbs
