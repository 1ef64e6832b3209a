// SPDX-License-Identifier: MIT
// The registry and the scoreboard under one writing and several reading threads, built with ThreadSanitizer:
// what processes do to each other, where a tool can see it. A program of its own, for nothing else may be
// built that way.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "registry_support.h"
#include "shm/scoreboard.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;

namespace {

constexpr size_t kReaders = 3;

/// Runs `read` in several threads, again and again, until `write` has returned.
template <class Write, class Read>
void beside(Write&& write, Read&& read) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.reserve(kReaders);
  for (size_t i = 0; i < kReaders; ++i) {
    threads.emplace_back([&] {
      while (!stop) read();
    });
  }
  write();
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("searches beside a busy writer") {
  auto writer = *shm::RegistryWriter::create(16);
  writer.worker_started({0, 1});
  writer.worker_started({1, 1});
  const auto reader = *shm::RegistryReader::open(writer.fd());
  const shm::Guid stable = guid_number(1000);
  REQUIRE(writer.channel_up(stable, {1, 1}, {9999, 1}, {}, 0) == shm::Report::done);
  std::atomic<uint64_t> hits{0}, wrong{0};
  beside(
      [&] {
        std::mt19937_64 random(seed());
        for (uint64_t i = 0; i < rounds(30'000) || (hits == 0 && i < 10'000'000); ++i) {
          const uint64_t n = 1 + random() % 10;
          switch (random() % 4) {
            case 0:
              (void)writer.claim(guid_number(n), host_number(uint32_t(n)), {0, 1}, n);
              break;
            case 1:
              (void)writer.channel_up(guid_number(n), {0, 1}, {uint32_t(n), n}, host_number(uint32_t(n)), n);
              break;
            case 2:
              (void)writer.channel_down(guid_number(n), {0, 1});
              break;
            default:
              (void)writer.peer_gone({uint32_t(n), n});
          }
        }
      },
      [&] {
        for (uint64_t n = 1; n <= 10; ++n) {
          const auto entry = reader.find(guid_number(n));
          if (!entry) continue;
          ++hits;
          wrong += number_of(entry->guid) != n || entry->since_ms != n || entry->addresses.at(0)[15] != n ||
                   (entry->peer.known() && entry->peer.pid != n);
        }
        wrong += !reader.find(stable);
      });
  CHECK(hits > 0);
  CHECK(wrong == 0);
}

TEST_CASE("a scoreboard read while it is written") {
  auto writer = *shm::ScoreboardWriter::create({1, 2, 3}, 4);
  const auto reader = *shm::ScoreboardReader::open(writer.fd());
  std::atomic<uint64_t> wrong{0}, rows{0};
  beside(
      [&] {
        shm::WorkerSummary summary;
        for (uint64_t i = 1; i < rounds(30'000) || (rows == 0 && i < 10'000'000); ++i) {
          summary.connections.fill(i);
          summary.counters.fill(i);
          summary.latencies.back().counts.fill(i);
          writer.publish(summary);
          writer.beat(i);
          shm::ConnectionRow row;
          row.requests = row.since_ms = i;
          row.connection = shm::ConnectionId{i};
          row.bytes.fill(i);
          const auto index = writer.open_row(row);
          row.requests = row.since_ms = i + 1;
          row.connection = shm::ConnectionId{i + 1};
          row.bytes.fill(i + 1);
          writer.update_row(*index, row);
          writer.close_row(*index);
        }
      },
      [&] {
        if (const auto summary = reader.summary()) {
          wrong += summary->counters.front() != summary->counters.back() ||
                   summary->connections.front() != summary->counters.back() ||
                   summary->latencies.back().counts.back() != summary->counters.front();
        }
        (void)reader.heartbeat_ms();
        for (size_t i = 0; i < reader.rows(); ++i) {
          const auto row = reader.row(i);
          if (!row) continue;
          ++rows;
          wrong += row->connection != shm::ConnectionId{row->requests} || row->bytes.back() != row->requests;
        }
      });
  CHECK(rows > 0);
  CHECK(wrong == 0);
}
