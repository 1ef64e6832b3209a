// SPDX-License-Identifier: MIT
// smbdirectctl top without its terminal: what answers say, what two of them mean, and how it is shown.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/ctl/top/frame.h"
#include "daemon/ctl/top/rates.h"
#include "daemon/ctl/top/reading.h"

using namespace smbdirect::daemon::top;

namespace {

constexpr const char* kStatus =
    R"({"status":{"version":"1.2.3","phase":"serving","uptime_ms":754000,"listeners":"here","workers":2,
        "workers_ready":2,"clients":1,"connections":2}})";

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

Reading pool(int64_t written_ms, const Counts& counts) {
  Reading reading{.version = "1.2.3",
                  .phase = "serving",
                  .listeners = "here",
                  .workers_wanted = 1,
                  .workers_ready = 1,
                  .workers = {},
                  .connections = {}};
  reading.workers.push_back({.slot = 0,
                             .generation = 5,
                             .state = "ready",
                             .connections = 1,
                             .written_ms = written_ms,
                             .counts = counts});
  return reading;
}

std::string text_of(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) text += line.text + "\n";
  return text;
}

/// Many workers and clients, the last of which moves most.
std::pair<Reading, Reading> crowd(uint64_t workers, uint64_t clients) {
  Reading before{.version = "1",
                 .phase = "serving",
                 .listeners = "here",
                 .workers_wanted = workers,
                 .workers_ready = workers,
                 .clients = clients,
                 .workers = {},
                 .connections = {}};
  for (uint64_t slot = 0; slot < workers; ++slot)
    before.workers.push_back({.slot = slot, .state = "ready", .written_ms = 1000});
  for (uint64_t i = 0; i < clients; ++i) {
    before.connections.push_back({.number = i,
                                  .worker = i % workers,
                                  .address = "192.0.2." + std::to_string(i),
                                  .guid = "guid-" + std::to_string(i),
                                  .counts = Counts{}});
  }
  Reading now = before;
  for (WorkerReading& worker : now.workers) worker.written_ms = 2000;
  for (ConnectionReading& connection : now.connections)
    (*connection.counts)[size_t(Flow::rdma_write)] = connection.number * 1000;
  return {before, now};
}

}  // namespace

TEST_CASE("answers as values; a worker's figures have the time at which it wrote them") {
  const auto reading = read_answers(kStatus, R"({"workers":[
      {"slot":0,"state":"ready","generation":7,"drained":true,"open_connections":2,"heartbeat_age_ms":120,
       "smb_requests":1,"bytes_inline_received":2,"bytes_inline_sent":3,"rdma_read_bytes":4,"rdma_write_bytes":5},
      {"slot":1,"state":"starting","generation":8,"drained":false,"open_connections":0,"heartbeat_age_ms":null,
       "smb_requests":null},7]})",
                                    R"({"connections":[
      {"number":9,"worker":0,"client":"[2001:db8::7]:50000","guid":"g","requests":1,"inline_in":2,"inline_out":3,
       "rdma_read":4,"rdma_write":5},
      {"number":10,"worker":0,"client":"192.0.2.7:50001","guid":null,"requests":null}]})",
                                    5000);
  REQUIRE(reading);
  CHECK(reading->phase == "serving");
  CHECK(reading->uptime_ms == 754'000);
  REQUIRE(reading->workers.size() == 2);
  CHECK(reading->workers[0].written_ms == 4880);
  CHECK(reading->workers[0].counts == Counts{1, 2, 3, 4, 5});
  CHECK(reading->workers[0].drained);
  CHECK_FALSE(reading->workers[1].written_ms);
  REQUIRE(reading->connections.size() == 2);
  CHECK(reading->connections[0].address == "2001:db8::7");
  CHECK(reading->connections[0].counts == Counts{1, 2, 3, 4, 5});
  CHECK(reading->connections[1].address == "192.0.2.7");
  CHECK(reading->connections[1].guid.empty());
  CHECK_FALSE(reading->connections[1].counts);
}

