// SPDX-License-Identifier: MIT
// What two supervisors say to each other: each note arrives as it was sent, and what is no note is refused.
#include "daemon/takeover/notes.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

struct Line {
  Line() {
    std::array<int, 2> ends{};
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
    here = shm::UniqueFd(ends[0]);
    there = shm::UniqueFd(ends[1]);
  }
  shm::UniqueFd here, there;
};

shm::UniqueFd some_file() {
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  close(ends[1]);
  return shm::UniqueFd(ends[0]);
}

ino_t inode_of(const shm::UniqueFd& fd) {
  struct stat facts{};
  REQUIRE(fstat(fd.get(), &facts) == 0);
  return facts.st_ino;
}

template <class One>
One over(const Note& said) {
  Line line;
  REQUIRE(send_note(line.here.get(), said));
  auto received = receive_note(line.there.get());
  REQUIRE(received);
  CHECK(note_name(*received) == note_name(said));
  REQUIRE(std::holds_alternative<One>(*received));
  return std::get<One>(std::move(*received));
}

const ListenerConfig kIwarp{"2001:db8::1", 5445, Fabric::iwarp};
const ListenerConfig kVerbs{"192.0.2.1", 445, Fabric::verbs};

}  // namespace

TEST_CASE("notes arrive as they were sent") {
  const auto hello = over<note::Hello>(note::Hello{7, "1.2~rc\"\\"});
  CHECK(hello.version == 7);
  CHECK(hello.release == "1.2~rc\"\\");
  CHECK(over<note::Go>(note::Go{{{kIwarp, 1}, {kVerbs, 0xffffffff}}}).ids ==
        std::vector<RdmaListenerId>{{kIwarp, 1}, {kVerbs, 0xffffffff}});
  CHECK(over<note::Go>(note::Go{{}, {"192.0.2.1", "2001:db8::1"}}).leaving ==
        std::vector<std::string>{"192.0.2.1", "2001:db8::1"});
  const auto leave = over<note::Leave>(note::Leave{7, "192.0.2.1"});
  CHECK(leave.number == 7);
  CHECK(leave.address == "192.0.2.1");
  const auto left = over<note::Left>(note::Left{7, 3, 2, true});
  CHECK(left.number == 7);
  CHECK(left.ended == 3);
  CHECK(left.still_there == 2);
  CHECK(left.unheard);
  const auto failed = over<note::Failed>(note::Failed{"why\xff\n", {"/workers: one", "two"}});
  CHECK(failed.why.starts_with("why"));
  CHECK(failed.problems == std::vector<std::string>{"/workers: one", "two"});
  (void)over<note::Begin>(note::Begin{});
  (void)over<note::Serving>(note::Serving{});
  (void)over<note::Stop>(note::Stop{});
}

TEST_CASE("an earlier release says less, and hears less") {
  const auto go = parse_note(R"({"note": "go", "ids": []})", {});
  REQUIRE(go);
  CHECK(std::get<note::Go>(*go).leaving.empty());
  const auto done = parse_note(R"({"note": "done", "next_request": 1})", {});
  REQUIRE(done);
  CHECK_FALSE(std::get<note::Done>(*done).hears_leave);
  CHECK(over<note::Done>(note::Done{}).hears_leave);
}

TEST_CASE("descriptors arrive with the notes that have one") {
  auto file = some_file();
  const ino_t inode = inode_of(file);
  const auto copy = [&] { return shm::duplicate_of(file.get()); };
  const auto listener = over<note::Listener>(note::Listener{kIwarp, 40'000, copy()});
  CHECK(listener.listener == kIwarp);
  CHECK(listener.port == 40'000);
  CHECK(inode_of(listener.socket) == inode);
  CHECK(inode_of(over<note::RdmaFile>(note::RdmaFile{copy()}).file) == inode);
  const auto control = over<note::Control>(note::Control{"/run/x/control", copy()});
  CHECK(control.path == "/run/x/control");
  CHECK(inode_of(control.socket) == inode);
  const auto pid_file = over<note::PidFile>(note::PidFile{"/run/x.pid", copy()});
  CHECK(pid_file.path == "/run/x.pid");
  CHECK(inode_of(pid_file.file) == inode);
  CHECK(inode_of(over<note::Ready>(note::Ready{copy()}).file) == inode);
  const auto done = over<note::Done>(note::Done{1ull << 63, copy()});
  CHECK(done.next_request == 1ull << 63);
  CHECK(inode_of(done.registration) == inode);
  // And without: of verbs, of a pool without verbs, of one without a server.
  CHECK_FALSE(over<note::Listener>(note::Listener{kVerbs, 445, {}}).socket.valid());
  CHECK_FALSE(over<note::Ready>(note::Ready{}).file.valid());
  CHECK_FALSE(over<note::Done>(note::Done{}).registration.valid());
}

TEST_CASE("a failure with more to say than a datagram holds is told in short") {
  const std::vector<std::string> many(1000, std::string(5000, 'x'));
  const auto failed = over<note::Failed>(note::Failed{std::string(100'000, 'y'), many});
  CHECK(failed.why.size() > 100);
  CHECK(failed.problems.size() > 10);
}

TEST_CASE("nothing there, an end, and a datagram that is too long are told apart") {
  Line line;
  CHECK(receive_note(line.there.get()).error().system_errno == EAGAIN);
  const std::string longest(kMaxNoteBytes + 1, ' ');
  REQUIRE(send(line.here.get(), longest.data(), longest.size(), 0) == ssize_t(longest.size()));
  CHECK(receive_note(line.there.get()).error().system_errno == EPROTO);
  line.here.reset();
  CHECK(receive_note(line.there.get()).error().system_errno == ECONNRESET);
  CHECK_FALSE(send_note(line.there.get(), note::Stop{}));
}

TEST_CASE("what is no note is refused, and says why") {
  for (
      const char* text :
      {"", "{", "[]", "{}", R"({"note": 1})", R"({"note": "bye"})", R"({"note": "hello"})",
       R"({"note": "hello", "version": "1", "release": "1"})", R"({"note": "go"})",
       R"({"note": "go", "ids": [{"id": 1}]})", R"({"note": "go", "ids": [1]})",
       R"({"note": "listener", "bound_port": 1, "listener": {"address": "::1", "port": 1, "fabric": "tcp"}})",
       R"({"note": "failed", "why": "x", "problems": [1]})", R"({"note": "control"})",
       "{\"note\": \"\xff\"}"}) {
    CAPTURE(text);
    const auto parsed = parse_note(text, {});
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().what.size() > 10);
  }
}

TEST_CASE("changed bytes of a note are a note or refused, and never anything else") {
  std::mt19937 random(20261129);
  const std::string text = note_text(note::Go{{{kVerbs, 5}}});
  for (int i = 0; i < 3000; ++i) {
    std::string changed = text;
    for (int n = 1 + int(random() % 4); n > 0; --n) changed[random() % changed.size()] = char(random());
    changed.resize(changed.size() - random() % 3);
    if (const auto parsed = parse_note(changed, {}); parsed) {
      CHECK(parse_note(note_text(*parsed), {}).has_value());
    } else {
      CHECK_FALSE(parsed.error().what.empty());
    }
  }
}
