// SPDX-License-Identifier: MIT
#include "daemon/control/pool_report.h"

#include <algorithm>
#include <map>
#include <set>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "daemon/build_paths.h"
#include "daemon/config/pool_keys.h"

namespace smbdirect::daemon {
namespace {

using json = nlohmann::ordered_json;  // members stay in the order they are told in

void add_totals(json& object, const shm::Totals& totals) {
  for (const shm::Total& total : totals) object[std::string(total.name)] = total.count;
}

void add_bytes(json& object, const std::array<uint64_t, shm::kTransfers.size()>& bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) object[std::string(shm::kTransfers[i])] = bytes[i];
}

/// What is as it should be needs no words.
template <class State, class Row>
void add_state(json& object, const std::string& name, State state, const Row& row) {
  object[name] = row.name.empty() ? json() : json(row.name);
  object[name + "_reason"] = row.name.empty() || state == State::used ? json() : json(row.text);
}

std::string_view mode_name(UpstreamMode mode) {
  const auto key = std::ranges::find(pool_keys(), std::string_view("/upstream/mode"), &Key::pointer);
  return key->choices[size_t(mode)];
}

json latency_json(const shm::Latencies& latencies) {
  json out = json::object();
  for (size_t i = 0; i < shm::kOperations; ++i)
    out[std::string(shm::kOperationTable[i].name)] = {{"sum_us", latencies[i].sum_us},
                                                      {"buckets", latencies[i].counts}};
  return out;
}

bool is_known(const shm::Guid& guid) { return guid != shm::Guid{}; }

}  // namespace

PoolReport::PoolReport(shm::Loop& loop, const Parts& parts, const Scoreboards& scoreboards)
    : loop_(loop), parts_(parts), scoreboards_(scoreboards), since_ms_(loop.now()) {}

json PoolReport::status() const {
  const auto ready = parts_.workers.count(WorkerState::ready);
  json out{{"version", kVersion},
           {"pid", getpid()},
           {"phase", parts_.phase()},
           {"uptime_ms", loop_.now() - since_ms_},
           {"listeners", parts_.listeners.text()},
           {"leaving", parts_.leaving()},
           {"upstream", mode_name(parts_.config.upstream_mode)},
           {"workers", parts_.config.workers},
           {"workers_ready", ready},
           {"workers_started", parts_.workers.processes_started()},
           {"workers_lost", workers_lost_}};
  if (const pid_t former = parts_.former(); former != 0) out["draining_former_pid"] = former;
  add_totals(out, parts_.dispatcher.totals());
  add_totals(out, parts_.smbd_requests.totals());
  add_totals(out, parts_.module_requests.totals());
  add_totals(out, parts_.clients.totals());
  if (parts_.config.upstream_mode == UpstreamMode::native) {
    const pid_t main = parts_.peers.main_pid();
    out["main_process"] = main == 0 ? json() : json(main);
    add_totals(out, parts_.peers.totals());
  }
  return out;
}

json PoolReport::workers() const {
  json out = json::array();
  const bool whole =
      parts_.workers.count_if([](const WorkerSlot& slot) { return slot.active(); }) >= parts_.config.workers;
  for (size_t slot = 0; slot < parts_.workers.size(); ++slot) {
    const WorkerSlot& worker = parts_.workers[slot];
    if (whole && worker.state() == WorkerState::stopped) continue;  // a slot that is free now
    json row{{"slot", slot},
             {"pid", worker.has_process() ? json(worker.pid()) : json()},
             {"state", state_name(worker.state())},
             {"generation", worker.generation()},
             {"drained", worker.held()},
             {"open_connections", parts_.dispatcher.connections_of(slot)},
             {"heartbeat_age_ms", nullptr}};
    const shm::ScoreboardReader* scoreboard = scoreboards_.of(slot);
    const auto summary = scoreboard == nullptr ? std::nullopt : scoreboard->summary();
    if (scoreboard != nullptr) {
      const uint64_t now = loop_.now();
      row["heartbeat_age_ms"] = now - std::min(now, scoreboard->heartbeat_ms());
    }
    for (size_t i = 0; i < shm::kCounters; ++i) {
      row[std::string(shm::kCounterTable[i].name)] = summary ? json(summary->counters[i]) : json();
    }
    row["latency"] = summary ? latency_json(summary->latencies) : json();
    out.push_back(std::move(row));
  }
  return out;
}

