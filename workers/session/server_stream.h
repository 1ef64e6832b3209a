// SPDX-License-Identifier: MIT
// The stream to a session's server, from the attempt to connect it to its close: read as long as the exchange
// has memory for what comes, written from the exchange's outbox, and given up when the server reads nothing
// of that for too long. The exchange interprets the bytes. Owned by one session, on the worker's loop; when
// the worker dies the server sees the stream close.
//
// A stream whose end is not orderly is reset: the server must not take the end of the bytes for the end of a
// message.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/session/exchange.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

class ServerStream {
 public:
  /// Told from the loop, on_broken() and on_stream_end() also from inside flush() and resume_reading(). Each
  /// may close the stream; none may destroy it.
  class Owner {
   public:
    /// Connected to this process (0: not known); nothing was written or read yet.
    virtual void on_stream_up(uint32_t process) = 0;
    /// The loop had something for the stream: what came was read, and what could go has gone.
    virtual void on_stream_moved() = 0;
    /// The server has closed its side, between messages of its own.
    virtual void on_stream_end() = 0;
    /// It cannot be connected, or cannot be used any more.
    virtual void on_broken(std::string why) = 0;

   protected:
    ~Owner() = default;
  };

  /// All outlive this. patience_ms: how long the server may take nothing of what is sent to it.
  ServerStream(uv_loop_t& loop, Exchange& exchange, uint64_t patience_ms, Owner& owner);

  /// Once: on_stream_up() follows, or on_broken().
  void open(std::unique_ptr<Upstream> attempt);
  /// What is in the outbox goes, as far as the server takes it.
  void flush();
  /// Memory came back: what has waited is read.
  void resume_reading();
  /// What it was at ends as well: nothing is told any more. orderly: nothing is unfinished on either side.
  void close(bool orderly);

  // --- how far it is ---
  [[nodiscard]] bool connecting() const { return attempt_ != nullptr && !up(); }
  [[nodiscard]] bool up() const { return stream_.valid(); }
  /// The server has closed its side.
  [[nodiscard]] bool ended() const { return ended_; }
  /// What comes waits for memory.
  [[nodiscard]] bool paused() const { return paused_; }
  /// Since when the server has taken nothing of what waits for it; UINT64_MAX: nothing waits.
  [[nodiscard]] uint64_t stuck_since() const { return blocked_ ? blocked_since_ms_ : UINT64_MAX; }
  /// Its ports, once it was up; 0: it has none.
  [[nodiscard]] uint16_t local_port() const { return local_port_; }
  [[nodiscard]] uint16_t remote_port() const { return remote_port_; }

 private:
  void on_connected(shm::Result<shm::UniqueFd> result);
  void on_ready(int events, int status);
  void read();
  void want();
  void wait_for_room();
  void on_overdue();
  [[nodiscard]] std::string name() const;

  uv_loop_t& loop_;
  Exchange& exchange_;
  Owner& owner_;
  uint64_t patience_ms_;
  shm::Deferred again_;            // what the server sent is in hand and not done with
  shm::Timer patience_timer_;      // the server does not read
  bool watches_room_ = false;      // patience_timer_ runs
  bool paused_ = false;            // at the hard cap
  bool blocked_ = false;           // the server has not taken all...
  uint64_t blocked_since_ms_ = 0;  // ...and since when nothing
  bool ended_ = false;
  uint16_t local_port_ = 0;
  uint16_t remote_port_ = 0;
  std::unique_ptr<Upstream> attempt_;
  shm::Watched<shm::UniqueFd> stream_;
};

}  // namespace smbdirect::workers
