// SPDX-License-Identifier: MIT
// The stream to a server, with an exchange that does what it is told: what is read and written when,
// what its owner is told, and how it is closed.
#include "workers/session/server_stream.h"

#include <array>
#include <cerrno>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tcp_pair.h"
#include "tests/unit/unix_sockets.h"
#include "tests/unit/workers/fake_clock.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using session_test::tcp_pair;
using smbdirect::shm::UniqueFd;

namespace {

constexpr uint64_t kPatienceMs = 1'000;

struct ScriptedExchange final : Exchange {
  void on_fragment(const Fragment&) override {}
  void on_read_done(uint64_t) override {}
  void on_writes_done(uint64_t) override {}
  void resume() override { ++resumed; }
  [[nodiscard]] bool stalled() const override { return true; }
  [[nodiscard]] Outbox& outbox() override { return out; }
  [[nodiscard]] bool unfinished() const override { return false; }
  [[nodiscard]] smbdirect::shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest) override {
    return nullptr;
  }
  [[nodiscard]] const Names& names() const override {
    static constexpr Names kNames{.server = "it", .stream = "line", .unreachable = "; is it there?"};
    return kNames;
  }
  /// Takes all that has come.
  State pump(int fd) override {
    ++pumped;
    std::array<char, 4096> some;
    for (;;) {
      const ssize_t n = ::recv(fd, some.data(), some.size(), MSG_DONTWAIT);
      if (n <= 0) return n == 0 ? State::end : std::exchange(next, State::drained);
      got.append(some.data(), size_t(n));
    }
  }
  void trim() override {}

  Outbox out;
  std::string got;
  State next = State::drained;  // what the next pump() says, once
  int pumped = 0;
  int resumed = 0;
};

struct Loop : uv_loop_t {
  Loop() { uv_loop_init(this); }
  ~Loop() {
    uv_run(this, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(this) == 0);
  }
};

struct Rig final : ServerStream::Owner {
  /// By default over a socket that brings at once what is said.
  void connect(std::pair<UniqueFd, UniqueFd> ends = smbdirect::test::socket_pair()) {
    stream.open(std::make_unique<Attempt>(done));
    server = std::move(ends.second);
    done(std::move(ends.first));
  }
  void turn() {
    for (int i = 0; i < 3; ++i) uv_run(&loop, UV_RUN_NOWAIT);
  }
  void until(const auto& condition) {
    for (int i = 0; i < 100'000 && !condition(); ++i) uv_run(&loop, UV_RUN_NOWAIT);
    REQUIRE(condition());
  }
  void pass(uint64_t ms) {
    clock.advance(ms);
    turn();
  }
  void say(const std::string& text) const {
    REQUIRE(::send(server.get(), text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size()));
  }
  /// More than the server's socket takes.
  void push_much() { exchange.out.push({}, much); }
  /// The server takes what there is for it.
  size_t take() const {
    std::array<char, 65536> some;
    size_t taken = 0;
    for (ssize_t n; (n = ::recv(server.get(), some.data(), some.size(), MSG_DONTWAIT)) > 0;)
      taken += size_t(n);
    return taken;
  }

  void on_stream_up(uint32_t process) override { told.push_back("up " + std::to_string(process)); }
  void on_stream_moved() override { ++moved; }
  void on_stream_end() override { told.emplace_back("end"); }
  void on_broken(std::string why) override {
    told.push_back(std::move(why));
    stream.close(false);
  }

  struct Attempt final : Upstream {
    explicit Attempt(Done& done) : done_(done) {}
    ~Attempt() override { done_ = {}; }
    void start(Done done) override { done_ = std::move(done); }
    [[nodiscard]] uint32_t process() const override { return 42; }
    Done& done_;
  };

  fake::FakeClock clock;
  Loop loop;
  ScriptedExchange exchange;
  Upstream::Done done;
  UniqueFd server;
  std::vector<std::string> told;
  int moved = 0;
  std::vector<std::byte> much = std::vector<std::byte>(64u << 20);
  ServerStream stream{loop, exchange, kPatienceMs, *this};
};

using Told = std::vector<std::string>;

}  // namespace

TEST_CASE("a stream is up once it is connected, and names its ends") {
  Rig rig;
  CHECK_FALSE(rig.stream.connecting());
  rig.connect(tcp_pair());
  CHECK(rig.told == Told{"up 42"});
  CHECK(rig.stream.up());
  CHECK_FALSE(rig.stream.connecting());
  sockaddr_in theirs{};
  socklen_t length = sizeof theirs;
  REQUIRE(::getpeername(rig.server.get(), reinterpret_cast<sockaddr*>(&theirs), &length) == 0);
  CHECK(rig.stream.local_port() == ntohs(theirs.sin_port));
  CHECK(rig.stream.remote_port() != 0);
}

