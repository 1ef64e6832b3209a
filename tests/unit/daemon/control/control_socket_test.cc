// SPDX-License-Identifier: MIT
#include "daemon/control/control_socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/clients/server_registration.h"
#include "daemon/ctl/commands.h"
#include "protocol/proxy/frames.h"
#include "tests/unit/daemon/control/control_socket_rig.h"

using namespace smbdirect::daemon;  // NOLINT: a test of one program's parts
using namespace smbdirect::daemon::control_test;
namespace protocol = smbdirect::protocol;
namespace shm = smbdirect::shm;
namespace fs = std::filesystem;

TEST_CASE(
    "the socket goes to another daemon: who has connected is answered, by the one that has read the "
    "question") {
  const Directory directory;
  auto former = std::make_unique<Server>(directory.control());
  REQUIRE(former->socket);
  former->wait = true;
  const auto early = connected(directory.control());
  say(early, "one\n");
  former->turn();
  REQUIRE(former->waiting.size() == 1);
  shm::Loop loop;
  auto heir =
      ControlSocket::inherit(loop, directory.control(), (*former->socket)->copy(),
                             [](const std::string& line, Right /*right*/,
                                const ControlSocket::Answer& answer) { answer("the heir heard " + line); });
  REQUIRE(heir);
  const auto turn = [&] {
    for (int i = 0; i < 50; ++i) uv_run(loop.get(), UV_RUN_NOWAIT);
  };
  turn();  // it does not accept yet
  (*former->socket)->let_go();
  const auto late = connected(directory.control());
  say(late, "two\n");
  former->waiting.front()("it was told");
  CHECK(former->told(early) == "it was told\n");
  (*heir)->start();
  turn();
  std::array<char, 64> bytes{};
  CHECK(recv(late.get(), bytes.data(), bytes.size(), 0) == ssize_t(std::strlen("the heir heard two\n")));
  CHECK(std::string_view(bytes.data()) == "the heir heard two\n");
  former.reset();
  CHECK(fs::exists(directory.control()));
  heir->reset();
  turn();
  CHECK_FALSE(fs::exists(directory.control()));
}

TEST_CASE("a socket that was inherited and never served is the former daemon's still") {
  const Directory directory;
  Server former(directory.control());
  REQUIRE(former.socket);
  shm::Loop loop;
  {
    auto heir = ControlSocket::inherit(loop, directory.control(), (*former.socket)->copy(), {});
    REQUIRE(heir);
  }
  for (int i = 0; i < 50; ++i) uv_run(loop.get(), UV_RUN_NOWAIT);
  CHECK(fs::exists(directory.control()));
  const auto client = connected(directory.control());
  say(client, "one\n");
  CHECK(former.told(client) == "you said one\n");
}

TEST_CASE("one line in, one line out, in whatever pieces; the socket is its owner's alone and ends with it") {
  const Directory directory;
  {
    Server server(directory.control());
    REQUIRE(server.socket);
    struct stat status{};
    REQUIRE(stat(directory.control().c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    const auto peer = connected(directory.control());
    say(peer, "one");
    server.turn();
    say(peer, " line\n");
    CHECK(server.told(peer) == "you said one line\n");
  }
  CHECK_FALSE(fs::exists(directory.control()));
}

TEST_CASE("who says too much is told so, who leaves without a question is not asked again") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  const auto longest = connected(directory.control());
  say(longest, std::string(kMaxRequestBytes - 1, 'x') + "\n");
  CHECK(server.told(longest) == "you said " + std::string(kMaxRequestBytes - 1, 'x') + "\n");
  const auto too_long = connected(directory.control());
  say(too_long, std::string(kMaxRequestBytes, 'x') + "\n");
  CHECK(server.told(too_long) == "{\"error\":\"the request is too long\"}\n");
  const auto gone = connected(directory.control());
  say(gone, "half a");
  REQUIRE(shutdown(gone.get(), SHUT_WR) == 0);
  CHECK(server.told(gone) == "");
}

TEST_CASE("who says no more after its question gets its answer all the same, when there is one") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  server.wait = true;
  const auto peer = connected(directory.control());
  say(peer, "later\n");
  REQUIRE(shutdown(peer.get(), SHUT_WR) == 0);
  CHECK_FALSE(server.told(peer));
  REQUIRE(server.waiting.size() == 1);
  server.waiting[0]("now");
  CHECK(server.told(peer) == "now\n");
}

TEST_CASE("who is gone, or says more than its question, is not answered, and that harms nobody") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  server.wait = true;
  auto leaver = connected(directory.control());
  say(leaver, "later\n");
  server.turn();
  leaver.reset();
  const auto talker = connected(directory.control());
  say(talker, "later\n");
  server.turn();
  say(talker, "and more\n");
  CHECK(server.told(talker) == "");
  REQUIRE(server.waiting.size() == 2);
  for (const auto& answer : server.waiting) answer("too late");
  server.turn();
}

