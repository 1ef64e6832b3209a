// SPDX-License-Identifier: MIT
// Streams to smbds over loopback, and smbds' modules: this process, and children that hold a stream and
// listen as the module does. Owned by the test, which ends the children.
#pragma once

#include <array>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include <doctest/doctest.h>

#include "daemon/os/unix_socket.h"
#include "shm/base/socket_address.h"
#include "shm/base/unique_fd.h"
#include "tests/unit/unix_sockets.h"

namespace smbdirect::daemon::test {

struct ModuleDirectory {
  std::string path = (std::filesystem::temp_directory_path() / "smbdirectd-modules-XXXXXX").string();
  ModuleDirectory() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~ModuleDirectory() { std::filesystem::remove_all(path); }
  ModuleDirectory(const ModuleDirectory&) = delete;
  ModuleDirectory& operator=(const ModuleDirectory&) = delete;
};

/// Both ends of an established stream. host: numeric; "::ffff:127.0.0.1" is the IPv4 client of a socket for
/// IPv6, as smbd's is.
struct Stream {
  shm::UniqueFd worker, smbd;
  explicit Stream(const char* client = "127.0.0.1", const char* server = "127.0.0.1") {
    const bool mapped = std::string_view(server).starts_with("::ffff:");
    sockaddr_storage at = *shm::address_from_text(mapped ? "::" : server, 0);
    const shm::UniqueFd listener(socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int off = 0;
    if (at.ss_family == AF_INET6)
      REQUIRE(setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
    REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&at), shm::length_of(at)) == 0);
    REQUIRE(listen(listener.get(), 1) == 0);
    socklen_t length = sizeof at;
    REQUIRE(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &length) == 0);
    const auto to = *shm::address_from_text(client, shm::port_of(at));
    worker = shm::UniqueFd(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(connect(worker.get(), reinterpret_cast<const sockaddr*>(&to), shm::length_of(to)) == 0);
    smbd = shm::UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(smbd.valid());
  }
  [[nodiscard]] shm::UniqueFd copy() const { return shm::UniqueFd(fcntl(worker.get(), F_DUPFD_CLOEXEC, 0)); }
};

/// Listens there as the module does. Invalid: errno says why.
inline shm::UniqueFd listen_as_module(const std::string& path, int backlog = 8) {
  const auto address = unix_address(path);
  shm::UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!address || !bind_private(fd.get(), *address) || listen(fd.get(), backlog) != 0) return {};
  return fd;
}

/// A child that does this, keeps the descriptor, and waits to be killed.
class Child {
 public:
  explicit Child(const std::function<shm::UniqueFd()>& act) {
    auto [told, tell] = smbdirect::test::socket_pair(SOCK_STREAM);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const shm::UniqueFd kept = act();
      (void)!write(tell.get(), "", 1);
      while (true) pause();
    }
    tell.reset();
    char byte = 0;
    REQUIRE(read(told.get(), &byte, 1) == 1);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

/// Says on a link of its listener's who it is.
inline bool is_link_of(const shm::UniqueFd& listener, const shm::UniqueFd& link) {
  const shm::UniqueFd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!accepted.valid() || send(accepted.get(), "hello", 5, MSG_NOSIGNAL) != 5) return false;
  std::array<char, 8> heard{};
  return recv(link.get(), heard.data(), heard.size(), MSG_DONTWAIT) == 5 &&
         std::string_view(heard.data(), 5) == "hello";
}

}  // namespace smbdirect::daemon::test
