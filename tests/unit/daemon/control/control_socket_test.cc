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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/clients/server_registration.h"
#include "daemon/control/event_report.h"
#include "daemon/ctl/commands.h"
#include "protocol/proxy/frames.h"

using namespace smbdirect::daemon;  // NOLINT: a test of one program's parts
namespace protocol = smbdirect::protocol;
namespace shm = smbdirect::shm;
namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

namespace {

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

shm::UniqueFd connected(const std::string& path) {
  shm::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  REQUIRE(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

void say(const shm::UniqueFd& fd, const std::string& text) {
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

shm::UniqueFd written(const std::string& text) {
  shm::UniqueFd fd(memfd_create("report", MFD_CLOEXEC));
  REQUIRE(write(fd.get(), text.data(), text.size()) == ssize_t(text.size()));
  return fd;
}

}  // namespace

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

TEST_CASE("a worker's report is put beside its own connections, and beside no other's") {
  const auto report_fd = written(
      R"({"connections":[{"number":1,"events":[{"ago_ms":3,"event":"sent","payload":80}]},{"number":2,"events":[]}]})");
  const json report = read_event_report(report_fd.get());
  REQUIRE(report.is_object());
  json connections = json::parse(
      R"([{"number":1,"worker":0},{"number":1,"worker":1},{"number":2,"worker":1},{"number":2,"worker":0}])");
  add_events(connections, 1, report);
  CHECK(connections[1]["events"][0]["payload"] == 80);
  CHECK(connections[2]["events"] == json::array());
  CHECK_FALSE(connections[0].contains("events"));
  CHECK_FALSE(connections[3].contains("events"));
}

TEST_CASE("what is no report is none, however deep or long it is") {
  const std::string deep = R"({"connections":[{"number":1,"events":)" + std::string(1'000'000, '[') +
                           std::string(1'000'000, ']') + "}]}";
  for (const std::string& text : {std::string(), std::string("{\"connections\":["), deep,
                                  std::string(R"({"connections":[{"number":1,"events":[{"a":{}}]}]})"),
                                  std::string(kMaxReportBytes + 1, ' ')}) {
    INFO(text.size());
    const auto report_fd = written(text);
    CHECK(read_event_report(report_fd.get()).is_discarded());
  }
  json connections = json::parse(R"([{"number":1,"worker":0}])");
  for (const char* odd : {"7", "{}", R"({"connections":7})", R"({"connections":[7,{"number":1}]})"}) {
    add_events(connections, 0, json::parse(odd));
    CHECK_FALSE(connections[0].contains("events"));
  }
}
