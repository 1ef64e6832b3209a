// SPDX-License-Identifier: MIT
#include "daemon/control/control_socket.h"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include "daemon/ctl/commands.h"
#include "daemon/os/unix_socket.h"
#include "protocol/proxy/frames.h"
#include "shm/base/sockets.h"

namespace smbdirect::daemon {
namespace {

constexpr std::string_view kTooLong = R"({"error":"the request is too long"})";
constexpr std::string_view kNotYou =
    R"({"error":"only root and the daemon's own user may use this socket, and members of the group that )"
    R"(/control/group in the pool file names may ask questions; become one of them"})";
constexpr std::string_view kManyAsk =
    R"({"error":"too many members of /control/group are asking at this moment; ask again in a moment"})";

/// Whether it is the socket of a daemon that is gone. A plain file refuses a connection as such a socket
/// does.
bool is_stale(const sockaddr_un& address) {
  struct stat status{};
  if (lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const shm::UniqueFd fd = unix_socket();
  return fd.valid() && connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno == ECONNREFUSED;
}

}  // namespace

shm::Result<std::unique_ptr<ControlSocket>> ControlSocket::open(shm::Loop& loop, const std::string& path,
                                                                Ask ask, Keep keep, Identify identify) {
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  if (auto made = make_directory_of(path); !made) return std::unexpected(made.error());
  shm::UniqueFd fd = unix_socket();
  if (!fd.valid()) return shm::fail("control socket", errno);
  if (!bind_private(fd.get(), *address)) {
    if (errno != EADDRINUSE) return shm::fail("control socket '" + path + "'", errno);
    if (!is_stale(*address)) {
      return shm::fail("control socket '" + path +
                           "': another daemon uses it, or the file is not a socket; give each daemon its own "
                           "/run_directory",
                       EADDRINUSE);
    }
    unlink(path.c_str());
    if (!bind_private(fd.get(), *address)) return shm::fail("control socket '" + path + "'", errno);
  }
  std::unique_ptr<ControlSocket> control(
      new ControlSocket(loop, path, std::move(fd), std::move(ask), std::move(keep), std::move(identify)));
  control->ours_ = true;
  if (listen(control->fd_.get(), int(kMaxPeers)) != 0)
    return shm::fail("control socket '" + path + "'", errno);
  if (auto watched = control->watch(); !watched) return std::unexpected(watched.error());
  control->start();
  return control;
}

shm::Result<std::unique_ptr<ControlSocket>> ControlSocket::inherit(shm::Loop& loop, const std::string& path,
                                                                   shm::UniqueFd fd, Ask ask, Keep keep) {
  std::unique_ptr<ControlSocket> control(
      new ControlSocket(loop, path, std::move(fd), std::move(ask), std::move(keep), peer_identity));
  if (auto watched = control->watch(); !watched) return std::unexpected(watched.error());
  return control;
}

ControlSocket::ControlSocket(shm::Loop& loop, std::string path, shm::UniqueFd fd, Ask ask, Keep keep,
                             Identify identify)
    : loop_(loop),
      path_(std::move(path)),
      fd_(std::move(fd)),
      ask_(std::move(ask)),
      keep_(std::move(keep)),
      identify_(std::move(identify)),
      rest_(loop, [this] { watch_->start(); }) {}

ControlSocket::~ControlSocket() {
  if (fd_.valid() && ours_) unlink(path_.c_str());
}

void ControlSocket::let_go() {
  rest_.stop();
  watch_.reset();
  fd_.reset();
  std::erase_if(peers_, [](const auto& entry) { return !entry.second.asked && entry.second.out.empty(); });
}

shm::Result<> ControlSocket::let_ask(std::optional<gid_t> group) {
  readers_.reset();
  if (auto opened = open_to_group(path_, group); !opened) return opened;
  readers_ = group;
  return {};
}

Right ControlSocket::right_of_peer(int fd) const {
  const auto identity = identify_(fd);
  return identity ? right_of(*identity, geteuid(), readers_) : Right::none;
}

