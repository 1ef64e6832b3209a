// SPDX-License-Identifier: MIT
// One SMB client's TCP connection and the SMB Direct connection that carries it. Owned by the program, on
// its loop's thread; says when it is done and is destroyed from the loop after that. When the process
// dies, the kernel closes both connections.
//
// The connection to the server is made when the client's first message is complete and the client has a place
// (places.h); no more is read from the client until SMB Direct is negotiated, with the first of the server's
// addresses that accepts the connection. When the client closes, what it sent is delivered, RDMA-channel
// requests are waited for, and the SMB Direct connection is closed in an orderly way. When that connection
// ends first, whole responses are still delivered and then TCP is closed; it is reset instead when a response
// was cut short.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/connect/dialer.h"
#include "workers/connect/exposed_memory.h"
#include "workers/connect/greeting.h"
#include "workers/connect/places.h"
#include "workers/connect/pools.h"
#include "workers/connect/request_forwarder.h"
#include "workers/connect/response_forwarder.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

/// What every session of a program is given.
struct SessionConfig {
  smb_direct::Limits limits;
  bool rdma_io = false;
  uint32_t threshold = 4096;
  MemoryLimits memory;
  uint64_t drain_timeout_ms = 5000;  // what a closing connection may take to deliver what is under way
  // How long READs and WRITEs wait for memory while none of it comes back and nothing moves to or from it;
  // then they travel inside messages.
  uint64_t patience_ms = 1000;
  uint64_t greeting_timeout_ms = 5000;  // what a client may take for its first message, and then for a place
};

class ClientSession;

/// What a session tells its program, from the loop, each at most once; none may destroy it from inside.
struct SessionEvents {
  std::function<void(ClientSession&)> greeted;  // its first message is there: it waits for enter()
  std::function<void(ClientSession&)> let_in;   // by the server
  std::function<void(ClientSession&)> done;
};

class ClientSession final : public PlaceHolder, private Transport::Owner {
 public:
  /// client: a connected, non-blocking TCP socket, named for messages.
  ClientSession(uv_loop_t& loop, Pools& pools, Dialer& dialer, const SessionConfig& config,
                shm::UniqueFd client, std::string name, SessionEvents tell);
  ClientSession(const ClientSession&) = delete;
  ClientSession& operator=(const ClientSession&) = delete;
  ~ClientSession();

  void start();
  /// Stop taking requests, deliver what is under way, close. done() follows within seconds.
  void stop();
  /// Close both sides at once. done() follows.
  void abort(std::string why);
  // --- as a holder of a place ---
  void enter() override;
  void leave(std::string why) override;
  [[nodiscard]] bool served() const override;
  /// Gives back memory that was not needed since the last call.
  void trim();

  [[nodiscard]] Counters counters() const;
  [[nodiscard]] bool done() const { return phase_ == Phase::done; }

 private:
  enum class Phase : uint8_t {
    greeting,    // its first message is not whole
    waiting,     // for a place
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

  /// The connection to the server and what moves bytes to and from it; made anew for each address tried.
  struct Link {
    Link(ClientSession& session, const SessionConfig& config);
    ~Link();
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    Budget receive_budget;  // what the transport's receives take, those the client has not taken included
    protocol::smb2::ClientTranslator translator;
    std::unique_ptr<Transport> transport;
    Outbox outbox;
    ExposedMemory memory;
    RequestForwarder requests;
    SpillBuffer spill;
    ResponseForwarder responses;
  };

  [[nodiscard]] bool before_server() const { return phase_ <= Phase::waiting; }
  void greet();
  void connect();
  void connect_failed(const std::string& why);
  void on_client(int events, int status);
  void on_deadline();
  void turn(bool readable);
  void read_requests();
  void watch_waiting();
  void on_patience_over();
  [[nodiscard]] uint64_t moved() const;
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
  shm::Watched<shm::UniqueFd> client_;
  std::string name_;  // "127.0.0.1:50000", the client
  SessionEvents events_;
  shm::Deferred turn_;
  shm::Timer deadline_;
  shm::Timer patience_;  // with requests under way that hold the memory others wait for
  uint64_t closed_seen_ = 0;
  uint64_t moved_seen_ = 0;
  bool waiting_ = false;

  Phase phase_ = Phase::greeting;
  Greeting greeting_;
  bool let_in_ = false;
  bool transport_closed_ = false;
  bool disconnecting_ = false;
  bool client_ended_ = false;    // it has sent its last byte
  bool client_gone_ = false;     // nothing can be delivered to it any more
  bool reset_client_ = false;    // close by RST
  bool output_blocked_ = false;  // waiting for room in the client's socket
  bool over_ = false;            // the deadline for delivering has passed
  RequestForwarder::State input_ = RequestForwarder::State::hungry;

  std::unique_ptr<Link> link_;  // from connect() on
  Counters before_;             // of the addresses tried before
  std::vector<sockaddr_storage> addresses_;
  size_t tried_ = 0;      // of them...
  std::string failures_;  // ...and why each could not be used
  bool try_next_ = false;
};

}  // namespace smbdirect::workers::connect