TEST_CASE("answers that make no sense are told, and the daemon's own errors") {
  for (const char* odd : {"", "7", "{}", R"({"status":7,"workers":7,"connections":7})"}) {
    CHECK(read_answers(odd, odd, odd, 0).error().contains("makes no sense"));
    CHECK_FALSE(read_answers(kStatus, odd, odd, 0));
    CHECK_FALSE(read_answers(kStatus, R"({"workers":[]})", odd, 0));
  }
  CHECK(read_answers(R"({"error":"not you"})", "", "", 0).error() == "not you");
  CHECK(read_answers(kStatus, R"({"workers":[]})", R"({"connections":[{}]})", 0));
}

TEST_CASE("rates are by the time between the worker's writings, not between the questions") {
  const auto rates = rates_between(pool(1000, {10, 0, 0, 0, 1000}), pool(3000, {30, 4, 0, 0, 9000}));
  REQUIRE(rates.workers[0].rates);
  CHECK(*rates.workers[0].rates == Rates{10, 2, 0, 0, 4000});
  CHECK(rates.all == Rates{10, 2, 0, 0, 4000});
  // It hangs: nothing new.
  CHECK(*rates_between(pool(1000, {10}), pool(1000, {10})).workers[0].rates == Rates{});
}

TEST_CASE("another process in the slot, or one that has written nothing, has no rates") {
  Reading now = pool(2000, {500, 0, 0, 0, 500});
  now.workers[0].generation = 6;
  CHECK_FALSE(rates_between(pool(1000, {10}), now).workers[0].rates);
  now = pool(2000, {500});
  now.workers[0].written_ms.reset();
  CHECK_FALSE(rates_between(pool(1000, {10}), now).workers[0].rates);
  CHECK_FALSE(rates_between(Reading{}, pool(1000, {10})).workers[0].rates);
  CHECK(rates_between(pool(1000, {10}), Reading{}).workers.empty());
}

TEST_CASE("a client is all of its connections, also one that is new; without a GUID it is an address") {
  Reading before = pool(1000, {});
  before.workers.push_back({.slot = 1, .generation = 1, .state = "ready", .written_ms = 1000});
  Reading now = before;
  now.workers[0].written_ms = 2000;
  now.workers[1].written_ms = 1500;
  before.connections = {
      {.number = 1, .worker = 0, .address = "192.0.2.7", .guid = "g", .counts = Counts{1, 0, 0, 0, 10}}};
  now.connections = {
      {.number = 1, .worker = 0, .address = "192.0.2.7", .guid = "g", .counts = Counts{3, 0, 0, 0, 40}},
      {.number = 2, .worker = 1, .address = "192.0.2.8", .guid = "g", .counts = Counts{4, 0, 0, 0, 50}},
      {.number = 3, .worker = 1, .address = "192.0.2.9", .guid = "", .counts = {}},
      {.number = 4, .worker = 7, .address = "192.0.2.9", .guid = "", .counts = Counts{9, 9, 9, 9, 9}},
      {.number = 5, .worker = 1, .address = "192.0.2.1", .guid = "", .counts = {}}};
  const auto rates = rates_between(before, now);
  REQUIRE(rates.clients.size() == 3);
  CHECK(rates.clients[0].guid == "g");
  CHECK(rates.clients[0].connections == 2);
  CHECK(rates.clients[0].addresses == std::set<std::string>{"192.0.2.7", "192.0.2.8"});
  CHECK(rates.clients[0].workers == std::set<uint64_t>{0, 1});
  CHECK(rates.clients[0].rates == Rates{2 + 8, 0, 0, 0, 30 + 100});
  CHECK(rates.clients[1].connections == 2);  // idle ones: more connections first
  CHECK(rates.clients[1].rates == Rates{});
  CHECK(rates.clients[2].addresses == std::set<std::string>{"192.0.2.1"});
}