std::vector<shm::ConnectionRow> PoolReport::rows_of(size_t slot) const {
  std::vector<shm::ConnectionRow> rows;
  const shm::ScoreboardReader* scoreboard = scoreboards_.of(slot);
  if (scoreboard == nullptr) return rows;
  for (size_t i = 0; i < scoreboard->rows(); ++i) {
    const auto row = scoreboard->row(i);
    if (row && parts_.dispatcher.connection_table().addresses(row->connection, slot) != nullptr)
      rows.push_back(*row);
  }
  return rows;
}

json PoolReport::connections() const {
  json out = json::array();
  for (size_t slot = 0; slot < parts_.workers.size(); ++slot) {
    const std::vector<shm::ConnectionRow> rows = rows_of(slot);
    for (const shm::ConnectionId connection : parts_.dispatcher.connection_table().connections_of(slot)) {
      const auto* addresses = parts_.dispatcher.connection_table().addresses(connection, slot);
      json line{{"number", std::to_underlying(connection)},
                {"worker", slot},
                {"client", shm::address_text(addresses->peer)},
                {"local", shm::address_text(addresses->local)}};
      const auto row = std::ranges::find(rows, connection, &shm::ConnectionRow::connection);
      if (row == rows.end()) {
        for (const CtlColumn& column : ctl_table()[size_t(CtlCommand::connections)].columns) {
          if (!line.contains(column.member)) line[std::string(column.member)] = nullptr;
          if (!column.reason.empty()) line[std::string(column.reason)] = nullptr;
        }
      } else {
        const uint64_t now = loop_.now();
        line["phase"] = shm::kConnectionPhases[size_t(row->phase)];
        add_state(line, "area", row->area, shm::area_state_row(row->area));
        add_state(line, "direct", row->direct, shm::direct_state_row(row->direct));
        line["direct_files"] = row->direct_files;
        line["direct_reads"] = row->direct_reads;
        line["direct_writes"] = row->direct_writes;
        line["guid"] = is_known(row->guid) ? json(shm::guid_text(row->guid)) : json();
        line["age_ms"] = now - std::min(now, row->since_ms);
        line["requests"] = row->requests;
        line["send_credits"] = row->send_credits;
        line["receive_credits"] = row->receive_credits;
        add_bytes(line, row->bytes);
      }
      out.push_back(std::move(line));
    }
  }
  return out;
}

json PoolReport::clients() {
  struct Sum {
    std::array<uint64_t, shm::kTransfers.size()> bytes{};
    std::set<uint32_t> smbd;
    uint64_t direct_reads = 0, direct_writes = 0;
    std::set<std::string_view> direct;  // states of its connections
  };
  std::map<shm::Guid, Sum> sums;
  const SmbdLookup& owners = owners_.get();
  const bool its_own_address = parts_.config.upstream_mode != UpstreamMode::connect;
  for (size_t slot = 0; slot < parts_.workers.size(); ++slot) {
    for (const shm::ConnectionRow& row : rows_of(slot)) {
      Sum& sum = sums[row.guid];
      for (size_t i = 0; i < row.bytes.size(); ++i) sum.bytes[i] += row.bytes[i];
      sum.direct_reads += row.direct_reads;
      sum.direct_writes += row.direct_writes;
      if (const auto name = shm::direct_state_row(row.direct).name; !name.empty()) sum.direct.insert(name);
      const auto owner = owners.owner(row.upstream_remote_port, row.upstream_local_port,
                                      its_own_address ? std::optional(row.peer) : std::nullopt);
      if (owner) sum.smbd.insert(*owner);
    }
  }
  json out = json::array();
  for (const shm::Entry& entry : parts_.clients.list()) {
    json line{{"guid", shm::guid_text(entry.guid)}, {"state", shm::state_name(entry.state)},
              {"addresses", json::array()},         {"channels", entry.channels()},
              {"workers", json::array()},           {"smbd", json::array()}};
    for (const shm::Host& host : entry.addresses) line["addresses"].push_back(shm::host_text(host));
    for (size_t slot = 0; slot < shm::kWorkerSlots; ++slot) {
      if (entry.has_worker(slot)) line["workers"].push_back(slot);
    }
    Sum& sum = sums[entry.guid];
    if (entry.peer.known()) sum.smbd.insert(entry.peer.pid);
    for (const uint32_t pid : sum.smbd) line["smbd"].push_back(pid);
    add_bytes(line, sum.bytes);
    line["direct_reads"] = sum.direct_reads;
    line["direct_writes"] = sum.direct_writes;
    line["direct"] = json::array();
    for (const std::string_view state : sum.direct) line["direct"].push_back(state);
    out.push_back(std::move(line));
  }
  return out;
}

}  // namespace smbdirect::daemon
