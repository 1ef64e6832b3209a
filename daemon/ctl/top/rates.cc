// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/rates.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

namespace smbdirect::daemon::top {
namespace {

/// A counter that has gone back counts from 0.
Rates per_second(const Counts& before, const Counts& now, double seconds) {
  Rates out{};
  if (seconds <= 0) return out;
  for (size_t i = 0; i < kFlows; ++i) {
    const uint64_t more = now[i] >= before[i] ? now[i] - before[i] : now[i];
    out[i] = double(more) / seconds;
  }
  return out;
}

void add(Rates& sum, const Rates& more) {
  for (size_t i = 0; i < kFlows; ++i) sum[i] += more[i];
}

double bytes(const Rates& rates) {
  return std::accumulate(rates.begin(), rates.end(), 0.0) - rates[size_t(Flow::requests)];
}

/// Between a worker's two writings; nothing: the two are not of one process.
std::optional<double> seconds_between(const Reading& before, const WorkerReading& now) {
  const auto was = std::ranges::find(before.workers, now.slot, &WorkerReading::slot);
  if (was == before.workers.end() || was->generation != now.generation) return std::nullopt;
  if (!was->written_ms || !now.written_ms) return std::nullopt;
  return double(*now.written_ms - *was->written_ms) / 1000;
}

std::vector<ClientRates> clients_between(const Reading& before, const Reading& now,
                                         const std::map<uint64_t, double>& seconds) {
  std::map<uint64_t, Counts> counted;
  for (const ConnectionReading& connection : before.connections) {
    if (connection.counts) counted[connection.number] = *connection.counts;
  }
  std::map<std::pair<std::string, std::string>, ClientRates> found;  // by GUID, without one by address
  for (const ConnectionReading& connection : now.connections) {
    ClientRates& client =
        found[{connection.guid, connection.guid.empty() ? connection.address : std::string()}];
    client.guid = connection.guid;
    client.addresses.insert(connection.address);
    client.workers.insert(connection.worker);
    ++client.connections;
    const auto elapsed = seconds.find(connection.worker);
    if (!connection.counts || elapsed == seconds.end()) continue;
    const auto was = counted.find(connection.number);
    // One that was not there before has counted everything since.
    add(client.rates,
        per_second(was == counted.end() ? Counts{} : was->second, *connection.counts, elapsed->second));
  }
  std::vector<ClientRates> clients;
  for (auto& [key, client] : found) clients.push_back(std::move(client));
  std::ranges::stable_sort(clients, [](const ClientRates& one, const ClientRates& other) {
    return std::tuple(bytes(one.rates), one.rates[size_t(Flow::requests)], one.connections) >
           std::tuple(bytes(other.rates), other.rates[size_t(Flow::requests)], other.connections);
  });
  return clients;
}

}  // namespace

PoolRates rates_between(const Reading& before, const Reading& now) {
  PoolRates pool;
  std::map<uint64_t, double> seconds;  // by slot
  for (const WorkerReading& worker : now.workers) {
    WorkerRates& row = pool.workers.emplace_back(WorkerRates{.slot = worker.slot,
                                                             .state = worker.state,
                                                             .drained = worker.drained,
                                                             .connections = worker.connections,
                                                             .rates = {}});
    const auto elapsed = seconds_between(before, worker);
    if (!elapsed) continue;
    const auto was = std::ranges::find(before.workers, worker.slot, &WorkerReading::slot);
    row.rates = per_second(was->counts, worker.counts, *elapsed);
    add(pool.all, *row.rates);
    seconds[worker.slot] = *elapsed;
  }
  pool.clients = clients_between(before, now, seconds);
  return pool;
}

}  // namespace smbdirect::daemon::top
