// SPDX-License-Identifier: MIT
// The running daemon: new connections on their way to a worker, and those that find none. With
// fake workers, on loopback.
#include <csignal>
#include <cstddef>
#include <string>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::Client;
using test::eventually;
using test::PoolProcess;

namespace {
/// Restarts at once, every time.
constexpr const char* kNoBackoff = R"(, "restart": {"backoff_increment_s": 0})";
}  // namespace

TEST_CASE("an offer that is not taken goes to another worker") {
  for (const char* mode : {"s0=refuse", "s0=silent", "s0=late", "s0=die"}) {
    INFO(mode);
    PoolProcess pool({.mode = mode, .more = kNoBackoff});
    eventually([&] { return pool.count_log("is ready after") >= 2; });
    for (int i = 0; i < 4; ++i) {
      Client client(pool.port(), "127.0.0." + std::to_string(2 + i));
      CHECK(client.slot() == 1);
      CHECK(client.echoes());
    }
  }
}

TEST_CASE("a take that comes too late is answered with nothing") {
  PoolProcess pool({.mode = "s0=late"});
  pool.wait_log("is ready after", 2);
  Client client(pool.port());
  CHECK(client.slot() == 1);
  pool.wait_log("did not answer an offer within 1000 ms");
  pool.wait_log("fake worker 0: took ");
  CHECK(client.echoes());
  pool.signal(SIGUSR1);
  pool.wait_log("worker 0: state=ready");
  CHECK(pool.count_log("granted=1 ") == 1);
  CHECK(PoolProcess::descriptors(pool.worker(0)) == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("a stale or lying worker changes no counts but its own") {
  PoolProcess pool({.mode = "*=stale", .more = R"(, "limits": {"connections": 2})"});
  pool.wait_log("is ready after", 2);
  std::vector<Client> clients;
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back(pool.port());
    CHECK(clients.back().greeting());
  }
  Client third(pool.port());
  CHECK_FALSE(third.greeting());  // the limit still counts two
  pool.signal(SIGUSR1);
  pool.wait_log("pool: connections=2 pending=0");
}

TEST_CASE("nobody takes it: closed, with one line per client and interval") {
  PoolProcess pool({.mode = "*=refuse"});
  for (int i = 0; i < 5; ++i) {
    Client client(pool.port());
    CHECK_FALSE(client.greeting());
  }
  CHECK(pool.count_log("is turned away: no worker accepts it") == 1);
  pool.signal(SIGUSR1);
  pool.wait_log("refused_no_worker=5");
}

TEST_CASE("a connection waits for a worker that is about to be ready") {
  PoolProcess pool({.mode = "s1=never", .more = kNoBackoff});
  ::kill(pool.worker(0), SIGSTOP);  // offers go unanswered; its successor is ready at once
  Client client(pool.port());
  pool.wait_log("did not answer an offer");
  ::kill(pool.worker(0), SIGKILL);
  CHECK(client.slot() == 0);
}

TEST_CASE("a connection waits for a worker that is silent for a moment") {
  PoolProcess pool({.workers = 1});
  ::kill(pool.worker(0), SIGSTOP);
  Client first(pool.port(), "127.0.0.2");
  pool.wait_log("did not answer an offer");
  Client second(pool.port(), "127.0.0.3");  // while it is known to be silent
  CHECK_FALSE(second.closed_within(100));
  ::kill(pool.worker(0), SIGCONT);
  CHECK(second.greeting());
  CHECK(second.echoes());
}

TEST_CASE("limits, of the pool and of a client") {
  PoolProcess pool({.more = R"(, "limits": {"connections": 5, "connections_per_client": 2})"});
  pool.wait_log("is ready after", 2);
  std::vector<Client> clients;
  for (const char* source : {"127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"}) {
    clients.emplace_back(pool.port(), source);
    CHECK(clients.back().greeting());
  }
  CHECK_FALSE(Client(pool.port(), "127.0.0.2").greeting());
  pool.wait_log("it has 2 connections already (/limits/connections_per_client)");
  clients.emplace_back(pool.port(), "127.0.0.4");
  CHECK(clients.back().greeting());
  CHECK_FALSE(Client(pool.port(), "127.0.0.5").greeting());
  pool.wait_log("the pool has 5 connections (/limits/connections)");
  clients[0].close();
  CHECK(eventually([&] { return Client(pool.port(), "127.0.0.2").greeting().has_value(); }));
}

TEST_CASE("whoever takes the places without a session loses his oldest to a client from elsewhere") {
  PoolProcess pool({.more = R"(, "limits": {"connections": 40, "connections_without_session": 12})"});
  pool.wait_log("is ready after", 2);
  std::vector<Client> flood;
  for (int i = 0; i < 13; ++i) {
    flood.emplace_back(pool.port(), "127.0.0.2");
    REQUIRE(flood.back().greeting());
    if (i > 0) continue;
    REQUIRE(flood[0].logs_in());
    CHECK(eventually([&] {
      pool.signal(SIGUSR1);
      return pool.count_log(" without_session=0 made_room=0") > 0;
    }));
  }
  Client other(pool.port(), "127.0.0.3");
  CHECK(other.greeting());
  CHECK(flood[1].closed_within(2'000));
  for (const size_t who : {0, 2, 12}) CHECK(flood[who].echoes());
  pool.wait_log("127.0.0.2");
  CHECK(pool.count_log("is closed to make room for another: 12 connections have no session") == 1);
  CHECK(other.echoes());
  pool.signal(SIGUSR1);
  pool.wait_log("pool: connections=13 pending=0");
  pool.wait_log(" without_session=12 made_room=1");
}

TEST_CASE("a client may begin so many connections that come to nothing, and any number that do not") {
  PoolProcess pool(
      {.more = R"(, "limits": {"connections_per_client": 16, "connection_rate_per_client": 1})"});
  pool.wait_log("is ready after", 2);
  const auto begin = [&](const char* source, bool login) {
    Client client(pool.port(), source);
    return client.greeting().has_value() && (!login || client.logs_in());
  };
  size_t begun = 0;
  while (begun < 100 && begin("127.0.0.2", false)) ++begun;
  CHECK(begun >= 16);
  CHECK(begun < 80);
  pool.wait_log("/limits/connection_rate_per_client");
  size_t served = 0;
  for (int i = 0; i < 40; ++i) served += begin("127.0.0.3", true) ? 1 : 0;
  CHECK(served == 40);
}

TEST_CASE("allow and deny") {
  PoolProcess pool({.listeners = R"([{"address": "0.0.0.0", "port": 0}])",
                    .upstream = R"(, "allow": ["127.0.1.0/24", "127.0.2.1"], "deny": ["127.0.1.128/25"])"});
  CHECK(Client(pool.port(), "127.0.1.1").greeting());
  CHECK(Client(pool.port(), "127.0.2.1").greeting());
  CHECK_FALSE(Client(pool.port(), "127.0.1.129").greeting());
  CHECK_FALSE(Client(pool.port(), "127.0.2.2").greeting());
  CHECK_FALSE(Client(pool.port(), "127.0.0.1").greeting());
  CHECK(pool.count_log("its address is in /upstream/deny") == 1);
  CHECK(pool.count_log("its address is not in /upstream/allow") == 2);
}

TEST_CASE("after 200 connections no descriptor more is open in the daemon") {
  PoolProcess pool({.more = R"(, "affinity": "spread", "restart": {"backoff_increment_s": 0})"});
  pool.wait_log("is ready after", 2);
  const auto settled = [&] {
    const size_t asked = pool.count_log("pool: connections=0 pending=0");
    return eventually([&] {
      pool.signal(SIGUSR1);
      usleep(10'000);
      return pool.count_log("pool: connections=0 pending=0") > asked;
    });
  };
  CHECK(Client(pool.port()).greeting());
  REQUIRE(settled());
  const auto before = PoolProcess::descriptors(pool.pid());
  for (int round = 0; round < 10; ++round) {
    std::vector<Client> clients;
    for (int i = 0; i < 20; ++i) clients.emplace_back(pool.port());
    for (Client& client : clients) REQUIRE(client.greeting());
  }
  REQUIRE(settled());
  CHECK(PoolProcess::descriptors(pool.pid()) == before);
  // Nor after workers have come and gone.
  for (int i = 0; i < 3; ++i) {
    const size_t ready = pool.count_log("is ready after");
    ::kill(pool.worker(0), SIGTERM);
    pool.wait_log("is ready after", ready + 1);
  }
  CHECK(PoolProcess::descriptors(pool.pid()).size() == before.size());
}

TEST_CASE("out of descriptors: clients wait, and all are served") {
  PoolProcess pool({.mode = "*=slow",
                    .workers = 4,
                    .descriptors = 48,
                    .more = R"(, "affinity": "spread", "limits": {"connections_per_client": 200})"});
  CHECK(pool.count_log("below what") == 1);  // it says so at the start
  pool.wait_log("is ready after", 4);
  std::vector<Client> clients;
  for (int i = 0; i < 70; ++i) clients.emplace_back(pool.port());
  for (Client& client : clients) CHECK(client.greeting());
  CHECK(pool.count_log("accept: Too many open files; new clients have to wait") == 1);
}

TEST_CASE("a worker without descriptors loses the new connection, not those it has") {
  PoolProcess pool({.workers = 1, .descriptors = 28});
  std::vector<Client> clients;
  size_t served = 0;
  for (int i = 0; i < 40; ++i) {
    clients.emplace_back(pool.port());
    if (clients.back().greeting()) ++served;
  }
  CHECK(served > 10);
  CHECK(served < 28);
  for (size_t i = 0; i < 10; ++i) CHECK(clients[i].echoes());
  pool.signal(SIGUSR1);
  pool.wait_log("pool: connections=" + std::to_string(served) + " pending=0");
  CHECK(pool.count_log("was killed") == 0);
}

TEST_CASE("more clients at once than offers may be pending: they wait in the kernel's queue") {
  PoolProcess pool({.mode = "*=slow", .more = R"(, "limits": {"connections_per_client": 1000})"});
  pool.wait_log("is ready after", 2);
  std::vector<Client> clients;
  for (int i = 0; i < 300; ++i) clients.emplace_back(pool.port());
  for (Client& client : clients) REQUIRE(client.greeting());
}
