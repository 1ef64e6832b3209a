// SPDX-License-Identifier: MIT
#include <algorithm>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/control/rights.h"
#include "protocol/proxy/frames.h"
#include "tests/unit/daemon/control/control_socket_rig.h"

using namespace smbdirect::daemon;  // NOLINT: a test of one program's parts
using namespace smbdirect::daemon::control_test;
namespace protocol = smbdirect::protocol;
namespace shm = smbdirect::shm;

TEST_CASE("who may do what: by the user, and by any of the groups") {
  constexpr uid_t kOwn = 500;
  constexpr gid_t kReaders = 70;
  CHECK(right_of({.user = 0, .groups = {0}}, kOwn, std::nullopt) == Right::everything);
  CHECK(right_of({.user = kOwn, .groups = {7}}, kOwn, kReaders) == Right::everything);
  CHECK(right_of({.user = 1000, .groups = {kReaders}}, kOwn, kReaders) == Right::questions);
  CHECK(right_of({.user = 1000, .groups = {1000, 24, kReaders, 1}}, kOwn, kReaders) == Right::questions);
  CHECK(right_of({.user = 1000, .groups = {1000, 24}}, kOwn, kReaders) == Right::none);
  CHECK(right_of({.user = 1000, .groups = {}}, kOwn, kReaders) == Right::none);
  CHECK(right_of({.user = 1000, .groups = {0}}, kOwn, std::nullopt) == Right::none);
}

TEST_CASE("the kernel says who is at the other end, with all groups") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const shm::UniqueFd one(ends[0]), other(ends[1]);
  const auto identity = peer_identity(one.get());
  REQUIRE(identity);
  CHECK(identity->user == geteuid());
  std::vector<gid_t> mine(size_t(getgroups(0, nullptr)));
  REQUIRE(getgroups(int(mine.size()), mine.data()) == int(mine.size()));
  mine.push_back(getegid());
  for (const gid_t group : mine) CHECK(std::ranges::find(identity->groups, group) != identity->groups.end());
  for (const gid_t group : identity->groups) CHECK(std::ranges::find(mine, group) != mine.end());
  CHECK_FALSE(peer_identity(-1));
}

TEST_CASE("members of the group ask, and others do not, whatever the file's mode says") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  const gid_t group = getegid();
  const auto told_to = [&](const PeerIdentity& who) {
    server.pretended = who;
    const auto peer = connected(directory.control());
    server.turn();
    // Who is refused is told so at once, and the socket is closed.
    [[maybe_unused]] const ssize_t sent = send(peer.get(), "what\n", 5, MSG_NOSIGNAL);
    return server.told(peer).value_or("nothing yet");
  };
  const PeerIdentity member{.user = 54321, .groups = {54321, group}};
  CHECK(told_to(member).contains("only root and the daemon's own user may use this socket"));
  REQUIRE((*server.socket)->let_ask(group));
  struct stat status{};
  REQUIRE(stat(directory.control().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0660);
  CHECK(status.st_gid == group);
  CHECK(told_to(member) == "you said what\n");
  CHECK(told_to({.user = 54321, .groups = {54321}}).contains("/control/group"));
  CHECK(told_to({.user = 0, .groups = {0}}) == "you said what\n");
  CHECK(server.rights == std::vector{Right::questions, Right::everything});
  REQUIRE((*server.socket)->let_ask(std::nullopt));
  REQUIRE(stat(directory.control().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  CHECK(told_to(member).contains("only root"));
}

TEST_CASE("those who may only ask leave room for root, and register no server") {
  const Directory directory;
  std::vector<shm::UniqueFd> kept;
  Server server(directory.control(), [&](shm::UniqueFd socket) { kept.push_back(std::move(socket)); });
  REQUIRE(server.socket);
  REQUIRE((*server.socket)->let_ask(getegid()));
  server.pretended = {.user = 54321, .groups = {getegid()}};
  const auto impostor = connected(directory.control());
  say(impostor, std::string(protocol::proxy::kRegisterLine));
  CHECK(server.told(impostor) == "you said " + std::string(protocol::proxy::kRegisterLine));
  CHECK(kept.empty());
  std::vector<shm::UniqueFd> idle;
  for (size_t i = 0; i < ControlSocket::kMaxReaders; ++i) {
    idle.push_back(connected(directory.control()));
    server.turn();
  }
  const auto one_more = connected(directory.control());
  const auto refused = server.told(one_more);
  REQUIRE(refused);
  CHECK(refused->contains("ask again in a moment"));
  server.pretended = {.user = 0, .groups = {0}};
  const auto root = connected(directory.control());
  server.turn();
  say(root, "I\n");
  CHECK(server.told(root) == "you said I\n");
  say(idle.back(), "we\n");
  CHECK(server.told(idle.back()) == "you said we\n");
}
