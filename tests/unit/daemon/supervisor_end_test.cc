// SPDX-License-Identifier: MIT
// The running daemon: signals, drains and its own end. With fake workers, on loopback.
#include <csignal>
#include <cstddef>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::Client;
using test::eventually;
using test::PoolProcess;
using test::process_exists;

TEST_CASE("TERM: a worker that does not end in time is killed") {
  PoolProcess pool({.mode = "s0=stubborn", .more = R"(, "shutdown": {"stop_deadline_ms": 200})"});
  pool.wait_log("is ready after", 2);
  pool.signal(SIGINT);
  CHECK(pool.wait_exit() == 0);
  CHECK(pool.count_log("did not end in time") == 1);
  CHECK(pool.count_log("ended with exit status 0") == 1);
}

TEST_CASE("TERM before any worker is ready") {
  PoolProcess pool({.mode = "*=never", .more = R"(, "shutdown": {"stop_deadline_ms": 0})", .wait = false});
  pool.wait_log("worker 1 (pid");
  pool.signal(SIGTERM);
  CHECK(pool.wait_exit() == 0);
}

TEST_CASE("QUIT: no new connections, the old ones to their end, exit 0") {
  PoolProcess pool({.workers = 3});
  pool.wait_log("is ready after", 3);
  Client client(pool.port());
  CHECK(client.greeting());
  pool.signal(SIGQUIT);
  pool.wait_log("draining: SIGQUIT (1 connections)");
  pool.wait_log("ended with exit status 0", 2);  // the idle ones
  CHECK_FALSE(Client(pool.port()).connected());
  CHECK(client.echoes());
  client.close();
  CHECK(pool.wait_exit() == 0);
  CHECK(pool.count_log("ended with exit status 0") == 3);
}

TEST_CASE("QUIT with a deadline") {
  PoolProcess pool({.more = R"(, "shutdown": {"drain_deadline_ms": 300})"});
  Client client(pool.port());
  CHECK(client.greeting());
  pool.signal(SIGQUIT);
  CHECK(pool.wait_exit() == 0);
  CHECK(client.closed_within(1000));
  CHECK(pool.count_log("did not end in time") == 1);
}

TEST_CASE("TERM during a drain stops") {
  PoolProcess pool({});
  Client client(pool.port());
  CHECK(client.greeting());
  pool.signal(SIGQUIT);
  pool.wait_log("draining");
  CHECK(client.echoes());
  pool.signal(SIGTERM);
  CHECK(pool.wait_exit() == 0);
  CHECK(client.closed_within(1000));
}

TEST_CASE("a worker that dies during a drain is not started again") {
  PoolProcess pool({.workers = 1});
  Client client(pool.port());
  CHECK(client.greeting());
  pool.signal(SIGQUIT);
  pool.wait_log("draining");
  ::kill(client.worker(), SIGKILL);
  CHECK(pool.wait_exit() == 0);
  CHECK(pool.count_log("started") == 1);
  CHECK(pool.count_log("1 connections lost") == 1);
}

TEST_CASE("HUP reads the file again, USR2 is ignored with a line, USR1 reaches every worker") {
  PoolProcess pool({});
  pool.wait_log("is ready after", 2);
  pool.signal(SIGHUP);
  pool.wait_log("reload: nothing has changed");
  pool.signal(SIGUSR2);
  pool.wait_log("SIGUSR2 ignored");
  pool.signal(SIGUSR1);
  pool.wait_log("worker 0: state=ready");
  pool.wait_log("fake worker 0: dump");
  pool.wait_log("fake worker 1: dump");
  CHECK(Client(pool.port()).greeting());
}

TEST_CASE(
    "when the daemon is killed, workers serve on and end with their last connection; a new one listens at "
    "once") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client client(pool.port());
  CHECK(client.greeting());
  const pid_t busy = client.worker();
  pool.signal(SIGKILL);
  CHECK(pool.wait_exit() == 128 + SIGKILL);
  PoolProcess next(
      {.listeners = "[{\"address\": \"127.0.0.1\", \"port\": " + std::to_string(pool.port()) + "}]"});
  CHECK(Client(next.port()).greeting());
  CHECK(client.echoes());
  for (size_t slot = 0; slot < 2; ++slot) {
    const pid_t worker = pool.worker(slot);
    if (worker != busy) CHECK(eventually([&] { return !process_exists(worker); }));
  }
  CHECK(process_exists(busy));
  client.close();
  CHECK(eventually([&] { return !process_exists(busy); }));
}
