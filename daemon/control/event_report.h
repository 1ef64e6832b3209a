// SPDX-License-Identifier: MIT
// A worker's report of its connections' recent events (contract.h, REPORT): read from its memfd, checked, and
// added to the connections that this worker has. A worker is not trusted: a report that is too long, or
// nested deeper than a report can be, is rejected (copying and printing JSON recurse once per level). Pure
// but for reading the descriptor; supervisor process.
#pragma once

#include <cstddef>

#include <nlohmann/json_fwd.hpp>

namespace smbdirect::daemon {

/// 64 events of each of the connections that a worker may have, generously.
inline constexpr size_t kMaxReportBytes = size_t{32} << 20;

/// Discarded (is_discarded()) where it is no report.
[[nodiscard]] nlohmann::ordered_json read_event_report(int fd);

/// connections: those of all workers, each with its "worker" and "number". The report's events go to those
/// of the worker that wrote it.
void add_events(nlohmann::ordered_json& connections, size_t slot, const nlohmann::ordered_json& report);

}  // namespace smbdirect::daemon
