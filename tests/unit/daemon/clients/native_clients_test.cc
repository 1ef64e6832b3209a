// SPDX-License-Identifier: MIT
// Clients of native peers (daemon/clients/client_registry.h): what their claims are answered, and whose they
// are.
#include <csignal>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "peer_support.h"
#include "registry_pool.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon::test;  // NOLINT: of this test's helpers
using smbdirect::daemon::ClaimOutcome;
namespace shm = smbdirect::shm;

namespace {

/// A pool with native peers: answers to claims are written down, "2 owner" for connection 2, and taken.
struct NativePool : Pool {
  std::vector<std::string> answers;

  NativePool() {
    clients->answer_with([this](size_t slot, shm::ConnectionId connection, ClaimOutcome outcome) {
      CHECK(table.addresses(connection, slot) != nullptr);
      static constexpr std::array<const char*, 3> kNames{" granted", " wait", " owner"};
      answers.push_back(shm::connection_text(connection) + kNames.at(size_t(outcome)));
    });
  }
  void claim(uint64_t number, size_t slot, const shm::Guid& who) {
    connect(number, slot, "192.0.2.7");
    clients->claimed(workers[slot], shm::ConnectionId{number}, who);
  }
  std::vector<std::string> said() { return std::exchange(answers, {}); }
  [[nodiscard]] uint32_t owner(const shm::Guid& who) const {
    const auto entry = clients->find(who);
    return entry ? entry->peer.pid : 0;
  }
};
using Answers = std::vector<std::string>;

/// A process that serves clients, until it is ended.
class Process {
 public:
  Process() : pid_(fork()) {
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      for (;;) pause();
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    end();
    reap();
  }
  [[nodiscard]] uint32_t pid() const { return uint32_t(pid_); }
  /// It stays a zombie until it is reaped.
  void end() {
    if (ended_) return;
    kill(pid_, SIGKILL);
    siginfo_t seen{};
    REQUIRE(waitid(P_PID, id_t(pid_), &seen, WEXITED | WNOWAIT) == 0);
    ended_ = true;
  }
  void reap() {
    if (!reaped_) waitpid(pid_, nullptr, 0);
    reaped_ = true;
  }

 private:
  pid_t pid_;
  bool ended_ = false;
  bool reaped_ = false;
};

const uint32_t kSelf = uint32_t(getpid());

}  // namespace

TEST_CASE(
    "the first connection of a client is granted its claim, others wait for its process, later ones have "
    "it") {
  NativePool pool;
  pool.claim(1, 0, guid(1));
  pool.claim(2, 1, guid(1));
  pool.claim(3, 0, guid(1));
  pool.claim(4, 0, guid(2));  // another client
  CHECK(pool.said() == Answers{"1 granted", "2 wait", "3 wait", "4 granted"});
  pool.clients->channel_up(pool.workers[0], 1_c, kSelf);
  CHECK(pool.said() == Answers{"2 owner", "3 owner"});
  CHECK(pool.owner(guid(1)) == kSelf);
  pool.claim(5, 1, guid(1));
  CHECK(pool.said() == Answers{"5 owner"});
  pool.clients->channel_up(pool.workers[1], 5_c, kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 2);
  CHECK(pool.clients->guid_of(pool.workers[1], 5_c) == guid(1));
  CHECK_FALSE(pool.clients->guid_of(pool.workers[0], 5_c));
  CHECK(pool.said().empty());
}

