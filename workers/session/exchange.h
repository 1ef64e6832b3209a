// SPDX-License-Identifier: MIT
// What a session carries between its SMB Direct connection and the stream to its server, in both directions,
// and how that server is reached: smbd (workers/smbd: direct-TCP framing, RDMA-channel I/O translated) or a
// native peer (workers/native: frames, and a data area). To the session there is no other difference between
// the two. Owned by one session, one thread. It never closes anything: it tells the session's events.
#pragma once

#include <cstdint>
#include <memory>

#include "shm/area_state.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/direct_state.h"
#include "workers/stream/outbox.h"
#include "workers/transport/transport.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  // --- from the client ---
  virtual void on_fragment(const Fragment& fragment) = 0;
  /// RDMA READs and WRITEs of the transport's that are done (Transport::Owner).
  virtual void on_read_done(uint64_t cookie) = 0;
  virtual void on_writes_done(uint64_t count) = 0;
  /// Replies were delivered or memory came back: go on where requests stalled.
  virtual void resume() = 0;
  /// Something waits for memory or for replies to be delivered.
  [[nodiscard]] virtual bool stalled() const = 0;
  /// Bytes on their way to the upstream stream.
  [[nodiscard]] virtual Outbox& outbox() = 0;
  /// Whether the upstream has part of a message that is not complete, or has bytes still queued here.
  [[nodiscard]] virtual bool unfinished() const = 0;

  // --- the server ---
  /// Makes the attempt to connect the session's client, or says why there is none. Once, within on_negotiate.
  [[nodiscard]] virtual shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest request) = 0;
  /// The stream is connected, or has gone from one process to another: this one serves it (0: not known).
  virtual void attached(uint32_t /*process*/) {}
  /// There is no stream any more. Told as often as that is made sure of.
  virtual void detached() {}
  /// The link to the module in smbd that was asked for, or why there is none.
  virtual void module_answered(shm::Result<shm::UniqueFd> /*link*/) {}
  /// The server, and its stream, as messages name them; and what to look at when it cannot be reached.
  struct Names {
    const char* server;
    const char* stream;
    const char* unreachable;
  };
  [[nodiscard]] virtual const Names& names() const = 0;
  /// Of memory shared with smbd.
  [[nodiscard]] virtual shm::AreaState area_state() const { return shm::AreaState::none; }
  /// Of direct I/O, and how many open files there are for it.
  [[nodiscard]] virtual shm::DirectState direct_state() const { return shm::DirectState::none; }
  [[nodiscard]] virtual uint32_t direct_files() const { return 0; }

  // --- from the upstream ---
  enum class State : uint8_t {
    more,       // bounded work done; there may be more
    again,      // bounded work done, and more of what was read is in hand: call again, from the loop
    drained,    // nothing to read now
    no_memory,  // at the hard cap: stop reading until sends complete
    end,        // the upstream closed the stream, between messages
    broken,     // the session was told
  };
  /// Reads and processes a bounded amount.
  [[nodiscard]] virtual State pump(int fd) = 0;
  /// Gives back memory that an idle stream need not hold.
  virtual void trim() = 0;
  /// Called now and then: gives back what was not needed since the last call.
  virtual void tidy() {}
};

}  // namespace smbdirect::workers
