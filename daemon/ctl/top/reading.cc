// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/reading.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "shm/base/printable.h"

namespace smbdirect::daemon::top {
namespace {

using nlohmann::json;

/// In the order of Flow.
constexpr std::array<std::string_view, kFlows> kOfWorker{
    "smb_requests", "bytes_inline_received", "bytes_inline_sent", "rdma_read_bytes", "rdma_write_bytes"};
constexpr std::array<std::string_view, kFlows> kOfConnection{"requests", "inline_in", "inline_out",
                                                             "rdma_read", "rdma_write"};

/// Nothing: it is not there, or not (yet) a number.
std::optional<uint64_t> number(const json& object, std::string_view member) {
  const auto found = object.find(member);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<uint64_t>();
}

std::string text(const json& object, std::string_view member) {
  const auto found = object.find(member);
  if (found == object.end() || !found->is_string()) return {};
  return shm::printable(found->get<std::string>());
}

std::optional<Counts> counts(const json& object, const std::array<std::string_view, kFlows>& members) {
  Counts out{};
  for (size_t i = 0; i < kFlows; ++i) {
    const auto value = number(object, members[i]);
    if (!value) return std::nullopt;
    out[i] = *value;
  }
  return out;
}

std::string without_port(std::string address) {
  address.resize(std::min(address.size(), address.rfind(':')));
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  return address;
}

std::expected<json, std::string> told(std::string_view answer, const char* command, bool object) {
  json parsed = json::parse(answer, nullptr, false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_string())
    return std::unexpected(shm::printable(parsed["error"].get<std::string>()));
  if (!parsed.is_object() || !parsed.contains(command) ||
      !(object ? parsed[command].is_object() : parsed[command].is_array())) {
    return std::unexpected("the daemon's answer to \"" + std::string(command) +
                           "\" makes no sense; is the daemon of another release?");
  }
  return std::move(parsed[command]);
}

WorkerReading worker_of(const json& row, int64_t now_ms) {
  WorkerReading worker{.slot = number(row, "slot").value_or(0),
                       .generation = number(row, "generation").value_or(0),
                       .state = text(row, "state"),
                       .drained = row.contains("drained") && row["drained"] == true,
                       .connections = number(row, "open_connections").value_or(0),
                       .written_ms = {}};
  const auto counted = counts(row, kOfWorker);
  const auto age = number(row, "heartbeat_age_ms");
  if (!counted || !age) return worker;
  worker.counts = *counted;
  worker.written_ms = now_ms - int64_t(*age);
  return worker;
}

}  // namespace

std::expected<Reading, std::string> read_answers(std::string_view status_answer,
                                                 std::string_view workers_answer,
                                                 std::string_view connections_answer, int64_t now_ms) {
  const auto status = told(status_answer, "status", true);
  if (!status) return std::unexpected(status.error());
  const auto workers = told(workers_answer, "workers", false);
  if (!workers) return std::unexpected(workers.error());
  const auto connections = told(connections_answer, "connections", false);
  if (!connections) return std::unexpected(connections.error());
  Reading reading{.version = text(*status, "version"),
                  .phase = text(*status, "phase"),
                  .listeners = text(*status, "listeners"),
                  .uptime_ms = number(*status, "uptime_ms").value_or(0),
                  .workers_wanted = number(*status, "workers").value_or(0),
                  .workers_ready = number(*status, "workers_ready").value_or(0),
                  .clients = number(*status, "clients").value_or(0),
                  .workers = {},
                  .connections = {}};
  for (const json& row : *workers) {
    if (row.is_object()) reading.workers.push_back(worker_of(row, now_ms));
  }
  for (const json& row : *connections) {
    if (!row.is_object()) continue;
    reading.connections.push_back({.number = number(row, "number").value_or(0),
                                   .worker = number(row, "worker").value_or(0),
                                   .address = without_port(text(row, "client")),
                                   .guid = text(row, "guid"),
                                   .counts = counts(row, kOfConnection)});
  }
  return reading;
}

}  // namespace smbdirect::daemon::top