TEST_CASE("a claim that came to nothing goes to one of those who wait, and the others wait on, untold") {
  NativePool pool;
  pool.claim(1, 0, guid(1));
  pool.claim(2, 1, guid(1));
  pool.claim(3, 1, guid(1));
  (void)pool.said();
  pool.close(1, 0);
  CHECK(pool.said() == Answers{"2 granted"});
  pool.clients->channel_down(pool.workers[1], 2_c);  // its claim has ended; the connection has not yet
  CHECK(pool.said() == Answers{"3 granted"});
  pool.table.remove(2_c, 1);
  pool.clients->channel_up(pool.workers[1], 3_c, kSelf);
  CHECK(pool.said().empty());
  CHECK(pool.owner(guid(1)) == kSelf);
  pool.close(3, 1);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("one who waits and leaves is not answered any more") {
  NativePool pool;
  pool.claim(1, 0, guid(1));
  pool.claim(2, 1, guid(1));
  (void)pool.said();
  pool.close(2, 1);
  pool.close(1, 0);
  CHECK(pool.said().empty());
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a claim dies with its worker, and goes to those who wait at others") {
  NativePool pool;
  pool.claim(1, 0, guid(1));
  pool.claim(2, 0, guid(1));
  pool.claim(3, 1, guid(1));
  (void)pool.said();
  SUBCASE("the supervisor has seen it end") { pool.clients->worker_gone(pool.workers[0]); }
  SUBCASE("its successor is there already") {
    pool.clients->worker_gone(pool.workers[0]);
    pool.clients->worker_ready({0, 5});
  }
  CHECK(pool.said() == Answers{"3 granted"});
}

TEST_CASE("a process that ends takes its clients along, also those it serves through several workers") {
  NativePool pool;
  Process process;
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, process.pid());
  pool.claim(2, 1, guid(1));
  pool.clients->channel_up(pool.workers[1], 2_c, process.pid());
  pool.claim(3, 1, guid(2));
  pool.clients->channel_up(pool.workers[1], 3_c, process.pid());
  pool.claim(4, 0, guid(3));
  pool.clients->channel_up(pool.workers[0], 4_c, kSelf);
  pool.claim(5, 0, guid(1));
  CHECK(pool.said() == Answers{"1 granted", "2 owner", "3 granted", "4 granted", "5 owner"});
  process.end();
  until(pool.loop, [&] { return pool.clients->list().size() == 1; });
  CHECK(pool.owner(guid(3)) == kSelf);
  CHECK(pool.said().empty());
  // One that was sent to it, and found it gone.
  pool.clients->ask_again(pool.workers[0], 5_c);
  pool.clients->ask_again(pool.workers[0], 4_c);   // has its channel
  pool.clients->ask_again(pool.workers[0], 99_c);  // is none
  CHECK(pool.said() == Answers{"5 granted"});
  // Its channels end later: they were counted out already.
  pool.close(1, 0);
  pool.close(2, 1);
  pool.clients->channel_up(pool.workers[0], 5_c, kSelf);
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 1);
}

TEST_CASE("an owner that has died unnoticed makes room for the process that serves its client now") {
  NativePool pool;
  Process first;
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, first.pid());
  pool.claim(2, 1, guid(1));
  first.end();
  SUBCASE("a zombie still") {}
  SUBCASE("gone") { first.reap(); }
  pool.clients->channel_up(pool.workers[1], 2_c, kSelf);
  CHECK(pool.owner(guid(1)) == kSelf);
  pool.close(1, 0);  // a late word
  turn(pool.loop);
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 1);
}

TEST_CASE("of two processes that serve a client the first is known, while it lives") {
  NativePool pool;
  Process first;
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, first.pid());
  pool.claim(2, 1, guid(1));
  pool.clients->channel_up(pool.workers[1], 2_c, kSelf);
  CHECK(pool.owner(guid(1)) == first.pid());
  CHECK(pool.clients->find(guid(1))->channels() == 1);
  pool.close(2, 1);
  CHECK(pool.clients->find(guid(1))->channels() == 1);
}

TEST_CASE("a channel that another process has taken over is that one's") {
  NativePool pool;
  Process first;
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, first.pid());
  pool.clients->channel_up(pool.workers[0], 1_c, kSelf);
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 1);
  pool.clients->channel_up(pool.workers[0], 1_c, kSelf);  // the same again
  pool.clients->channel_up(pool.workers[0], 1_c, 0);      // and nobody's
  CHECK(pool.clients->find(guid(1))->channels() == 1);
  first.end();
  turn(pool.loop);
  CHECK(pool.owner(guid(1)) == kSelf);
  pool.close(1, 0);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a process that takes several channels over, one after the other, has them all") {
  NativePool pool;
  Process first;
  for (uint64_t number = 1; number <= 3; ++number) {
    pool.claim(number, number % 2, guid(1));
    pool.clients->channel_up(pool.workers[number % 2], shm::ConnectionId{number}, first.pid());
  }
  (void)pool.said();
  for (uint64_t number = 1; number <= 3; ++number) {
    CHECK(pool.owner(guid(1)) == first.pid());  // which has some of them still
    pool.clients->channel_up(pool.workers[number % 2], shm::ConnectionId{number}, kSelf);
  }
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 3);
  first.end();
  turn(pool.loop);
  pool.close(3, 1);
  pool.close(2, 0);
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.said().empty());
  pool.close(1, 1);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a process that serves a client beside another is known once that has gone") {
  NativePool pool;
  Process first;
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, first.pid());
  pool.claim(2, 1, guid(1));
  pool.clients->channel_up(pool.workers[1], 2_c, kSelf);
  SUBCASE("its channel has ended") { pool.close(1, 0); }
  SUBCASE("its worker") { pool.clients->worker_gone(pool.workers[0]); }
  SUBCASE("it has ended itself") {
    first.end();
    until(pool.loop, [&] { return pool.owner(guid(1)) != first.pid(); });
  }
  CHECK(pool.owner(guid(1)) == kSelf);
  CHECK(pool.clients->find(guid(1))->channels() == 1);
  pool.close(2, 1);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a process that is gone when its channel is reported serves nobody") {
  NativePool pool;
  pool.claim(1, 0, guid(1));
  pool.claim(2, 1, guid(1));
  (void)pool.said();
  Process process;
  process.end();
  SUBCASE("a zombie still") {}
  SUBCASE("gone") { process.reap(); }
  pool.clients->channel_up(pool.workers[0], 1_c, process.pid());
  CHECK(pool.owner(guid(1)) == 0);
  CHECK(pool.said().empty());
  pool.close(1, 0);  // as its worker sees it end
  CHECK(pool.said() == Answers{"2 granted"});
}

