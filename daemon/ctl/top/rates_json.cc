// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/rates_json.h"

#include <array>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon::top {
namespace {

using json = nlohmann::ordered_json;

constexpr std::array<std::string_view, kFlows> kNames{"requests", "inline_in", "inline_out", "rdma_read",
                                                      "rdma_write"};

json per_second(const std::optional<Rates>& rates) {
  json object = json::object();
  for (size_t i = 0; i < kFlows; ++i) object[std::string(kNames[i])] = rates ? json((*rates)[i]) : json();
  return object;
}

}  // namespace

std::string rates_json(const Reading& now, const PoolRates& rates) {
  json workers = json::array(), clients = json::array();
  for (const WorkerRates& worker : rates.workers) {
    workers.push_back({{"slot", worker.slot},
                       {"state", worker.state},
                       {"drained", worker.drained},
                       {"connections", worker.connections},
                       {"per_second", per_second(worker.rates)}});
  }
  for (const ClientRates& client : rates.clients) {
    clients.push_back({{"guid", client.guid.empty() ? json() : json(client.guid)},
                       {"addresses", client.addresses},
                       {"workers", client.workers},
                       {"connections", client.connections},
                       {"per_second", per_second(client.rates)}});
  }
  const json top{{"version", now.version},        {"phase", now.phase},
                 {"uptime_ms", now.uptime_ms},    {"per_second", per_second(rates.all)},
                 {"workers", std::move(workers)}, {"clients", std::move(clients)}};
  return json{{"top", top}}.dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace smbdirect::daemon::top