shm::Result<> ControlSocket::watch() {
  auto made = shm::ReadWatch::make(loop_, fd_.get(), [this] { accept(); });
  if (!made) return std::unexpected(made.error());
  watch_ = std::make_unique<shm::ReadWatch>(std::move(*made));
  return {};
}

void ControlSocket::start() {
  ours_ = true;
  watch_->start();
}

void ControlSocket::accept() {
  for (size_t i = 0; i < kMaxPeers; ++i) {
    shm::UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid() && shm::no_room_to_accept(errno)) {
      watch_->stop();
      rest_.start(kRestMs);
    }
    if (!fd.valid()) return;
    if (peers_.size() < kMaxPeers) admit(std::move(fd));
  }
}

void ControlSocket::admit(shm::UniqueFd fd) {
  const uint64_t number = next_++;
  Peer& peer = peers_[number];
  peer.fd = std::move(fd);
  auto made = shm::ReadWatch::make(loop_, peer.fd.get(), [this, number] { read(number); });
  if (!made) {
    peers_.erase(number);
    return;
  }
  peer.readable = std::make_unique<shm::ReadWatch>(std::move(*made));
  peer.deadline = std::make_unique<shm::Timer>(loop_, [this, number] { peers_.erase(number); });
  peer.deadline->start(kPeerDeadlineMs);
  const Right right = right_of_peer(peer.fd.get());
  if (right == Right::none) return answer(number, std::string(kNotYou));
  const auto asks = [](const auto& entry) { return entry.second.right == Right::questions; };
  if (right == Right::questions && size_t(std::ranges::count_if(peers_, asks)) >= kMaxReaders)
    return answer(number, std::string(kManyAsk));
  peer.right = right;
  peer.readable->start();
}

void ControlSocket::read(uint64_t number) {
  Peer& peer = peers_.at(number);
  char bytes[1024];
  const ssize_t got = recv(peer.fd.get(), bytes, sizeof bytes, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // A peer that sends no more may still read; if it does not, the answer or the deadline ends it.
  if (got == 0 && peer.asked) return peer.readable->stop();
  if (peer.asked) {  // gone, or more than one line: it counts until its question is answered
    peer.readable.reset();
    peer.fd.reset();
    return;
  }
  if (got <= 0) {
    peers_.erase(number);
    return;
  }
  peer.in.append(bytes, size_t(got));
  const size_t end = peer.in.find('\n');
  if (peer.in.size() > kMaxRequestBytes) peer.too_long = true;
  if (end == std::string::npos) {
    if (peer.too_long) peer.in.clear();
    return;
  }
  peer.asked = true;
  peer.deadline->stop();  // how long the answer may take is for who gives it
  if (peer.too_long) return answer(number, std::string(kTooLong));
  const std::string line = peer.in.substr(0, end);
  if (keep_ && peer.right == Right::everything && line + "\n" == protocol::proxy::kRegisterLine) {
    peer.readable.reset();
    shm::UniqueFd fd = std::move(peer.fd);
    peers_.erase(number);
    return keep_(std::move(fd));
  }
  ask_(line, peer.right, [this, number](std::string text) { answer(number, std::move(text)); });
}

void ControlSocket::answer(uint64_t number, std::string line) {
  const auto found = peers_.find(number);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  if (!peer.fd.valid()) {
    peers_.erase(found);
    return;
  }
  if (peer.readable) peer.readable->stop();
  peer.deadline->start(kPeerDeadlineMs);  // to read it
  peer.out = std::move(line) + "\n";
  write(number);
}

void ControlSocket::write(uint64_t number) {
  Peer& peer = peers_.at(number);
  while (!peer.out.empty()) {
    const ssize_t sent = send(peer.fd.get(), peer.out.data(), peer.out.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      peer.readable.reset();  // a descriptor is watched by one at a time
      if (!peer.writable) {
        auto made = shm::WriteWatch::make(loop_, peer.fd.get(), [this, number] { write(number); });
        if (!made) break;
        peer.writable = std::make_unique<shm::WriteWatch>(std::move(*made));
      }
      return;
    }
    if (sent < 0) break;
    peer.out.erase(0, size_t(sent));
  }
  peers_.erase(number);
}

}  // namespace smbdirect::daemon
