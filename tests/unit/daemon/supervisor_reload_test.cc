// SPDX-License-Identifier: MIT
// The running daemon's number of workers and its pool file, changed while it serves. With fake workers, on
// loopback.
#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::Client;
using test::eventually;
using test::PoolProcess;
using test::process_exists;

namespace {

constexpr const char* kReload = R"({"command": "reload"})";
constexpr const char* kOther = R"(, "smbdirect": {"idle_timeout_ms": 90000})";  // workers start with it

std::string resize(int workers) {
  return R"({"command": "resize", "argument": ")" + std::to_string(workers) + R"("})";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("more workers come at once, and fewer finish what they have") {
  PoolProcess pool({.workers = 1});
  CHECK(pool.ask(resize(4)) == "{\"resize\":{\"workers\":4,\"before\":1,\"draining\":0}}\n");
  pool.wait_log("is ready after", 4);
  std::vector<Client> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(pool.port(), "127.0.0." + std::to_string(i + 1));
  std::vector<size_t> slots;
  for (Client& client : clients) slots.push_back(client.slot());
  REQUIRE(slots == std::vector<size_t>{0, 1, 2, 3});
  CHECK(has(pool.ask(resize(1)), "\"workers\":1,\"before\":4,\"draining\":3"));
  for (Client& client : clients) CHECK(client.echoes());
  for (int i = 10; i < 16; ++i) CHECK(Client(pool.port(), "127.0.0." + std::to_string(i)).slot() == 0);
  for (size_t slot = 1; slot < 4; ++slot) {
    const pid_t worker = pool.worker(slot);
    CHECK(process_exists(worker));
    clients[slot].close();
    CHECK(eventually([&] { return !process_exists(worker); }));
  }
  pool.wait_log("ended with exit status 0", 3);
  CHECK(clients[0].echoes());
  // Slots are used again.
  CHECK(has(pool.ask(resize(3)), "\"workers\":3,\"before\":1,\"draining\":0"));
  pool.wait_log("is ready after", 6);
  CHECK(has(pool.ask(R"({"command": "status"})"), "\"workers\":3"));
}

TEST_CASE("while workers finish, others take their slots' place, up to all the slots there are") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client one(pool.port(), "127.0.0.1"), two(pool.port(), "127.0.0.2");
  REQUIRE(one.slot() + two.slot() == 1);
  CHECK(has(pool.ask(resize(1)), "\"draining\":1"));
  CHECK(has(pool.ask(resize(2)), "\"draining\":1"));
  pool.wait_log("is ready after", 3);
  CHECK(one.echoes());
  CHECK(two.echoes());
  CHECK(has(pool.ask(resize(64)), "\"workers\":64"));  // one slot short until the old worker has ended
  pool.wait_log("is ready after", 64);
  one.close(), two.close();
  pool.wait_log("is ready after", 65);
}

TEST_CASE("what is no number of workers is refused, and so is anything while the pool drains") {
  PoolProcess pool({.workers = 1});
  CHECK(has(pool.ask(resize(0)), "0 is no number of workers; allowed: 1 to 64"));
  CHECK(has(pool.ask(resize(65)), "65 is no number of workers"));
  Client client(pool.port());
  REQUIRE(client.greeting());
  pool.signal(SIGQUIT);
  pool.wait_log("draining: SIGQUIT");
  CHECK(has(pool.ask(resize(2)), "the pool is draining"));
  CHECK(has(pool.ask(kReload), "the pool is draining"));
  CHECK(client.echoes());
}

TEST_CASE("a wrong file changes nothing and says why") {
  PoolProcess pool({.workers = 1});
  pool.write_file("{");
  CHECK(has(pool.ask(kReload), "the pool file is wrong and nothing has changed"));
  pool.rewrite({.workers = 0});
  const std::string answer = pool.ask(kReload);
  CHECK(has(answer, "pool.json:1: /workers is 0; allowed: an integer from 1 to 64"));
  pool.signal(SIGHUP);
  pool.wait_log("reload: the pool file is wrong");
  pool.wait_log("/workers is 0; allowed", 1);
  CHECK(Client(pool.port()).greeting());
  CHECK(pool.count_log("started") == 1);
}

TEST_CASE("a reload tells what applies when, and the same file again changes nothing") {
  PoolProcess pool({.workers = 1});
  CHECK(pool.ask(kReload) == "{\"reload\":[]}\n");
  pool.write_file(R"({"run_directory": "/elsewhere", "workers": 2, "affinity": "spread",
    "listeners": [{"address": "127.0.0.1", "port": 0}], "log": {"level": "debug"},
    "upstream": {"mode": "connect", "address": "127.0.0.1"}})");
  const std::string answer = pool.ask(kReload);
  CHECK(has(answer, R"({"key":"/workers","from":"1","to":"2","applies":"at once"})"));
  CHECK(has(answer, R"({"key":"/affinity","from":"\"client\"","to":"\"spread\"","applies":"at once"})"));
  CHECK(has(answer, R"("to":"\"/elsewhere\"","applies":"when the daemon is restarted")"));
  pool.wait_log("is ready after", 2);
  // What waits for a restart is told again, as it still differs; the rest is as the file has it.
  const std::string again = pool.ask(kReload);
  CHECK(has(again, "/run_directory"));
  CHECK_FALSE(has(again, "/workers"));
  pool.signal(SIGHUP);
  pool.wait_log("reload: /run_directory was", 3);
}

TEST_CASE("workers with another configuration take over, and none ends before another is ready") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client old(pool.port());
  REQUIRE(old.greeting());
  pool.rewrite({.workers = 2, .more = kOther});
  CHECK(has(pool.ask(kReload), "\"applies\":\"to new connections, in new workers\""));
  pool.wait_log("is ready after", 4);
  CHECK(old.echoes());
  // A new client gets a new worker, also from where the old one came.
  CHECK(Client(pool.port()).slot() >= 2);
  CHECK(old.echoes());
  old.close();
  pool.wait_log("ended with exit status 0", 2);
  CHECK(pool.count_log("cannot take") == 0);
}