TEST_CASE("an answer that does not fit into the socket at once arrives whole") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  server.wait = true;
  const auto peer = connected(directory.control());
  say(peer, "much\n");
  server.turn();
  REQUIRE(server.waiting.size() == 1);
  server.waiting[0](std::string(5'000'000, 'm'));
  const auto told = server.told(peer);
  REQUIRE(told);
  CHECK(told->size() == 5'000'001);
}

TEST_CASE("there is room for so many at a time, and again when they are gone") {
  const Directory directory;
  Server server(directory.control());
  REQUIRE(server.socket);
  std::vector<shm::UniqueFd> peers;
  for (size_t i = 0; i < ControlSocket::kMaxPeers; ++i) {
    peers.push_back(connected(directory.control()));
    server.turn();
  }
  const auto one_more = connected(directory.control());
  CHECK(server.told(one_more) == "");
  say(peers.back(), "we remain\n");
  CHECK(server.told(peers.back()) == "you said we remain\n");
  peers.clear();
  server.turn();
  const auto later = connected(directory.control());
  say(later, "room\n");
  CHECK(server.told(later) == "you said room\n");
}

TEST_CASE("a dead daemon's socket is replaced; a living one's, and what is none, stays") {
  const Directory directory;
  fs::create_directories(fs::path(directory.control()).parent_path());
  {
    const shm::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, directory.control().c_str(), directory.control().size() + 1);
    REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  {
    Server first(directory.control());
    REQUIRE(first.socket);
    const Server second(directory.control());
    REQUIRE_FALSE(second.socket);
    CHECK(second.socket.error().text().contains("another daemon uses it"));
    const auto peer = connected(directory.control());
    say(peer, "still you?\n");
    CHECK(first.told(peer) == "you said still you?\n");
  }
  std::ofstream(directory.control()) << "somebody's\n";
  const Server third(directory.control());
  CHECK_FALSE(third.socket);
  std::string kept;
  std::getline(std::ifstream(directory.control()), kept);
  CHECK(kept == "somebody's");
}

TEST_CASE(
    "the socket of a main process that registers is kept, and is a peer of the control socket no more") {
  const Directory directory;
  std::vector<shm::UniqueFd> kept;
  Server server(directory.control(), [&](shm::UniqueFd socket) { kept.push_back(std::move(socket)); });
  REQUIRE(server.socket);
  const std::string line(protocol::proxy::kRegisterLine);
  for (size_t i = 0; i < ControlSocket::kMaxPeers + 2; ++i) {  // it takes nobody's place
    const auto main = connected(directory.control());
    say(main, line.substr(0, i));
    server.turn();
    CHECK(kept.empty());
    say(main, line.substr(i));
    CHECK_FALSE(server.told(main));
    REQUIRE(kept.size() == 1);
    say(main, "frames");
    server.turn();
    char bytes[16];
    CHECK(recv(kept[0].get(), bytes, sizeof bytes, MSG_DONTWAIT) == 6);
    say(kept[0], "more frames");
    CHECK(recv(main.get(), bytes, sizeof bytes, MSG_DONTWAIT) == 11);
    kept.clear();
    CHECK(server.told(main) == "");
  }
}

TEST_CASE("a socket that is kept may be watched at once") {
  const Directory directory;
  std::unique_ptr<ServerRegistration> main;
  bool gone = false;
  std::optional<Server> server;
  server.emplace(directory.control(), [&](shm::UniqueFd socket) {
    main = std::move(
        ServerRegistration::adopt(
            server->loop, std::move(socket), [](uint64_t, int) {}, [&](const std::string&) { gone = true; })
            .value());
  });
  REQUIRE(server->socket);
  auto peer = connected(directory.control());
  say(peer, std::string(protocol::proxy::kRegisterLine));
  server->turn();
  REQUIRE(main);
  std::array<std::byte, protocol::proxy::kFrameHeaderBytes> header{};
  REQUIRE(recv(peer.get(), header.data(), header.size(), 0) == ssize_t(header.size()));
  const auto heard = protocol::proxy::parse_frame_header(header, protocol::proxy::Sender::daemon);
  REQUIRE(heard);
  CHECK(heard->type == protocol::proxy::FrameType::registered);
  peer.reset();
  server->turn();
  CHECK(gone);
  main.reset();
}

TEST_CASE(
    "other lines are asked where main processes may register, and the register line where they may not") {
  const Directory directory, other;
  std::string line(protocol::proxy::kRegisterLine);
  size_t kept = 0;
  Server native(directory.control(), [&](const shm::UniqueFd&) { ++kept; });
  Server plain(other.control());
  REQUIRE(native.socket);
  REQUIRE(plain.socket);
  const auto main = connected(other.control());
  say(main, line);
  CHECK(plain.told(main) == "you said " + line);
  line.pop_back();
  for (const std::string& text : {line + " ", " " + line, line.substr(0, line.size() - 1), std::string()}) {
    const auto peer = connected(directory.control());
    say(peer, text + "\n");
    CHECK(native.told(peer) == "you said " + text + "\n");
  }
  CHECK(kept == 0);
}