TEST_CASE("numbers have three digits, and durations two parts") {
  const std::vector<std::pair<double, const char*>> numbers{
      {0, "0"},           {0.4, "0"},        {7, "7"},          {999.4, "999"},   {999.5, "1.00k"},
      {1234, "1.23k"},    {9995, "10.0k"},   {12'345, "12.3k"}, {99'950, "100k"}, {380e6, "380M"},
      {999.6e6, "1.00G"}, {2.5e12, "2.50T"}, {1.8e19, "18.0E"}};
  for (const auto& [value, shown] : numbers) {
    CHECK(short_number(value) == shown);
    CHECK(short_number(value).size() <= 5);
  }
  CHECK(duration_text(59'999) == "59s");
  CHECK(duration_text(725'000) == "12m 05s");
  CHECK(duration_text(11'220'000) == "3h 07m");
  CHECK(duration_text(1'051'200'000) == "12d 4h");
}

TEST_CASE("a frame tells the pool, its workers and its clients, on 80 columns") {
  auto [before, now] = crowd(2, 3);
  now.uptime_ms = 754'000;
  now.listeners = "192.0.2.10 port 5445 (iwarp)";
  now.workers[1].drained = true;
  for (WorkerReading& worker : now.workers) worker.counts[size_t(Flow::rdma_write)] = 1'500'000;
  const std::string text = text_of(frame(now, rates_between(before, now), {.width = 80, .height = 0}));
  CHECK(text ==
        "smbdirectd 1: serving for 12m 34s, 2 of 2 workers ready\n"
        "3 connections of 3 clients; to clients 3.00MB/s, from clients 0B/s\n"
        "listening on 192.0.2.10 port 5445 (iwarp)\n"
        "\n"
        "Per second. RDMA_READ is what clients write, RDMA_WRITE what they read.\n"
        "WORKER  STATE          CONN REQUESTS INLINE_IN INLINE_OUT  RDMA_READ RDMA_WRITE\n"
        "0       ready             0        0         0          0          0      1.50M\n"
        "1       drained           0        0         0          0          0      1.50M\n"
        "all                       0        0         0          0          0      3.00M\n"
        "\n"
        "CLIENT         WORKERS CONN REQUESTS INLINE_IN INLINE_OUT  RDMA_READ RDMA_WRITE\n"
        "192.0.2.2      0          1        0         0          0          0      2.00k\n"
        "192.0.2.1      1          1        0         0          0          0      1.00k\n"
        "192.0.2.0      0          1        0         0          0          0          0\n");
  const auto wide = frame(now, rates_between(before, now), {.width = 160, .height = 0});
  CHECK(has(text_of(wide), " guid-2 "));
  for (const Line& line : wide) {  // the figures of both tables stand below each other
    if (line.emphasis == Emphasis::heading) CHECK(line.text.find("CONN") == wide[5].text.find("CONN"));
  }
}

TEST_CASE("no line is wider than the screen, and no frame higher; what is left out is counted") {
  const auto [before, now] = crowd(64, 100);
  const PoolRates rates = rates_between(before, now);
  for (size_t width = 1; width < 200; width += 7) {
    for (size_t height = 1; height < 200; height += 3) {
      const auto lines = frame(now, rates, {.width = width, .height = height});
      CHECK(lines.size() <= height);
      for (const Line& line : lines) CHECK(line.text.size() <= width);
    }
  }
  const std::string text = text_of(frame(now, rates, {.width = 80, .height = 24}));
  CHECK(has(text, " more\n"));
  CHECK(has(text, "192.0.2.99 "));        // the one that moves most
  CHECK_FALSE(has(text, "192.0.2.10 "));  // and not one of the quieter ones
  const std::string high = text_of(frame(now, rates, {.width = 80, .height = 100}));
  CHECK(has(high, "63      ready"));
  CHECK(has(high, "clients more\n"));
}

TEST_CASE("what is wrong catches the eye") {
  auto [before, now] = crowd(2, 0);
  now.workers[0].state = "backoff";
  now.workers_ready = 1;
  const auto lines = frame(now, rates_between(before, now), {.width = 80, .height = 24});
  CHECK(lines[0].emphasis == Emphasis::alarm);
  CHECK(std::ranges::count(lines, Emphasis::alarm, &Line::emphasis) == 2);
  CHECK(has(text_of(lines), "no client is connected"));
}
