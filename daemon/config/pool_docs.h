// SPDX-License-Identifier: MIT
// What the documentation says of the pool file's keys, made from the table of keys: the JSON schema and
// the list in smbdirectd-pool(5). A test compares both with the files in the repository; the program
// pool-docs writes them anew. Not part of the daemon.
#pragma once

#include <string>
#include <string_view>

namespace smbdirect::daemon {

[[nodiscard]] std::string pool_schema();

/// roff, one .TP paragraph for each key.
[[nodiscard]] std::string pool_manual_keys();

inline constexpr std::string_view kManualBegin =
    ".\\\" BEGIN KEYS (made by pool-docs from the table of keys)\n";
inline constexpr std::string_view kManualEnd = ".\\\" END KEYS\n";

}  // namespace smbdirect::daemon
