// SPDX-License-Identifier: MIT
// The documentation of the pool file's keys, made from the table of keys: the JSON schema and the list in
// smbdirectd-pool(5). The build runs the program pool-docs, which writes both. Not part of the daemon.
#pragma once

#include <string>
#include <string_view>

namespace smbdirect::daemon {

[[nodiscard]] std::string pool_schema();

/// roff, one .TP paragraph for each key.
[[nodiscard]] std::string pool_manual_keys();

/// The line of the page that the list takes the place of begins so.
inline constexpr std::string_view kManualPlace = ".\\\" KEYS:";

}  // namespace smbdirect::daemon
