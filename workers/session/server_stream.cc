// SPDX-License-Identifier: MIT
#include "workers/session/server_stream.h"

#include <sys/socket.h>
#include <utility>

#include "shm/base/socket_address.h"
#include "shm/base/sockets.h"

namespace smbdirect::workers {

namespace {

uint16_t port_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (ask(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return shm::port_of(address);
}

}  // namespace

ServerStream::ServerStream(uv_loop_t& loop, Exchange& exchange, uint64_t patience_ms, Owner& owner)
    : loop_(loop),
      exchange_(exchange),
      owner_(owner),
      patience_ms_(patience_ms),
      again_(loop, [this] { on_ready(UV_READABLE, 0); }),
      patience_timer_(loop, [this] { on_overdue(); }) {}

void ServerStream::open(std::unique_ptr<Upstream> attempt) {
  attempt_ = std::move(attempt);
  attempt_->start([this](shm::Result<shm::UniqueFd> result) { on_connected(std::move(result)); });
}

void ServerStream::on_connected(shm::Result<shm::UniqueFd> result) {
  if (!result) return owner_.on_broken(result.error().text() + exchange_.names().unreachable);
  stream_ =
      shm::Watched(loop_, std::move(*result), [this](int events, int status) { on_ready(events, status); });
  local_port_ = port_of(stream_.fd(), ::getsockname);
  remote_port_ = port_of(stream_.fd(), ::getpeername);
  want();
  owner_.on_stream_up(attempt_->process());
}

void ServerStream::want() {
  stream_.want((paused_ || ended_ ? 0 : UV_READABLE) | (blocked_ ? UV_WRITABLE : 0));
}

void ServerStream::on_ready(int events, int status) {
  if ((events & UV_WRITABLE) != 0) {
    blocked_ = false;
    flush();
    want();
  }
  if (status < 0 || (events & UV_READABLE) != 0) read();
  if (status < 0 && up() && !ended_) {
    owner_.on_broken(name() + " cannot be watched: " + uv_strerror(status));
  }
  owner_.on_stream_moved();
}

void ServerStream::read() {
  if (!up() || paused_ || ended_) return;
  switch (exchange_.pump(stream_.fd())) {
    case Exchange::State::again:
      return again_.trigger();
    case Exchange::State::more:
    case Exchange::State::drained:
    case Exchange::State::broken:
      return;
    case Exchange::State::no_memory:
      paused_ = true;
      return want();
    case Exchange::State::end:
      ended_ = true;
      want();
      return owner_.on_stream_end();
  }
}

void ServerStream::resume_reading() {
  if (!paused_ || !up()) return;
  paused_ = false;
  want();
  read();  // what was read and has waited brings no event
}

/// How messages begin that are about it: "smbd's connection".
std::string ServerStream::name() const {
  return std::string(exchange_.names().server) + "'s " + exchange_.names().stream;
}

/// What the server has taken all of may be what a request waits for, and brings no event.
void ServerStream::flush() {
  while (up() && !blocked_ && !exchange_.outbox().empty()) {
    const auto flushed = exchange_.outbox().flush(stream_.fd());
    if (!flushed) {
      // What the server said before it closed is the better reason ("refused: hosts allow").
      read();
      return owner_.on_broken(name() + ": " + flushed.error().text());
    }
    if (*flushed == Outbox::Flush::blocked) {
      blocked_ = true;
      wait_for_room();
      return want();
    }
    if (exchange_.stalled()) exchange_.resume();
  }
}

/// The server has not taken all. It is asked again only when there is room, so that it has taken something
/// since the last time, if there was one: its time begins anew.
void ServerStream::wait_for_room() {
  blocked_since_ms_ = uv_now(&loop_);
  if (std::exchange(watches_room_, true)) return;
  patience_timer_.start(patience_ms_);
}

void ServerStream::on_overdue() {
  if (!blocked_) {
    watches_room_ = false;
    return;
  }
  const uint64_t silent_ms = uv_now(&loop_) - blocked_since_ms_;
  if (silent_ms < patience_ms_) return patience_timer_.start(patience_ms_ - silent_ms);
  const Exchange::Names& names = exchange_.names();
  owner_.on_broken(
      std::string(names.server) + " has read nothing from its " + names.stream + " for " +
      std::to_string(silent_ms) +
      " ms (/limits/upstream_progress_timeout_ms); is the process stopped, or does its storage hang?");
}

void ServerStream::close(bool orderly) {
  again_.cancel();
  patience_timer_.stop();
  attempt_.reset();
  if (up() && !orderly) shm::reset_on_close(stream_.fd());
  stream_.reset();
}

}  // namespace smbdirect::workers
