// SPDX-License-Identifier: MIT
#include "support.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <iterator>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <random>

#include <doctest/doctest.h>

namespace smbdirect::test {
namespace {

void need(bool good, const char* what) {
  if (good) return;
  std::perror(what);
  std::abort();
}

void set_option(int fd, int level, int option, int value) {
  need(::setsockopt(fd, level, option, &value, sizeof value) == 0, "setsockopt");
}

}  // namespace

Loop::Loop() { need(uv_loop_init(&loop_) == 0, "uv_loop_init"); }

Loop::~Loop() {
  // Handles of endpoints that are gone close during these turns; anything left is a leak.
  for (int i = 0; i < 10; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
  CHECK_MESSAGE(uv_loop_close(&loop_) == 0, "a handle was left on the loop");
}

void Loop::turn(int times) {
  for (int i = 0; i < times; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
}

bool Loop::until(const std::function<bool()>& condition, uint64_t limit_ms) {
  uv_timer_t limit;
  bool late = false;
  uv_timer_init(&loop_, &limit);
  limit.data = &late;
  uv_update_time(&loop_);
  uv_timer_start(&limit, [](uv_timer_t* timer) { *static_cast<bool*>(timer->data) = true; }, limit_ms, 0);
  // A tick, for conditions about sockets that are not on the loop.
  uv_timer_t tick;
  uv_timer_init(&loop_, &tick);
  uv_timer_start(&tick, [](uv_timer_t*) {}, 1, 1);
  while (!late && !condition()) uv_run(&loop_, UV_RUN_ONCE);
  int open = 2;
  limit.data = tick.data = &open;
  for (uv_timer_t* timer : {&limit, &tick}) {
    uv_close(reinterpret_cast<uv_handle_t*>(timer), [](uv_handle_t* h) { --*static_cast<int*>(h->data); });
  }
  while (open > 0) uv_run(&loop_, UV_RUN_NOWAIT);
  return condition();
}

void Recorder::on_established() {
  CHECK_FALSE(established);
  CHECK(closed_calls == 0);
  established = true;
  if (when_established) when_established();
}

void Recorder::on_completions(std::span<const fabric::Completion> list) {
  CHECK(established);
  CHECK(closed_calls == 0);
  CHECK_FALSE(list.empty());
  ++calls;
  for (const auto& completion : list) {
    done.push_back(completion);
    if (when_done) when_done(completion);
  }
}

void Recorder::on_closed(const fabric::Close& why) {
  CHECK(closed_calls == 0);
  ++closed_calls;
  close = why;
}

std::vector<fabric::Completion> Recorder::of(fabric::Op op) const {
  std::vector<fabric::Completion> out;
  std::ranges::copy_if(done, std::back_inserter(out), [op](const auto& c) { return c.op == op; });
  return out;
}

size_t Recorder::count(fabric::Op op) const {
  return static_cast<size_t>(std::ranges::count(done, op, &fabric::Completion::op));
}

void set_buffers(int fd, const PairOptions& options) {
  if (options.send_buffer != 0) set_option(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer);
  if (options.receive_buffer != 0) set_option(fd, SOL_SOCKET, SO_RCVBUF, options.receive_buffer);
  if (options.segment != 0) set_option(fd, IPPROTO_TCP, TCP_MAXSEG, options.segment);
}

void set_blocking(int fd, bool blocking) {
  const int flags = ::fcntl(fd, F_GETFL);
  need(::fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0, "fcntl");
}

Listener::Listener(int receive_buffer, int segment) {
  fd = shm::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  need(fd.valid(), "socket");
  set_buffers(fd.get(), {.receive_buffer = receive_buffer, .segment = segment});
  auto& in = reinterpret_cast<sockaddr_in&>(address);
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  need(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sockaddr_in)) == 0, "bind");
  socklen_t length = sizeof address;
  need(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  need(::listen(fd.get(), 8) == 0, "listen");
}

shm::UniqueFd Listener::accept() const {
  shm::UniqueFd out(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  need(out.valid(), "accept");
  return out;
}

std::pair<shm::UniqueFd, shm::UniqueFd> tcp_pair(const PairOptions& options) {
  const Listener listener(options.receive_buffer, options.segment);
  shm::UniqueFd near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  set_buffers(near.get(), options);
  const auto* to = reinterpret_cast<const sockaddr*>(&listener.address);
  need(::connect(near.get(), to, sizeof(sockaddr_in)) == 0, "connect");
  shm::UniqueFd far = listener.accept();
  set_buffers(far.get(), {.send_buffer = options.send_buffer});
  return {std::move(near), std::move(far)};
}

EndpointPair::EndpointPair(Loop& on, const iwarp::Options& client_options,
                           const iwarp::Options& server_options, const PairOptions& sockets)
    : loop(on) {
  const Listener listener(sockets.receive_buffer, sockets.segment);
  auto made = iwarp::connect(loop.get(), listener.address, std::nullopt, client_options, client_events);
  REQUIRE(made.has_value());
  client = std::move(*made);
  client->start();
  auto far = listener.accept();
  set_buffers(far.get(), {.send_buffer = sockets.send_buffer});
  server = iwarp::accept(loop.get(), std::move(far), server_options, server_events);
}

bool EndpointPair::establish() {
  server->start();
  return loop.until([&] {
    return (client_events.established || client_events.closed_calls > 0) &&
           (server_events.established || server_events.closed_calls > 0);
  }) && client_events.established &&
         server_events.established;
}

std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(size);
  for (auto& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

}  // namespace smbdirect::test
