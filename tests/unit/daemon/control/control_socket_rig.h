// SPDX-License-Identifier: MIT
// A control socket in a directory of its own, what answers at it, and who asks. One test, one thread.
#pragma once

#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/control/control_socket.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon::control_test {

namespace fs = std::filesystem;

class Directory {
 public:
  Directory() : path_((fs::temp_directory_path() / "smbdirectd-control-XXXXXX").string()) {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~Directory() { fs::remove_all(path_); }
  [[nodiscard]] std::string control() const { return path_ + "/run/control"; }

 private:
  std::string path_;
};

inline shm::UniqueFd connected(const std::string& path) {
  shm::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  REQUIRE(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

inline void say(const shm::UniqueFd& fd, const std::string& text) {
  REQUIRE(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size()));
}

/// A loop and a socket on it that answers "you said ..."; or, if it is to wait, what was asked is kept.
struct Server {
  shm::Loop loop;
  std::vector<ControlSocket::Answer> waiting;
  bool wait = false;
  std::vector<Right> rights;  // of those that asked
  PeerIdentity pretended{.user = 0, .groups = {0}};
  shm::Result<std::unique_ptr<ControlSocket>> socket;

  explicit Server(const std::string& path, ControlSocket::Keep keep = {})
      : socket(ControlSocket::open(
            loop, path,
            [this](const std::string& line, Right right, ControlSocket::Answer answer) {
              rights.push_back(right);
              if (wait) return waiting.push_back(std::move(answer));
              answer("you said " + line);
            },
            std::move(keep), [this](int) { return pretended; })) {}
  ~Server() {
    if (socket) socket->reset();
    turn();
  }
  void turn() {
    for (int i = 0; i < 50; ++i) uv_run(loop.get(), UV_RUN_NOWAIT);
  }
  /// What the peer has been told, if it has been told something and closed.
  std::optional<std::string> told(const shm::UniqueFd& fd) {
    std::string text;
    char bytes[4096];
    for (;;) {
      turn();
      const ssize_t got = recv(fd.get(), bytes, sizeof bytes, 0);
      if (got < 0) return std::nullopt;
      if (got == 0) return text;
      text.append(bytes, size_t(got));
    }
  }
};

}  // namespace smbdirect::daemon::control_test
