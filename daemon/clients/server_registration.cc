// SPDX-License-Identifier: MIT
#include "daemon/clients/server_registration.h"

#include <cerrno>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "daemon/os/child_process.h"

namespace smbdirect::daemon {
namespace {

namespace proxy = protocol::proxy;

constexpr size_t kReadsPerWake = 64;  // of what floods us the rest waits

/// All of it or an error: frames are short, and the reader has nothing else to do.
shm::Result<> say(int fd, const proxy::FrameHeader& header, std::span<const std::byte> body) {
  const auto head = proxy::encode_header(header);
  std::vector<std::byte> frame(head.begin(), head.end());
  frame.insert(frame.end(), body.begin(), body.end());
  const ssize_t sent = send(fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == ssize_t(frame.size())) return {};
  return shm::fail("the server's main process does not read from its control socket",
                   sent < 0 ? errno : EAGAIN);
}

}  // namespace

ServerRegistration::ServerRegistration(shm::UniqueFd socket, Failed failed, Gone gone)
    : socket_(std::move(socket)), failed_(std::move(failed)), gone_(std::move(gone)), pid_(pid_of(socket_)) {}

pid_t ServerRegistration::pid_of(const shm::UniqueFd& socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

shm::Result<std::unique_ptr<ServerRegistration>> ServerRegistration::adopt(shm::Loop& loop,
                                                                           shm::UniqueFd socket,
                                                                           Failed failed, Gone gone) {
  std::unique_ptr<ServerRegistration> main(
      new ServerRegistration(std::move(socket), std::move(failed), std::move(gone)));
  const auto version = proxy::encode_version();
  auto said = say(main->socket_.get(),
                  {.length = uint32_t(version.size()), .type = proxy::FrameType::registered}, version);
  if (said) said = main->watch(loop);
  if (!said) return std::unexpected(said.error());
  return main;
}

shm::Result<std::unique_ptr<ServerRegistration>> ServerRegistration::inherit(shm::Loop& loop,
                                                                             shm::UniqueFd socket,
                                                                             Failed failed, Gone gone) {
  std::unique_ptr<ServerRegistration> main(
      new ServerRegistration(std::move(socket), std::move(failed), std::move(gone)));
  if (auto watched = main->watch(loop); !watched) return std::unexpected(watched.error());
  return main;
}

shm::Result<> ServerRegistration::watch(shm::Loop& loop) {
  auto watch = shm::ReadWatch::make(loop, socket_.get(), [this] { read(); });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::make_unique<shm::ReadWatch>(std::move(*watch));
  watch_->start();
  // Children may have inherited the socket, so the process itself is watched, where that is possible.
  if (auto process = open_process(pid_)) {
    process_ = std::move(*process);
    auto ended = shm::ReadWatch::make(loop, process_.get(), [this] { end("it has ended"); });
    if (!ended) return std::unexpected(ended.error());
    ended_ = std::make_unique<shm::ReadWatch>(std::move(*ended));
    ended_->start();
  }
  return {};
}

void ServerRegistration::refuse(const shm::UniqueFd& socket, int error) {
  // It does not matter whether the process still receives it.
  (void)say(socket.get(), {.type = proxy::FrameType::refused, .count = uint16_t(error)}, {});
}

shm::Result<> ServerRegistration::start(uint64_t number, const proxy::Start& start) {
  const auto body = proxy::encode_start(start);
  return say(socket_.get(), {.length = uint32_t(body.size()), .type = proxy::FrameType::start, .id = number},
             body);
}

void ServerRegistration::read() {
  for (size_t i = 0; i < kReadsPerWake; ++i) {
    const ssize_t got = recv(socket_.get(), said_.data() + have_, said_.size() - have_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return end("it has ended");
    have_ += size_t(got);
    if (have_ < said_.size()) continue;
    have_ = 0;
    const auto header = proxy::parse_frame_header(said_, proxy::Sender::main);
    if (!header) return end(std::string(proxy::frame_error_text(header.error())));
    failed_(header->id, header->count);
  }
}

void ServerRegistration::end(const std::string& why) {
  const Gone gone = std::move(gone_);  // it may destroy this
  gone(why);
}

}  // namespace smbdirect::daemon
