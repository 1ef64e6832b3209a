// SPDX-License-Identifier: MIT
// One SMB client's TCP connection and the SMB Direct connection that carries it. Owned by the program, on
// its loop's thread; says when it is done and is destroyed from the loop after that. When the process
// dies, the kernel closes both connections.
//
// The client is not read before SMB Direct is negotiated. When the client closes, what it sent is
// delivered, channel requests are waited for, and the SMB Direct connection is closed in an orderly way.
// When that connection ends first, whole responses are still delivered and then TCP is closed; it is
// reset instead when a response was cut short.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <uv.h>

#include "shm/unique_fd.h"
#include "workers/connect/channel_memory.h"
#include "workers/connect/dialer.h"
#include "workers/connect/pools.h"
#include "workers/connect/request_path.h"
#include "workers/connect/response_path.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

/// What every session of a program is given.
struct SessionConfig {
  smbd::Limits limits;
  bool rdma_io = false;
  uint32_t threshold = 4096;
  MemoryLimits memory;
  uint64_t drain_timeout_ms = 5000;  // what a closing connection may take to deliver what is under way
};

class ConnectSession final : private Transport::Owner {
 public:
  /// client: a connected, non-blocking TCP socket, named for messages. done: called once, from the loop;
  /// must not destroy the session from inside.
  ConnectSession(uv_loop_t& loop, Pools& pools, Dialer& dialer, const SessionConfig& config,
                 shm::UniqueFd client, std::string name, std::function<void()> done);
  ConnectSession(const ConnectSession&) = delete;
  ConnectSession& operator=(const ConnectSession&) = delete;
  ~ConnectSession();

  void start();
  /// Stop taking requests, deliver what is under way, close. done() follows within seconds.
  void stop();
  /// Close both sides at once. done() follows.
  void abort(std::string why);
  /// Gives back memory that was not needed since the last call.
  void trim() { transport_->trim(); }

  [[nodiscard]] Counters counters() const { return transport_->counters(); }
  [[nodiscard]] bool done() const { return phase_ == Phase::done; }

 private:
  enum class Phase : uint8_t {
    connecting,  // SMB Direct is not negotiated yet
    open,
    draining,   // no more requests; the SMB Direct connection is still wanted
    flushing,   // it is closed; responses still go to the client
    lingering,  // all is delivered; waiting for the client to close
    done,
  };

  void on_negotiated() override;
  void on_fragment(Fragment fragment) override;
  void on_read_done(uint64_t cookie) override;
  void on_invalidated(uint32_t token) override;
  void on_progress() override;
  void on_fault(const std::string& why) override;
  void on_closed(const std::string& why, bool clean) override;

  void on_client(int events, int status);
  void on_deadline();
  void turn(bool readable);
  void read_requests();
  void write_responses();
  void drain();
  void finish_client();
  void linger(bool readable);
  void client_lost(const std::string& why);
  void fail(std::string why);
  void finish();
  void log_events();
  [[nodiscard]] bool client_lags() const;
  void wait_for_events();

  uv_loop_t& loop_;
  Pools& pools_;
  Dialer& dialer_;
  SessionConfig config_;
  Watched<shm::UniqueFd> client_;
  std::string name_;  // "127.0.0.1:50000", the client
  std::function<void()> done_;
  Deferred turn_;
  Timer deadline_;

  Phase phase_ = Phase::connecting;
  bool transport_closed_ = false;
  bool disconnecting_ = false;
  bool client_ended_ = false;    // it has sent its last byte
  bool client_gone_ = false;     // nothing can be delivered to it any more
  bool reset_client_ = false;    // close by RST
  bool output_blocked_ = false;  // waiting for room in the client's socket
  bool over_ = false;            // the deadline for delivering has passed
  RequestPath::State input_ = RequestPath::State::hungry;

  Budget receive_budget_;  // what the transport's receives take, those the client has not taken included
  protocol::smb2::ClientTranslator translator_;
  std::unique_ptr<Transport> transport_;
  Outbox outbox_;
  ChannelMemory memory_;
  RequestPath requests_;
  Spill spill_;
  ResponsePath responses_;
};

}  // namespace smbdirect::workers::connect