TEST_CASE("who cannot be claimed is granted a process of its own, and waits for nobody") {
  NativePool pool;
  pool.claim(1, 0, shm::Guid{});
  pool.claim(2, 1, shm::Guid{});
  CHECK(pool.said() == Answers{"1 granted", "2 granted"});
  pool.clients->channel_up(pool.workers[0], 1_c, kSelf);
  pool.close(1, 0);
  CHECK(pool.said().empty());
  // No room for another client: the same.
  for (uint8_t n = 0; n < 64; ++n) pool.claim(100 + n, 0, guid(n + 1));
  for (const std::string& answer : pool.said()) CHECK(answer.ends_with(" granted"));
  CHECK(pool.clients->list().size() < 64);
  for (uint8_t n = 0; n < 64; ++n)
    pool.clients->channel_up(pool.workers[0], shm::ConnectionId(100 + n), kSelf);
  for (uint8_t n = 0; n < 64; ++n) pool.close(100 + n, 0);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a worker that names one who is not the server's is not believed, and holds nobody up") {
  NativePool pool;
  const Process server, other;
  pool.clients->object_with(
      [&](pid_t process) { return uint32_t(process) == server.pid() ? nullptr : "it is another's"; });
  pool.claim(1, 0, guid(1));
  pool.claim(2, 1, guid(1));
  CHECK(pool.said() == Answers{"1 granted", "2 wait"});
  pool.clients->channel_up(pool.workers[0], 1_c, other.pid());
  CHECK(pool.owner(guid(1)) == 0);
  CHECK(pool.said() == Answers{"2 granted"});
  pool.clients->channel_up(pool.workers[1], 2_c, server.pid());
  CHECK(pool.owner(guid(1)) == server.pid());
  // What it was told before does not stay with it either.
  pool.clients->channel_up(pool.workers[1], 2_c, other.pid());
  CHECK(pool.owner(guid(1)) == 0);
  pool.claim(3, 0, guid(1));
  CHECK(pool.said() == Answers{"3 granted"});
}

TEST_CASE("a process that was the server's when it came stays so when its main process has gone") {
  NativePool pool;
  const Process server;
  bool registered = true;
  pool.clients->object_with([&](pid_t) { return registered ? nullptr : "no main process"; });
  pool.claim(1, 0, guid(1));
  pool.clients->channel_up(pool.workers[0], 1_c, server.pid());
  registered = false;
  pool.claim(2, 1, guid(1));
  CHECK(pool.said() == Answers{"1 granted", "2 owner"});
  pool.clients->channel_up(pool.workers[1], 2_c, server.pid());
  CHECK(pool.clients->workers_of(guid(1), pool.clients->find(guid(1))->peer) == std::vector<size_t>{0, 1});
}

TEST_CASE("a start that has had its time keeps nobody waiting") {
  NativePool pool;
  const Process server;
  pool.clients->end_starts_after(1);
  pool.claim(1, 0, guid(1));
  const uint64_t began = pool.loop.now();
  until(pool.loop, [&] { return pool.loop.now() > began + 1; });
  pool.claim(2, 1, guid(1));
  CHECK(pool.said() == Answers{"1 granted", "2 granted"});
  pool.clients->channel_up(pool.workers[1], 2_c, server.pid());
  CHECK(pool.owner(guid(1)) == server.pid());
  pool.clients->channel_up(pool.workers[0], 1_c, server.pid());  // late, and by the same process: both serve
  CHECK(pool.clients->workers_of(guid(1), pool.clients->find(guid(1))->peer).size() == 2);
}