TEST_CASE(
    "what cannot be connected is told with what to look at, and an attempt that is given up tells nothing") {
  Rig rig;
  rig.stream.open(std::make_unique<Rig::Attempt>(rig.done));
  CHECK(rig.stream.connecting());
  SUBCASE("no way") {
    rig.done(smbdirect::shm::fail("no route"));
    CHECK(rig.told == Told{"no route; is it there?"});
  }
  SUBCASE("given up") { rig.stream.close(false); }
  CHECK_FALSE(rig.stream.connecting());
  CHECK_FALSE(rig.done);
}

TEST_CASE("a stream that had no memory is not read until there is some, and then without an event") {
  Rig rig;
  rig.connect();
  rig.exchange.next = Exchange::State::no_memory;
  rig.say("one");
  rig.until([&] { return rig.stream.paused(); });
  rig.say("two");
  rig.turn();
  CHECK(rig.exchange.pumped == 1);
  rig.exchange.next = Exchange::State::again;
  rig.stream.resume_reading();
  CHECK_FALSE(rig.stream.paused());
  CHECK(rig.exchange.pumped == 2);
  const int moved = rig.moved;
  rig.until([&] { return rig.exchange.got == "onetwo"; });
  // What is in hand is gone on with though nothing comes.
  rig.until([&] { return rig.exchange.pumped >= 3; });
  CHECK(rig.moved > moved);
}

TEST_CASE("a closed stream goes on with nothing, be it in hand") {
  Rig rig;
  rig.connect();
  rig.exchange.next = Exchange::State::again;
  rig.say("one");
  rig.until([&] { return rig.exchange.pumped == 1; });
  rig.stream.close(true);
  const int moved = rig.moved;
  rig.turn();
  CHECK(rig.exchange.pumped == 1);
  CHECK(rig.moved == moved);
  rig.exchange.out.push_copy(std::as_bytes(std::span("x", 1)));
  rig.stream.flush();
  CHECK_FALSE(rig.exchange.out.empty());
}

TEST_CASE("what the server does not take waits, and goes as it takes it; whoever stalled goes on") {
  Rig rig;
  rig.connect();
  rig.push_much();
  rig.stream.flush();
  CHECK(rig.stream.stuck_since() != UINT64_MAX);
  CHECK_FALSE(rig.exchange.out.empty());
  CHECK(rig.exchange.resumed == 0);
  size_t taken = 0;
  rig.until([&] { return (taken += rig.take()) == rig.much.size(); });
  CHECK(rig.exchange.out.empty());
  rig.turn();
  CHECK(rig.stream.stuck_since() == UINT64_MAX);
  CHECK(rig.exchange.resumed > 0);
}

TEST_CASE("a server that takes nothing for too long is given up; whatever it takes begins its time anew") {
  Rig rig;
  rig.connect();
  rig.push_much();
  rig.stream.flush();
  rig.pass(kPatienceMs - 1);
  CHECK(rig.told == Told{"up 42"});
  const uint64_t before = rig.stream.stuck_since();
  CHECK(rig.take() > 0);
  rig.turn();
  CHECK(rig.stream.stuck_since() == before + kPatienceMs - 1);
  rig.pass(kPatienceMs - 1);
  CHECK(rig.told == Told{"up 42"});
  rig.pass(kPatienceMs);
  REQUIRE(rig.told.size() == 2);
  CHECK(rig.told.back().starts_with("it has read nothing from its line for "));
  CHECK_FALSE(rig.stream.up());
}

TEST_CASE("a server that took all has no time to keep") {
  Rig rig;
  rig.connect();
  rig.push_much();
  rig.stream.flush();
  rig.until(
      [&] { return rig.take() == 0 && rig.exchange.out.empty() && rig.stream.stuck_since() == UINT64_MAX; });
  rig.pass(kPatienceMs);
  rig.pass(kPatienceMs);
  CHECK(rig.told == Told{"up 42"});
}

TEST_CASE("the server's end is told once, after all that it has said") {
  Rig rig;
  rig.connect();
  rig.say("bye");
  rig.server.reset();
  rig.until([&] { return rig.stream.ended(); });
  CHECK(rig.exchange.got == "bye");
  const int pumped = rig.exchange.pumped;
  rig.turn();
  rig.stream.resume_reading();
  CHECK(rig.exchange.pumped == pumped);
  CHECK(rig.told == Told{"up 42", "end"});
}

TEST_CASE("what the server said before it went is read before a write's failure is told") {
  Rig rig;
  rig.connect();
  rig.say("why");
  rig.server.reset();
  rig.push_much();
  rig.stream.flush();
  CHECK(rig.exchange.got == "why");
  REQUIRE(rig.told.size() == 3);
  CHECK(rig.told[1] == "end");
  CHECK(rig.told[2].starts_with("it's line: writing to the stream"));
}

TEST_CASE("a stream is reset, unless its end is an orderly one") {
  Rig rig;
  rig.connect(tcp_pair());
  bool orderly = false;
  SUBCASE("orderly") { orderly = true; }
  SUBCASE("not") {}
  rig.stream.close(orderly);
  std::array<char, 1> byte{};
  const ssize_t n = ::recv(rig.server.get(), byte.data(), byte.size(), 0);
  CHECK((n == 0) == orderly);
  if (!orderly) CHECK(errno == ECONNRESET);
}
