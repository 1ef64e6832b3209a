// SPDX-License-Identifier: MIT
#include "daemon/control/event_report.h"

#include <string>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon {
namespace {

using json = nlohmann::ordered_json;  // members stay in the order they are told in

constexpr size_t kStep = 1 << 16;
/// The report, its connections, one of them, its events, one of them, and what that says.
constexpr int kDeepest = 5;

json no_report() { return json(json::value_t::discarded); }

}  // namespace

json read_event_report(int fd) {
  std::string text(kStep, '\0');
  size_t used = 0;
  for (;;) {
    const ssize_t got = pread(fd, text.data() + used, text.size() - used, off_t(used));
    if (got <= 0) break;
    used += size_t(got);
    if (used > kMaxReportBytes) return no_report();
    text.resize(used + kStep);
  }
  text.resize(used);
  bool shallow = true;
  const auto keep = [&](int depth, json::parse_event_t event, const json&) {
    using enum json::parse_event_t;
    if (depth >= kDeepest && (event == object_start || event == array_start)) shallow = false;
    return shallow;
  };
  json report = json::parse(text, keep, false);
  return shallow ? report : no_report();
}

void add_events(json& connections, size_t slot, const json& report) {
  if (!report.is_object() || !report.contains("connections") || !report["connections"].is_array()) return;
  for (const json& told : report["connections"]) {
    if (!told.is_object() || !told.contains("number") || !told.contains("events")) continue;
    for (json& connection : connections) {
      if (connection["worker"] == slot && connection["number"] == told["number"]) {
        connection["events"] = told["events"];
      }
    }
  }
}

}  // namespace smbdirect::daemon
