// SPDX-License-Identifier: MIT
// A connection's life: its handles, how it starts, and the ways it ends.
#include "workers/fabric/iwarp/connection.h"

#include <cstring>
#include <utility>

#include "shm/base/sockets.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

// How long disconnect() may take, and how long a Terminate or a rejection is given to reach the peer.
constexpr uint64_t kDisconnectMs = 3000;
constexpr uint64_t kTerminateMs = 1000;

template <class Handle>
Connection& of(Handle* handle) {
  return *static_cast<Connection*>(handle->data);
}

}  // namespace

Connection::Owner Connection::create(uv_loop_t& loop, shm::UniqueFd fd,
                                     const std::optional<sockaddr_storage>& to, const Options& options,
                                     Handler& handler) {
  return Owner(new Connection(loop, std::move(fd), to, options, handler));
}

Connection::Connection(uv_loop_t& loop, shm::UniqueFd fd, const std::optional<sockaddr_storage>& to,
                       const Options& options, Handler& handler)
    : loop_(loop),
      to_(to),
      options_(options),
      handler_(&handler),
      stream_({.max_send_work = options.max_send_work,
               .max_receive_work = options.max_receive_work,
               .max_inbound_reads = options.max_inbound_reads,
               .max_outbound_reads = options.max_outbound_reads}),
      attributes_{.max_send_work = options.max_send_work,
                  .max_receive_work = options.max_receive_work,
                  .max_send_sge = kMaxPieces,
                  .max_outbound_reads = options.max_outbound_reads,
                  .crc = options.want_crc,
                  .can_be_invalidated = true},
      description_(describe_socket(fd.get(), !to, to ? &*to_ : nullptr)),
      socket_(loop, std::move(fd), [this](int events, int status) { on_socket(events, status); }),
      timer_(loop, [this] { deadline_passed(); }),
      reader_(to ? MpaFrameKind::reply : MpaFrameKind::request) {
  uv_idle_init(&loop, &idle_);
  uv_check_init(&loop, &check_);
  idle_.data = check_.data = this;
  handles_ = 2;
}

void Connection::Release::operator()(Connection* connection) const {
  connection->handler_ = nullptr;
  if (connection->phase_ != Phase::closed) {
    shm::reset_on_close(connection->socket_.fd());
    connection->finish(CloseCause::local, "the endpoint was destroyed");
  }
  connection->sleep();
  uv_close(reinterpret_cast<uv_handle_t*>(&connection->idle_), on_handle_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&connection->check_), on_handle_closed);
}

void Connection::on_handle_closed(uv_handle_t* handle) noexcept {
  Connection& self = of(handle);
  if (--self.handles_ == 0) std::default_delete<Connection>()(&self);
}

void Connection::on_idle(uv_idle_t* handle) noexcept {
  of(handle).sleep();
  of(handle).service();
}

void Connection::on_check(uv_check_t* handle) noexcept {
  of(handle).sleep();
  of(handle).service();
}

void Connection::wake() {
  if (awake_) return;
  awake_ = true;
  uv_idle_start(&idle_, on_idle);
  uv_check_start(&check_, on_check);
}

void Connection::sleep() {
  if (!awake_) return;
  awake_ = false;
  uv_idle_stop(&idle_);
  uv_check_stop(&check_);
}

void Connection::arm(uint64_t timeout_ms) {
  uv_update_time(&loop_);  // a busy turn must not eat into the deadline
  timer_.start(timeout_ms);
}

void Connection::watch(int events) {
  if (phase_ != Phase::closed) socket_.want(events);
}

void Connection::start() {
  if (phase_ != Phase::idle) return;
  if (const int error = socket_.error(); error != 0) {
    finish(CloseCause::setup_failed, std::string("the socket cannot be polled: ") + uv_strerror(error));
    return;
  }
  arm(options_.handshake_timeout_ms);
  if (to_) {
    begin_tcp();
  } else {
    set_no_delay(socket_.fd());
    phase_ = Phase::handshake;
    watch(UV_READABLE);
  }
}

