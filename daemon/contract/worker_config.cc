// SPDX-License-Identifier: MIT
// WorkerConfig's way through the sealed memfd: every member by name, none optional, nothing else. Both
// programs are built together, so a difference is a foreign file, never a version to be lenient with.
#include "daemon/contract/worker_config.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <type_traits>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon {
namespace {

using Json = nlohmann::ordered_json;

template <class Config, class Visit>
void visit_members(Config& config, Visit&& visit) {
  visit("log_level", config.log_level);
  visit("user", config.user);
  visit("upstream", config.upstream);
  visit("upstream_address", config.upstream_address);
  visit("upstream_port", config.upstream_port);
  visit("upstream_connect_timeout_ms", config.upstream_connect_timeout_ms);
  visit("channel_area_bytes", config.channel_area_bytes);
  visit("channel_area_bytes_per_worker", config.channel_area_bytes_per_worker);
  visit("channel_operations", config.channel_operations);
  visit("receive_credit_initial", config.receive_credit_initial);
  visit("receive_credit_max", config.receive_credit_max);
  visit("send_credit_target", config.send_credit_target);
  visit("max_send_size", config.max_send_size);
  visit("max_receive_size", config.max_receive_size);
  visit("max_fragmented_size", config.max_fragmented_size);
  visit("max_read_write_size", config.max_read_write_size);
  visit("negotiate_timeout_ms", config.negotiate_timeout_ms);
  visit("idle_timeout_ms", config.idle_timeout_ms);
  visit("keepalive_timeout_ms", config.keepalive_timeout_ms);
  visit("send_credit_timeout_ms", config.send_credit_timeout_ms);
  visit("iwarp_crc", config.iwarp_crc);
  visit("iwarp_max_inbound_reads", config.iwarp_max_inbound_reads);
  visit("iwarp_max_outbound_reads", config.iwarp_max_outbound_reads);
  visit("verbs", config.verbs);
  visit("verbs_max_outbound_reads", config.verbs_max_outbound_reads);
  visit("verbs_busy_poll_us", config.verbs_busy_poll_us);
  visit("verbs_device_idle_ms", config.verbs_device_idle_ms);
  visit("connections", config.connections);
  visit("ipv6_prefix_length", config.ipv6_prefix_length);
  visit("handshake_timeout_ms", config.handshake_timeout_ms);
  visit("progress_timeout_ms", config.progress_timeout_ms);
  visit("upstream_progress_timeout_ms", config.upstream_progress_timeout_ms);
  visit("session_timeout_ms", config.session_timeout_ms);
  visit("buffered_bytes_per_connection", config.buffered_bytes_per_connection);
  visit("buffered_bytes_per_worker", config.buffered_bytes_per_worker);
}

bool read(const Json& value, std::string& out) {
  if (!value.is_string()) return false;
  out = value.get<std::string>();
  return true;
}
bool read(const Json& value, bool& out) {
  if (!value.is_boolean()) return false;
  out = value.get<bool>();
  return true;
}
bool read(const Json& value, shm::log::Level& out) {
  const auto level = value.is_string() ? shm::log::level_from_name(value.get<std::string>()) : std::nullopt;
  if (level) out = *level;
  return level.has_value();
}
constexpr std::array kUpstreams{"connect", "ask", "channel"};

bool read(const Json& value, WorkerConfig::Upstream& out) {
  const auto found = std::ranges::find_if(kUpstreams, [&](const char* name) { return value == name; });
  if (found == kUpstreams.end()) return false;
  out = WorkerConfig::Upstream(found - kUpstreams.begin());
  return true;
}
template <std::unsigned_integral T>
bool read(const Json& value, T& out) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<T>::max()) return false;
  out = T(value.get<uint64_t>());
  return true;
}

}  // namespace

std::string WorkerConfig::to_json() const {
  Json json = Json::object();
  visit_members(*this, [&](const char* name, const auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, shm::log::Level>) {
      json[name] = shm::log::level_name(value);
    } else if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, Upstream>) {
      json[name] = kUpstreams[size_t(value)];
    } else {
      json[name] = value;
    }
  });
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

shm::Result<WorkerConfig> WorkerConfig::from_json(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return shm::fail("worker configuration: not a JSON object");
  WorkerConfig config;
  std::string wrong;
  size_t members = 0;
  visit_members(config, [&](const char* name, auto& value) {
    ++members;
    const auto found = json.find(name);
    if (wrong.empty() && (found == json.end() || !read(*found, value))) {
      wrong = std::string(name) + (found == json.end() ? " is missing" : " has the wrong type or range");
    }
  });
  if (wrong.empty() && json.size() != members) wrong = "unknown members";
  if (!wrong.empty()) {
    return shm::fail("worker configuration: " + wrong +
                     " (supervisor and worker are of different releases?)");
  }
  return config;
}

}  // namespace smbdirect::daemon
