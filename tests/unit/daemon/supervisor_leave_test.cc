// SPDX-License-Identifier: MIT
// The running daemon: local addresses that leave the host and come back. With fake workers, on loopback, all
// of whose addresses are there.
#include <csignal>
#include <future>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::Client;
using test::eventually;
using test::PoolOptions;
using test::PoolProcess;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

PoolOptions everywhere(size_t workers, const std::string& mode = {}) {
  return {.mode = mode,
          .workers = workers,
          .listeners = R"([{"address": "0.0.0.0", "port": 0}])",
          .upstream = R"(, "allow": ["127.0.0.0/8"])"};
}

std::string ask(const PoolProcess& pool, const std::string& command, const std::string& address) {
  return pool.ask(R"({"command": ")" + command + R"(", "argument": ")" + address + "\"}");
}

std::string left(const std::string& address, int connections) {
  return R"({"leave":{"address":")" + address + R"(","connections":)" + std::to_string(connections) + "}}\n";
}

constexpr const char* kFrom = "127.0.0.1";
constexpr const char* kStatus = R"({"command": "status"})";

}  // namespace

TEST_CASE(
    "an address that leaves: its connections end, others go on, new ones are refused until it is taken") {
  PoolProcess pool(everywhere(2));
  pool.wait_log("is ready after", 2);
  Client one(pool.port(), kFrom, "127.0.0.2"), two(pool.port(), "127.0.0.9", "127.0.0.2"),
      other(pool.port(), kFrom, "127.0.0.3");
  for (Client* client : {&one, &two, &other}) REQUIRE(client->greeting());
  CHECK(has(pool.ask(kStatus), "\"leaving\":[]"));
  CHECK(
      has(pool.ask(R"({"command": "connections"})"), "\"local\":\"127.0.0.2:" + std::to_string(pool.port())));

  // All have ended when it answers.
  CHECK(ask(pool, "leave", "127.0.0.2") == left("127.0.0.2", 2));
  CHECK(one.closed_within(0));
  CHECK(two.closed_within(0));
  CHECK(other.echoes());
  CHECK(Client(pool.port(), kFrom, "127.0.0.2").is_reset());
  CHECK(Client(pool.port(), kFrom, "127.0.0.3").greeting());
  pool.wait_log("the address 127.0.0.2 leaves this host (smbdirectctl leave)");
  const std::string status = pool.ask(kStatus);
  CHECK(has(status, "\"leaving\":[\"127.0.0.2\"]"));
  CHECK(has(status, "\"refused_leaving\":1,"));
  // Once more: there is nothing left to do.
  CHECK(ask(pool, "leave", "127.0.0.2") == left("127.0.0.2", 0));
  // It stays so when the pool file is read again.
  pool.rewrite(everywhere(1));
  CHECK(has(pool.ask(R"({"command": "reload"})"), "/workers"));
  CHECK(Client(pool.port(), kFrom, "127.0.0.2").is_reset());

  CHECK(ask(pool, "take", "127.0.0.2") == "{\"take\":{\"address\":\"127.0.0.2\",\"left\":true}}\n");
  CHECK(ask(pool, "take", "127.0.0.2") == "{\"take\":{\"address\":\"127.0.0.2\",\"left\":false}}\n");
  CHECK(has(pool.ask(kStatus), "\"leaving\":[]"));
  CHECK(Client(pool.port(), kFrom, "127.0.0.2").greeting());
  CHECK(other.echoes());
}

TEST_CASE("an IPv4 address in its IPv6 form is the same address") {
  PoolProcess pool(everywhere(1));
  Client client(pool.port(), kFrom, "127.0.0.2");
  REQUIRE(client.greeting());
  CHECK(ask(pool, "leave", "::ffff:127.0.0.2") == left("127.0.0.2", 1));
  CHECK(client.closed_within(0));
  CHECK(has(ask(pool, "take", "::ffff:7f00:2"), "\"left\":true"));
}

TEST_CASE("a connection that no worker has yet is among them") {
  SUBCASE("offered") {
    PoolProcess pool(everywhere(1, "*=silent"));
    Client client(pool.port(), kFrom, "127.0.0.2");
    REQUIRE(eventually([&] { return has(pool.ask(kStatus), "\"connections\":1,\"pending\":1,"); }));
    CHECK(ask(pool, "leave", "127.0.0.2") == left("127.0.0.2", 1));
    CHECK(client.is_reset());
    CHECK(has(pool.ask(kStatus), "\"connections\":0,\"pending\":0,"));
  }
  SUBCASE("taken too late") {
    PoolProcess pool(everywhere(1, "*=slow"));
    Client client(pool.port(), kFrom, "127.0.0.2");
    REQUIRE(eventually([&] { return has(pool.ask(kStatus), "\"pending\":1,"); }));
    CHECK(ask(pool, "leave", "127.0.0.2") == left("127.0.0.2", 1));
    CHECK(client.is_reset());
    pool.wait_log("fake worker 0: took ");
    CHECK(has(pool.ask(kStatus), "\"granted\":0,"));
    CHECK(Client(pool.port(), kFrom, "127.0.0.3").greeting());
  }
}

TEST_CASE("the answer waits for a worker, and for its end, but not for ever") {
  PoolProcess pool(everywhere(1));
  Client client(pool.port(), kFrom, "127.0.0.2");
  REQUIRE(client.greeting());
  ::kill(client.worker(), SIGSTOP);
  auto answer = std::async(std::launch::async, [&] { return ask(pool, "leave", "127.0.0.2"); });
  SUBCASE("it goes on") {
    pool.wait_log("the address 127.0.0.2 leaves this host: ");
    ::kill(client.worker(), SIGCONT);
    CHECK(answer.get() == left("127.0.0.2", 1));
  }
  SUBCASE("it dies") {
    pool.wait_log("the address 127.0.0.2 leaves this host: ");
    ::kill(client.worker(), SIGKILL);
    CHECK(answer.get() == left("127.0.0.2", 1));
  }
  SUBCASE("it stays stopped") {
    CHECK(has(answer.get(), "1 connections to 127.0.0.2 are still there after 5 s (0 were ended, "));
    ::kill(client.worker(), SIGCONT);
    CHECK(client.closed_within(5'000));
  }
}

TEST_CASE("what is no address of a connection neither leaves nor is taken") {
  PoolProcess pool(everywhere(1));
  for (const char* command : {"leave", "take"}) {
    for (const char* wrong : {"", "localhost", "127.0.0.2:445", "127.0.0.0/8", "fe80::1%lo"})
      CHECK(has(ask(pool, command, wrong), "is no IP address"));
    for (const char* wrong : {"0.0.0.0", "::"})
      CHECK(has(ask(pool, command, wrong), "stands for every address"));
  }
  CHECK(has(pool.ask(kStatus), "\"leaving\":[]"));
}