TEST_CASE("in a pool with no slot to spare workers are replaced one by one") {
  PoolProcess pool({.workers = 64});
  pool.wait_log("is ready after", 64);
  Client old(pool.port());
  REQUIRE(old.greeting());
  pool.rewrite({.workers = 64, .more = kOther});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  for (int i = 2; i < 12; ++i) CHECK(Client(pool.port(), "127.0.0." + std::to_string(i)).greeting());
  pool.wait_log("is ready after", 2 * 64 - 1);  // but for the one that a client has
  CHECK(old.echoes());
  old.close();
  pool.wait_log("is ready after", 2 * 64);
  // Never two at once: as many have become ready as have ended, or one fewer.
  size_t ended = 0, ready = 0, most = 0;
  const std::string log = pool.log();
  for (size_t at = log.find("reload: "); at < log.size(); at = log.find('\n', at) + 1) {
    const std::string line = log.substr(at, log.find('\n', at) - at);
    if (has(line, "ended with exit status 0")) ++ended;
    if (has(line, "smbdirectd[") && has(line, "is ready after")) ++ready;
    most = std::max(most, ended - std::min(ended, ready));
    if (log.find('\n', at) == std::string::npos) break;
  }
  CHECK(ended == 64);
  CHECK(most <= 1);
}

TEST_CASE("where the new workers do not become ready, the old ones go on") {
  PoolProcess pool({.mode = "s1=never", .workers = 1, .more = R"(, "restart": {"ready_timeout_ms": 300})"});
  Client old(pool.port());
  REQUIRE(old.slot() == 0);
  pool.rewrite({.workers = 1, .more = std::string(R"(, "restart": {"ready_timeout_ms": 300})") + kOther});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  pool.wait_log("was not ready within 300 ms", 2);
  CHECK(old.echoes());
  CHECK(Client(pool.port(), "127.0.0.7").slot() == 0);
  // The file as it was: a worker of that takes the place.
  pool.rewrite({.workers = 1, .more = R"(, "restart": {"ready_timeout_ms": 300})"});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  CHECK(Client(pool.port(), "127.0.0.8").greeting());
  const pid_t silent = pool.worker(1);
  CHECK(eventually([&] { return !process_exists(silent); }));
}

TEST_CASE("workers that reject their configuration leave the old ones in place") {
  PoolProcess pool({.mode = "s1=exit2", .workers = 1});
  pool.rewrite({.workers = 1, .more = kOther});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  pool.wait_log("it rejected its configuration and is not started again");
  CHECK(Client(pool.port()).slot() == 0);
}

TEST_CASE("many reloads, each with other workers, end where they began") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client client(pool.port());
  REQUIRE(client.greeting());
  for (int round = 0; round < 30; ++round) {
    pool.rewrite({.workers = size_t(1 + round % 3), .more = round % 2 == 0 ? kOther : ""});
    CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
    CHECK(Client(pool.port(), "127.0.0." + std::to_string(round + 2)).greeting());
    CHECK(client.echoes());
  }
  pool.rewrite({.workers = 2});
  (void)pool.ask(kReload);
  CHECK(eventually([&] { return has(pool.ask(R"({"command": "status"})"), "\"workers_ready\":2"); }));
  client.close();
  CHECK(eventually([&] {
    const std::string workers = pool.ask(R"({"command": "workers"})");
    return !has(workers, "draining") && !has(workers, "starting");
  }));
}

