// SPDX-License-Identifier: MIT
// WorkerConfig's way through the sealed memfd: every member by name, none optional, nothing else. Both
// programs are built together, so a difference is a foreign file, never a version to be lenient with.
#include "daemon/contract/worker_config.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
struct Member {
  const char* name;
  T WorkerConfig::* at;
};
#define MEMBER(name) \
  Member { #name, &WorkerConfig::name }
constexpr std::tuple kMembers{
    MEMBER(log_level),
    MEMBER(user),
    MEMBER(upstream),
    MEMBER(upstream_address),
    MEMBER(upstream_port),
    MEMBER(upstream_connect_timeout_ms),
    MEMBER(module_area),
    MEMBER(module_area_threshold),
    MEMBER(module_area_bytes),
    MEMBER(module_area_huge_pages),
    MEMBER(module_area_bytes_per_worker),
    MEMBER(direct),
    MEMBER(direct_files),
    MEMBER(direct_busy_poll_us),
    MEMBER(native_area_bytes),
    MEMBER(native_area_bytes_per_worker),
    MEMBER(native_operations),
    MEMBER(receive_credit_initial),
    MEMBER(receive_credit_max),
    MEMBER(send_credit_target),
    MEMBER(max_send_size),
    MEMBER(max_receive_size),
    MEMBER(max_fragmented_size),
    MEMBER(max_read_write_size),
    MEMBER(negotiate_timeout_ms),
    MEMBER(idle_timeout_ms),
    MEMBER(keepalive_timeout_ms),
    MEMBER(send_credit_timeout_ms),
    MEMBER(iwarp_crc),
    MEMBER(iwarp_max_inbound_reads),
    MEMBER(iwarp_max_outbound_reads),
    MEMBER(verbs),
    MEMBER(verbs_max_outbound_reads),
    MEMBER(verbs_busy_poll_us),
    MEMBER(verbs_device_idle_ms),
    MEMBER(connections),
    MEMBER(ipv6_prefix_length),
    MEMBER(handshake_timeout_ms),
    MEMBER(progress_timeout_ms),
    MEMBER(upstream_progress_timeout_ms),
    MEMBER(session_timeout_ms),
    MEMBER(buffered_bytes_per_connection),
    MEMBER(buffered_bytes_per_worker),
};
#undef MEMBER
constexpr size_t kMemberCount = std::tuple_size_v<decltype(kMembers)>;

// One that is forgotten above would silently keep its default.
struct Anything {
  template <class T>
  operator T() const;  // NOLINT: to whatever a member is
};
template <size_t... kAt>
consteval bool has_members(std::index_sequence<kAt...> /*all*/) {
  return requires { WorkerConfig{(void(kAt), Anything{})...}; };
}
static_assert(has_members(std::make_index_sequence<kMemberCount>()) &&
                  !has_members(std::make_index_sequence<kMemberCount + 1>()),
              "a member of WorkerConfig is missing in kMembers");

template <class Config, class Visit>
void visit_members(Config& config, Visit&& visit) {
  std::apply([&](const auto&... member) { (visit(member.name, config.*member.at), ...); }, kMembers);
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
constexpr std::array kUpstreams{"connect", "ask", "native"};

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
  visit_members(config, [&](const char* name, auto& value) {
    const auto found = json.find(name);
    if (wrong.empty() && (found == json.end() || !read(*found, value))) {
      wrong = std::string(name) + (found == json.end() ? " is missing" : " has the wrong type or range");
    }
  });
  if (wrong.empty() && json.size() != kMemberCount) wrong = "unknown members";
  if (!wrong.empty()) {
    return shm::fail("worker configuration: " + wrong +
                     " (supervisor and worker are of different releases?)");
  }
  return config;
}

}  // namespace smbdirect::daemon
