// SPDX-License-Identifier: MIT
// What a worker wrote about its connections' recent events (contract.h, REPORT), as far as it can be
// believed: read from its memfd, and put beside the connections that this worker has. A worker is not
// trusted: what is too long, or nested deeper than a report is, is no report at all (copying and printing
// JSON goes one call deeper for each level of it). Pure but for reading the descriptor; supervisor process.
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
