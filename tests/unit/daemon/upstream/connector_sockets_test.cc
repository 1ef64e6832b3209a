// SPDX-License-Identifier: MIT
// What the ways to smbd have that need no privilege, over loopback.
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sys/socket.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "daemon/upstream/handoff/tcp_pair.h"
#include "daemon/upstream/transparent/socket_lookup.h"
#include "daemon/upstream/transparent/user_count_lock.h"
#include "shm/base/socket_address.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

sockaddr_storage address(const char* host, uint16_t port) { return *shm::address_from_text(host, port); }

sockaddr_storage name_of(int fd, decltype(getsockname) ask) {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  REQUIRE(ask(fd, reinterpret_cast<sockaddr*>(&name), &length) == 0);
  return name;
}

/// A port that is free now.
uint16_t some_port() {
  const shm::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_storage any = address("127.0.0.1", 0);
  REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), shm::length_of(any)) == 0);
  return shm::port_of(name_of(fd.get(), getsockname));
}

struct Directory {
  std::string path;
  Directory() {
    std::string name = "/tmp/use-lock-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a TCP pair has the addresses asked for, and carries bytes") {
  const auto server = address("127.0.0.9", some_port());
  const auto client = address("127.0.0.7", some_port());
  const auto pair = make_tcp_pair(client, server);
  REQUIRE(pair);
  CHECK(shm::address_text(name_of(pair->client.get(), getsockname)) == shm::address_text(client));
  CHECK(shm::address_text(name_of(pair->client.get(), getpeername)) == shm::address_text(server));
  CHECK(shm::address_text(name_of(pair->server.get(), getpeername)) == shm::address_text(client));
  REQUIRE(send(pair->server.get(), "x", 1, 0) == 1);
  char byte = 0;
  ssize_t got = -1;
  do {
    got = recv(pair->client.get(), &byte, 1, 0);  // nonblocking
  } while (got < 0 && errno == EAGAIN);
  CHECK(byte == 'x');

  // The same two addresses once more: another port of the client's.
  const auto second = make_tcp_pair(client, server);
  REQUIRE(second);
  CHECK(shm::port_of(name_of(second->server.get(), getpeername)) != shm::port_of(client));
}

TEST_CASE("the kernel says whom a packet would reach") {
  auto lookup = SocketLookup::open();
  REQUIRE(lookup);
  const auto server = address("127.0.0.9", some_port());
  const auto client = address("127.0.0.7", some_port());
  CHECK(lookup->look(client, server) == SocketLookup::Reached::nobody);
  {
    const auto pair = make_tcp_pair(client, server);
    REQUIRE(pair);
    CHECK(lookup->look(client, server) == SocketLookup::Reached::connection);
    CHECK(lookup->look(address("127.0.0.8", 1), server) == SocketLookup::Reached::nobody);
  }
  const shm::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto any = address("127.0.0.1", 0);
  REQUIRE(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), shm::length_of(any)) == 0);
  REQUIRE(listen(listener.get(), 1) == 0);
  CHECK(lookup->look(client, name_of(listener.get(), getsockname)) == SocketLookup::Reached::listener);
}

TEST_CASE("users of something in common are counted, and one at a time changes it") {
  const Directory directory;
  auto first = UserCountLock::open(directory.path + "/made", "lock");
  auto second = UserCountLock::open(directory.path + "/made", "lock");
  REQUIRE(first);
  REQUIRE(second);
  REQUIRE(first->lock());
  REQUIRE(first->join());
  CHECK(first->alone());
  CHECK_FALSE(second->alone());
  first->unlock();
  REQUIRE(second->lock());
  REQUIRE(second->join());
  CHECK_FALSE(first->alone());
  second = UserCountLock::open(directory.path + "/made", "lock");  // the former one's locks go with it
  CHECK(first->alone());
  CHECK(first->lock());
}

TEST_CASE("a lock file that cannot be is told with its path") {
  const auto lock = UserCountLock::open("/proc/nothing", "lock");
  REQUIRE_FALSE(lock);
  CHECK(lock.error().text().contains("/proc/nothing"));
}
