// SPDX-License-Identifier: MIT
// The running daemon: its listeners, its workers and their deaths. With fake workers, on loopback.
#include <array>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::Client;
using test::PoolProcess;
using test::process_exists;

TEST_CASE("it listens when a worker is ready, serves, and stops") {
  PoolProcess pool({.workers = 3});
  CHECK(pool.said_ready());
  CHECK(pool.count_log("listening on 127.0.0.1 port " + std::to_string(pool.port()) +
                       " (iwarp), 3 workers") == 1);
  Client client(pool.port());
  CHECK(client.greeting());
  CHECK(client.echoes());
  pool.signal(SIGTERM);
  CHECK(pool.wait_exit() == 0);
  CHECK(client.closed_within(1000));
  for (size_t slot = 0; slot < 3; ++slot) CHECK_FALSE(process_exists(pool.worker(slot)));
  CHECK(pool.count_log("ended with exit status 0") == 3);
}

TEST_CASE("a worker has exactly the contract's descriptors") {
  PoolProcess pool({.workers = 3});
  pool.wait_log("is ready after", 3);
  const std::string log = PoolProcess::descriptor(pool.pid(), 2);
  for (size_t slot = 0; slot < 3; ++slot) {
    const pid_t pid = pool.worker(slot);
    CHECK(PoolProcess::descriptors(pid) == std::vector{0, 1, 2, 3, 4});
    CHECK(PoolProcess::descriptor(pid, 0) == "/dev/null");
    CHECK(PoolProcess::descriptor(pid, 1) == log);
    CHECK(PoolProcess::descriptor(pid, 2) == log);
    CHECK(PoolProcess::descriptor(pid, 3).starts_with("socket:"));
    CHECK(PoolProcess::descriptor(pid, 4).starts_with("/memfd:smbdirect-config"));
  }
  // One that was started later, beside connections and a listener.
  const Client client(pool.port());
  ::kill(pool.worker(1), SIGKILL);
  pool.wait_log("is ready after", 4);
  CHECK(PoolProcess::descriptors(pool.worker(1)) == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("affinity client: an address stays with its worker") {
  PoolProcess pool({.workers = 3});
  pool.wait_log("is ready after", 3);
  std::vector<Client> clients;
  std::set<size_t> slots;
  for (const char* source : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
    size_t first = 0;
    for (int i = 0; i < 4; ++i) {
      clients.emplace_back(pool.port(), source);
      const size_t slot = clients.back().slot();
      if (i == 0) first = slot;
      CHECK(slot == first);
    }
    slots.insert(first);
  }
  CHECK(slots.size() == 3);  // each new address went where the fewest connections were
}

TEST_CASE("affinity spread: the fewest connections, whoever asks") {
  PoolProcess pool({.workers = 3, .more = R"(, "affinity": "spread")"});
  pool.wait_log("is ready after", 3);
  std::vector<Client> clients;
  std::array<int, 3> count{};
  for (int i = 0; i < 9; ++i) {
    clients.emplace_back(pool.port());
    ++count.at(clients.back().slot());
  }
  CHECK(count == std::array{3, 3, 3});
}

TEST_CASE("a killed worker costs its own connections only, and comes back at once") {
  PoolProcess pool({.workers = 3});
  pool.wait_log("is ready after", 3);
  std::vector<Client> clients;
  std::vector<size_t> slots;
  for (const char* source : {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"}) {
    clients.emplace_back(pool.port(), source);
    slots.push_back(clients.back().slot());
  }
  const size_t victim = slots[0];
  ::kill(clients[0].worker(), SIGKILL);
  pool.wait_log("is ready after", 4);
  pool.wait_log("was killed by signal 9");
  pool.wait_log("2 connections lost; it is started again at once");
  for (size_t i = 0; i < clients.size(); ++i) {
    if (slots[i] == victim) {
      CHECK(clients[i].closed_within(5000));
    } else {
      CHECK(clients[i].echoes());
    }
  }
  Client again(pool.port(), "127.0.0.2");
  CHECK(again.slot() == victim);  // it has the fewest
  CHECK(again.worker() != clients[0].worker());
}

TEST_CASE("the second restart waits, by Samba's backoff") {
  PoolProcess pool({.mode = "s1=exit1",
                    .more = R"(, "restart": {"backoff_increment_s": 3600, "maximum_backoff_s": 3600})"});
  pool.wait_log("worker 1 (pid");
  pool.wait_log("ended with exit status 1", 2);
  pool.wait_log("it is started again at once");
  pool.wait_log("it is started again in 3600 s");
  Client client(pool.port());
  CHECK(client.slot() == 0);
  pool.signal(SIGUSR1);
  pool.wait_log("worker 1: state=backoff pid=-1");
}

TEST_CASE("an end that nobody asked for is followed by a start, whatever the exit status") {
  PoolProcess pool({.mode = "g1=exit0"});
  pool.wait_log("ended with exit status 0");
  pool.wait_log("it is started again at once");
  pool.wait_log("is ready after", 2);
}

TEST_CASE("exit status 2 is not started again; when all ended so, neither does the pool") {
  PoolProcess some({.mode = "s1=exit2"});
  some.wait_log("it rejected its configuration and is not started again");
  Client client(some.port());
  CHECK(client.slot() == 0);
  some.signal(SIGUSR1);
  some.wait_log("worker 1: state=failed");
  some.signal(SIGTERM);
  CHECK(some.wait_exit() == 0);

  PoolProcess all({.mode = "*=exit2", .wait = false});
  CHECK(all.wait_exit() == 2);
  CHECK(all.count_log("no worker accepts its configuration") == 1);
  CHECK(all.count_log("listening") == 0);
}

TEST_CASE("no worker ready in time ends the pool with 3") {
  PoolProcess pool({.mode = "*=never",
                    .more = R"(, "restart": {"ready_timeout_ms": 300}, "shutdown": {"stop_deadline_ms": 0})",
                    .wait = false});
  CHECK(pool.wait_exit() == 3);
  CHECK(pool.count_log("no worker was ready within 300 ms") == 1);
  CHECK(pool.count_log("listening") == 0);
  CHECK_FALSE(pool.said_ready());
}

TEST_CASE("a worker that is never ready is killed and started again; the others serve") {
  PoolProcess pool({.mode = "g2=never", .more = R"(, "restart": {"ready_timeout_ms": 1000})"});
  pool.wait_log("was not ready within 1000 ms");
  pool.wait_log("is ready after", 2);
  CHECK(pool.count_log("worker 0 (pid") >= 1);
}

TEST_CASE("a worker that answers no ping is killed and started again") {
  for (const char* mode : {"g1=deaf", "g1=dumb"}) {
    PoolProcess pool(
        {.mode = mode, .more = R"(, "restart": {"ping_interval_ms": 50, "ping_timeout_ms": 400})"});
    pool.wait_log("did not answer for");
    pool.wait_log("is ready after", 3);
    CHECK(pool.count_log("was killed by signal 9") == 1);
    Client client(pool.port());
    CHECK(client.greeting());
  }
}

TEST_CASE("a worker that answers pings is left alone") {
  PoolProcess pool({.more = R"(, "restart": {"ping_interval_ms": 10, "ping_timeout_ms": 10000})"});
  Client client(pool.port());
  CHECK(client.greeting());
  pool.signal(SIGSTOP);  // a daemon that stood still blames nobody
  usleep(200'000);
  pool.signal(SIGCONT);
  for (int i = 0; i < 20; ++i) CHECK(client.echoes());
  CHECK(pool.count_log("did not answer") == 0);
  CHECK(pool.count_log("was killed") == 0);
}

TEST_CASE("whoever breaks the contract is killed and started again") {
  for (const char* mode : {"g1=garbage", "g1=foreign"}) {
    PoolProcess pool({.mode = mode});
    pool.wait_log("sent an invalid message");
    pool.wait_log("is ready after", 3);
    Client client(pool.port());
    CHECK(client.greeting());
    CHECK(pool.count_log("was killed by signal 9") == 1);
  }
}

TEST_CASE("a crash is told with its signal") {
  PoolProcess pool({.mode = "g1=crash"});
  pool.wait_log("was killed by signal 6 (Aborted)");
  pool.wait_log("is ready after", 2);
}

TEST_CASE("a port in use ends it with 3 and advice") {
  PoolProcess first({});
  PoolProcess second(
      {.listeners = "[{\"address\": \"127.0.0.1\", \"port\": " + std::to_string(first.port()) + "}]",
       .wait = false});
  CHECK(second.wait_exit() == 3);
  CHECK(second.count_log("Address already in use; another program has that port") >= 1);
  CHECK(second.count_log("started") == 0);
}

TEST_CASE("an address of no interface is listened on, and told") {
  PoolProcess pool(
      {.listeners = R"([{"address": "192.0.2.123", "port": 0}, {"address": "2001:db8::9", "port": 0},
                                     {"address": "127.0.0.1", "port": 0}])",
       .upstream = R"(, "allow": ["0.0.0.0/0"])"});
  CHECK(pool.count_log("(iwarp): no interface of this host has this address now; clients are served once") ==
        2);
  const std::string status = pool.ask(R"({"command": "status"})");
  CHECK(status.find("192.0.2.123 port ") != std::string::npos);
  CHECK(pool.count_log("(iwarp), waiting for its address, ") == 2);
  CHECK(status.find("(iwarp), waiting for its address, 2001:db8::9 port ") != std::string::npos);
  CHECK(status.find("(iwarp), waiting for its address, 127.0.0.1 port ") != std::string::npos);
}

TEST_CASE("several listeners; IPv6 and IPv4 on one port do not meet") {
  PoolProcess pool({.listeners = R"([{"address": "127.0.0.1", "port": 0}, {"address": "::1", "port": 0},
                                     {"address": "127.0.0.9", "port": 0}])"});
  CHECK(pool.count_log("(iwarp), ::1 port ") == 1);
  CHECK(Client(pool.port()).greeting());
  const std::string wildcard = R"([{"address": "0.0.0.0", "port": 0}])";
  PoolProcess four({.listeners = wildcard, .upstream = R"(, "allow": ["127.0.0.0/8"])"});
  PoolProcess six({.listeners = "[{\"address\": \"::\", \"port\": " + std::to_string(four.port()) + "}]",
                   .upstream = R"(, "allow": ["::1"])"});
  CHECK(Client(four.port()).greeting());
}

TEST_CASE("systemd hears of it; workers do not") {
  const std::string name = "@smbdirectd-test-supervisor-" + std::to_string(getpid());
  const smbdirect::shm::UniqueFd systemd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
  const auto length = socklen_t(offsetof(sockaddr_un, sun_path) + name.size());
  REQUIRE(bind(systemd.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0);
  PoolProcess pool({.notify = name});
  pool.wait_log("is ready after", 2);
  pool.signal(SIGHUP);
  pool.wait_log("reload: nothing has changed");
  Client client(pool.port());
  REQUIRE(client.greeting());
  pool.signal(SIGQUIT);
  pool.wait_log("draining");
  pool.signal(SIGHUP);  // none follows any more, so none is announced
  pool.wait_log("reload: the pool is draining");
  pool.signal(SIGTERM);
  CHECK(pool.wait_exit() == 0);
  std::string heard;
  std::array<char, 512> text{};
  for (ssize_t got = 0; (got = recv(systemd.get(), text.data(), text.size(), MSG_DONTWAIT)) > 0;) {
    heard += std::string(text.data(), size_t(got)) + "|";
  }
  CHECK_MESSAGE(heard.find("|READY=1\nSTATUS=listening on 127.0.0.1") != std::string::npos, heard);
  CHECK_MESSAGE(heard.find("STATUS=2 of 2 workers ready|") != std::string::npos, heard);
  const size_t reload = heard.find("|RELOADING=1\nMONOTONIC_USEC=");
  REQUIRE_MESSAGE(reload != std::string::npos, heard);
  CHECK_MESSAGE(heard.find("|READY=1\n", reload) != std::string::npos, heard);
  CHECK_MESSAGE(heard.find("RELOADING=1", reload + 2) == std::string::npos, heard);
  CHECK_MESSAGE(heard.find("STOPPING=1") != std::string::npos, heard);
}
