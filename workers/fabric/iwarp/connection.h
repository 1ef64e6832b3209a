// SPDX-License-Identifier: MIT
// A Stream on its socket and loop: set-up, bounded work per wake-up, delivery of events, and the ways a
// connection ends. It lives on the heap until libuv has closed its handles, which may be after the Endpoint
// that made it is gone; from then on it touches neither the handler nor memory of the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/fabric/fabric.h"
#include "workers/fabric/iwarp/iwarp.h"
#include "workers/fabric/iwarp/setup.h"
#include "workers/fabric/iwarp/socket_io.h"
#include "workers/fabric/iwarp/stream.h"

namespace smbdirect::workers::fabric::iwarp {

class Connection {
 public:
  /// Closes at once and frees the connection when libuv allows.
  struct Release {
    void operator()(Connection* connection) const;
  };
  using Owner = std::unique_ptr<Connection, Release>;

  /// to: where to connect; none for an accepted socket.
  static Owner create(uv_loop_t& loop, shm::UniqueFd fd, const std::optional<sockaddr_storage>& to,
                      const Options& options, Handler& handler);
  ~Connection() = default;

  void start();
  void ring();
  void ring_now();
  void disconnect();
  void abort();
  void unexpose(uint32_t token);
  [[nodiscard]] Progress progress() const;
  void trim();

  /// Work may still be posted.
  [[nodiscard]] bool open() const { return phase_ < Phase::draining; }
  [[nodiscard]] Stream& stream() { return stream_; }
  [[nodiscard]] const Stream& stream() const { return stream_; }
  [[nodiscard]] const Attributes& attributes() const { return attributes_; }
  [[nodiscard]] std::string_view description() const { return description_; }

 private:
  /// In the order a connection goes through them; several are skipped by most.
  enum class Phase : uint8_t {
    idle,        // start() has not been called
    connecting,  // TCP
    handshake,   // waiting for the peer's MPA frame
    replying,    // accepting side: the reply is being written
    established,
    draining,     // disconnect(): what was posted goes out first
    terminating,  // a Terminate is to go out, and nothing after it
    lingering,    // our side is shut down; waiting for the peer to close
    closed,
  };

  Connection(uv_loop_t& loop, shm::UniqueFd fd, const std::optional<sockaddr_storage>& to,
             const Options& options, Handler& handler);

  static void on_idle(uv_idle_t* handle) noexcept;
  static void on_check(uv_check_t* handle) noexcept;
  static void on_handle_closed(uv_handle_t* handle) noexcept;

  // Set-up (connection_setup.cc)
  [[nodiscard]] SetupOffer offer() const;
  void begin_tcp();
  void tcp_connected();
  bool write_frame();
  void read_handshake();
  void frame_malformed(MpaError error);
  void handle_request();
  void write_reply();
  void handle_reply();
  void refuse_reply(const SetupFailure& failure);
  void establish(const Agreed& agreed);
  void setup_failed(std::string why);

  // At work (connection_io.cc)
  void on_socket(int events, int status);
  void poll_failed();
  void writable();
  void readable();
  void read_stream();
  void stream_ended();
  void stream_broken(int system_errno);
  void source_gone();
  void discard();
  void flush();
  [[nodiscard]] bool transferring() const;
  /// Brings everything up to date that can be: faults, sending, endings, and last the handler's events.
  void service();
  void deliver();

  // Beginning and ending (connection.cc)
  void wake();
  void sleep();
  void arm(uint64_t timeout_ms);
  void watch(int events);
  void deadline_passed();
  void begin_fault();
  void begin_terminate(Fault fault, CloseCause cause, std::string detail);
  void begin_linger();
  void reject(std::string why);
  void finish_ending();
  void finish(CloseCause cause, std::string detail);

  uv_loop_t& loop_;
  std::optional<sockaddr_storage> to_;
  Options options_;
  Handler* handler_;  // null once the endpoint is gone
  Stream stream_;
  Attributes attributes_;
  std::string description_;

  shm::Watched<shm::UniqueFd> socket_;
  shm::Timer timer_;
  uv_idle_t idle_{};    // keeps the loop from sleeping while something is to be delivered...
  uv_check_t check_{};  // ...and this delivers it in the same turn when it came up during polling
  unsigned handles_ = 0;
  bool awake_ = false;

  Phase phase_ = Phase::idle;
  MpaFrameReader reader_;
  MpaFrame frame_;  // our request or reply, while it is being written
  size_t frame_sent_ = 0;
  std::optional<Agreed> agreed_;
  const char* refusal_ = nullptr;
  bool announce_established_ = false;
  bool delivering_ = false;
  bool rung_ = false;
  bool blocked_ = false;           // the socket took no more, or it is others' turn
  uint64_t sent_before_turn_ = 0;  // FPDUs, when the socket had something for us last
  size_t sent_since_look_ = 0;     // bytes, since TCP\'s segment size was asked for
  int broken_ = 0;                 // errno of a failed send; reading goes on for what the peer said before
  bool peer_done_ = false;         // the peer has closed its side
  std::optional<Close> ending_;    // what to report when terminating or lingering is over
  std::optional<Close> close_;
  bool close_delivered_ = false;
};

}  // namespace smbdirect::workers::fabric::iwarp