TEST_CASE("a drained worker keeps its connections and gets no more; undrained, it does again") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client first(pool.port(), "127.0.0.1");
  REQUIRE(first.slot() == 0);
  CHECK(pool.ask(R"({"command": "drain", "argument": "0"})") ==
        "{\"drain\":{\"drained_workers\":1,\"connections\":1}}\n");
  for (int i = 1; i < 5; ++i) CHECK(Client(pool.port(), "127.0.0." + std::to_string(i)).slot() == 1);
  CHECK(first.echoes());
  CHECK(has(pool.ask(R"({"command": "workers"})"), "\"drained\":true"));
  // Also the process that is in the slot next.
  ::kill(pool.worker(0), SIGKILL);
  pool.wait_log("is ready after", 3);
  CHECK(Client(pool.port(), "127.0.0.1").slot() == 1);
  CHECK(has(pool.ask(R"({"command": "undrain", "argument": "0"})"), "\"drained_workers\":0"));
  CHECK(Client(pool.port(), "127.0.0.9").slot() == 0);
}

TEST_CASE("a slot that is used again by another worker is no longer drained") {
  PoolProcess pool({.workers = 1});
  CHECK(has(pool.ask(R"({"command": "drain", "argument": "0"})"), "\"drained_workers\":1"));
  pool.rewrite({.workers = 1, .more = kOther});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  pool.wait_log("ended with exit status 0");
  CHECK(Client(pool.port()).slot() == 1);
  pool.rewrite({.workers = 1});
  CHECK(has(pool.ask(kReload), "/smbdirect/idle_timeout_ms"));
  pool.wait_log("ended with exit status 0", 2);
  CHECK(Client(pool.port()).slot() == 0);
}

TEST_CASE("a drained pool takes no connection, whatever is started in it, until it is undrained") {
  PoolProcess pool({.workers = 1});
  Client first(pool.port());
  REQUIRE(first.greeting());
  CHECK(has(pool.ask(R"({"command": "drain"})"), "\"drained_workers\":1,\"connections\":1"));
  CHECK_FALSE(Client(pool.port()).greeting());
  pool.wait_log("the pool was drained by smbdirectctl drain");
  CHECK(has(pool.ask(resize(2)), "\"workers\":2"));
  pool.wait_log("is ready after", 2);
  CHECK_FALSE(Client(pool.port()).greeting());
  CHECK(first.echoes());
  CHECK(has(pool.ask(R"({"command": "undrain"})"), "\"drained_workers\":0"));
  CHECK(Client(pool.port()).greeting());
}

TEST_CASE("what there is not is neither drained nor kicked") {
  PoolProcess pool({.workers = 1});
  CHECK(has(pool.ask(R"({"command": "drain", "argument": "1"})"), "there is no worker 1"));
  CHECK(has(pool.ask(R"({"command": "drain", "argument": "x"})"), "is no number"));
  CHECK(has(pool.ask(R"({"command": "undrain", "argument": "4294967296"})"), "is no number"));
  for (const char* whose : {"1", "192.0.2.1", "00000000-0000-0000-0000-000000000000", "", "x"}) {
    CHECK(has(pool.ask(std::string(R"({"command": "kick", "argument": ")") + whose + "\"}"),
              "no connection has this number, ClientGuid or address"));
  }
}

TEST_CASE("kick ends connections by number and by address, and no others") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  Client one(pool.port(), "127.0.0.1"), two(pool.port(), "127.0.0.2"), more(pool.port(), "127.0.0.2");
  for (Client* client : {&one, &two, &more}) REQUIRE(client->greeting());
  CHECK(has(pool.ask(R"({"command": "kick", "argument": "127.0.0.2"})"), "{\"connections\":2}"));
  CHECK(two.closed_within(5000));
  CHECK(more.closed_within(5000));
  CHECK(one.echoes());
  CHECK(has(pool.ask(R"({"command": "kick", "argument": "1"})"), "{\"connections\":1}"));
  CHECK(one.closed_within(5000));
}

TEST_CASE("the log level changes for the daemon and its workers, by command and by file") {
  PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  CHECK(pool.ask(R"({"command": "log-level", "argument": "error"})") ==
        "{\"log-level\":{\"level\":\"error\"}}\n");
  pool.wait_log("fake worker 0: log level 0");
  pool.wait_log("fake worker 1: log level 0");
  CHECK(has(pool.ask(R"({"command": "log-level", "argument": "loud"})"), "is no log level; allowed: "));
  const size_t told = pool.count_log("reload:");
  pool.rewrite({.workers = 2});  // debug
  CHECK(has(pool.ask(kReload),
            R"({"key":"/log/level","from":"\"error\"","to":"\"debug\"","applies":"at once"})"));
  pool.wait_log("fake worker 1: log level 4");
  CHECK(pool.count_log("reload:") == told + 1);
}
