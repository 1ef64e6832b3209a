// SPDX-License-Identifier: MIT
// The GUID registry: searches alone and beside a writer that never rests, and what an update costs that
// writer. The scoreboard: what it costs a worker to show itself.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "shm/registry_reader.h"
#include "shm/registry_writer.h"
#include "shm/scoreboard.h"

namespace smbdirect::tests::bench {

namespace {

constexpr size_t kEntries = 4096;
constexpr size_t kClients = kEntries / 2;
constexpr shm::WorkerRef kWorker{0, 1};

shm::Guid guid_number(uint64_t number) {
  shm::Guid guid{};
  for (size_t i = 0; i < 8; ++i) guid.bytes[i] = std::byte(number >> 8 * i);
  guid.bytes[15] = std::byte{1};
  return guid;
}
shm::Host host_number(size_t number) { return {10, uint8_t(number >> 8), uint8_t(number)}; }

/// Half full; with writes, a thread changes one entry after another until destruction.
class Pool {
 public:
  explicit Pool(bool writes) {
    writer_.worker_started(kWorker);
    for (size_t n = 0; n < kClients; ++n) {
      (void)writer_.channel_up(guid_number(n), kWorker, {uint32_t(n + 1), 1}, host_number(n), 0);
    }
    if (writes) {
      thread_ = std::jthread([this](const std::stop_token& stop) {
        for (uint64_t n = 0; !stop.stop_requested(); n = (n + 7) % kClients) {
          (void)writer_.channel_up(guid_number(n), kWorker, {}, {}, 0);
          (void)writer_.channel_down(guid_number(n), kWorker);
          updates_ += 2;
        }
      });
    }
  }
  [[nodiscard]] shm::RegistryWriter& writer() { return writer_; }
  [[nodiscard]] int fd() const { return writer_.fd(); }
  [[nodiscard]] uint64_t updates() const { return updates_; }

 private:
  shm::RegistryWriter writer_ = *shm::RegistryWriter::create(kEntries);
  std::atomic<uint64_t> updates_{0};
  std::jthread thread_;  // ends before what it uses
};

/// One item is one search that must succeed. Threads share the pool, each maps it for itself.
void registry_search(benchmark::State& state, bool writes) {
  static std::unique_ptr<Pool> pool;  // made before the threads pass the loop's first barrier
  if (state.thread_index() == 0) pool = std::make_unique<Pool>(writes);
  std::optional<shm::RegistryReader> reader;
  uint64_t n = uint64_t(state.thread_index()) * 101;
  uint64_t misses = 0;
  for (auto _ : state) {
    if (!reader) reader.emplace(*shm::RegistryReader::open(pool->fd()));
    n = (n + 13) % kClients;
    misses += !reader->find(guid_number(n));
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["misses"] = double(misses);
  if (state.thread_index() == 0) {
    if (writes)
      state.counters["updates/s"] = benchmark::Counter(double(pool->updates()), benchmark::Counter::kIsRate);
    reader.reset();
    pool.reset();
  }
}
BENCHMARK_CAPTURE(registry_search, alone, false)->Threads(1)->Threads(8)->UseRealTime();
BENCHMARK_CAPTURE(registry_search, beside_writer, true)->Threads(1)->Threads(8)->UseRealTime();

void registry_search_for_nobody(benchmark::State& state) {
  const Pool pool(false);
  const auto reader = *shm::RegistryReader::open(pool.fd());
  uint64_t n = 1u << 30;
  for (auto _ : state) benchmark::DoNotOptimize(reader.find(guid_number(++n)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(registry_search_for_nobody);

/// One item is one change of an entry that exists.
void registry_update(benchmark::State& state) {
  Pool pool(false);
  uint64_t n = 0;
  for (auto _ : state) {
    n = (n + 7) % kClients;
    (void)pool.writer().channel_up(guid_number(n), kWorker, {}, {}, 0);
    (void)pool.writer().channel_down(guid_number(n), kWorker);
  }
  state.SetItemsProcessed(2 * state.iterations());
}
BENCHMARK(registry_update);

/// One item is a client that comes and goes: CLAIM, CHANNEL_UP, CHANNEL_DOWN.
void registry_client(benchmark::State& state) {
  Pool pool(false);
  uint64_t n = 1u << 30;
  for (auto _ : state) {
    const shm::Guid guid = guid_number(++n);
    (void)pool.writer().claim(guid, host_number(n), kWorker, n);
    (void)pool.writer().channel_up(guid, kWorker, {1u << 30, 1}, host_number(n), n);
    (void)pool.writer().channel_down(guid, kWorker);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(registry_client);

void registry_workers_at(benchmark::State& state) {
  Pool pool(false);
  size_t n = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(pool.writer().workers_at(host_number(n = (n + 7) % kClients)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(registry_workers_at);

/// A whole-table sweep: a worker of its own for one client, coming and going.
void registry_worker_gone(benchmark::State& state) {
  Pool pool(false);
  shm::WorkerRef worker{1, 0};
  for (auto _ : state) {
    ++worker.generation;
    pool.writer().worker_started(worker);
    (void)pool.writer().channel_up(guid_number(1), worker, {}, {}, 0);
    benchmark::DoNotOptimize(pool.writer().worker_gone(worker));
  }
}
BENCHMARK(registry_worker_gone);

void scoreboard_publish(benchmark::State& state) {
  auto writer = *shm::ScoreboardWriter::create({});
  shm::WorkerSummary summary;
  for (auto _ : state) {
    ++summary.counters[0];
    writer.publish(summary);
  }
}
BENCHMARK(scoreboard_publish);

void scoreboard_row(benchmark::State& state) {
  auto writer = *shm::ScoreboardWriter::create({});
  shm::ConnectionRow row;
  const size_t index = writer.open_row(row).value_or(0);  // it is empty
  for (auto _ : state) {
    ++row.requests;
    writer.update_row(index, row);
  }
}
BENCHMARK(scoreboard_row);

}  // namespace

}  // namespace smbdirect::tests::bench