void Connection::ring() {
  if (delivering_) {
    rung_ = true;  // written when the handler has returned, all at once
    return;
  }
  ring_now();
}

void Connection::ring_now() {
  if (phase_ != Phase::established) return;
  flush();
  if (delivering_) return;  // which looks at the rest
  if (!stream_.completions().empty() || stream_.fault() || broken_ != 0) wake();
}

void Connection::unexpose(uint32_t token) {
  stream_.unexpose(token);
  if (stream_.fault()) wake();
}

void Connection::trim() {
  if (!delivering_ && phase_ == Phase::established && stream_.completions().empty()) stream_.trim();
}

void Connection::disconnect() {
  if (phase_ < Phase::established) {
    finish(CloseCause::local, "disconnected during set-up");
  } else if (phase_ == Phase::established) {
    phase_ = Phase::draining;
    ending_ = Close{CloseCause::local, "disconnected"};
    arm(kDisconnectMs);
    wake();
  }
}

void Connection::abort() {
  if (phase_ == Phase::closed) return;
  shm::reset_on_close(socket_.fd());
  finish(CloseCause::local, "aborted");
}

void Connection::begin_fault() {
  const Fault& fault = *stream_.fault();
  const bool leaving = phase_ == Phase::draining;  // whatever happens now, the end was ours to call
  if (fault.from_peer) {
    finish(leaving ? CloseCause::local : CloseCause::peer_terminate,
           "the peer sent a Terminate: " + terminate_text(fault.code));
    return;
  }
  begin_terminate(fault, leaving ? CloseCause::local : CloseCause::protocol_error,
                  std::string(fault.why) + "; Terminate: " + terminate_text(fault.code));
}

void Connection::begin_terminate(Fault fault, CloseCause cause, std::string detail) {
  ending_ = Close{cause, std::move(detail)};
  if (fault.silent || broken_ != 0) {
    shm::reset_on_close(socket_.fd());
    finish_ending();
    return;
  }
  stream_.terminate(fault);
  phase_ = Phase::terminating;
  arm(kTerminateMs);
}

// A close that throws away what the peer sent would reset the connection, and the reset may overtake what
// we said last. So say that we are done and read on until the peer is done too.
void Connection::begin_linger() {
  ::shutdown(socket_.fd(), SHUT_WR);
  if (peer_done_) {
    finish_ending();
    return;
  }
  phase_ = Phase::lingering;
  watch(UV_READABLE);
}

void Connection::reject(std::string why) {
  ending_ = Close{CloseCause::setup_failed, std::move(why)};
  arm(kTerminateMs);
  begin_linger();
}

void Connection::finish_ending() {
  Close close = ending_.value_or(Close{CloseCause::local, "closed"});
  finish(close.cause, std::move(close.detail));
}

void Connection::finish(CloseCause cause, std::string detail) {
  if (phase_ == Phase::closed) return;
  timer_.stop();
  socket_.reset();
  phase_ = Phase::closed;
  close_ = Close{cause, std::move(detail)};
  if (handler_ != nullptr) wake();
}

void Connection::deadline_passed() {
  switch (phase_) {
    case Phase::idle:
    case Phase::established:
    case Phase::closed:
      return;
    case Phase::connecting:
      finish(CloseCause::setup_failed, "the TCP connection was not established in time");
      break;
    case Phase::handshake:
    case Phase::replying:
      shm::reset_on_close(socket_.fd());
      finish(CloseCause::setup_failed, "the MPA set-up was not complete in time");
      break;
    case Phase::draining:
    case Phase::terminating:
    case Phase::lingering:
      shm::reset_on_close(socket_.fd());
      finish_ending();
      break;
  }
  service();
}

}  // namespace smbdirect::workers::fabric::iwarp
