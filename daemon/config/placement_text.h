// SPDX-License-Identifier: MIT
// The text of the pool key /placement: "none", "auto", or a list of processors as the kernel writes it
// ("0-3,8"). Pure; the supervisor.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace smbdirect::daemon {

inline constexpr std::string_view kNoPlacement = "none";
inline constexpr std::string_view kAutomaticPlacement = "auto";
inline constexpr unsigned kMostProcessors = 1024;  // CPU_SETSIZE

/// In ascending order, each once; nothing: it is no list, or an empty one.
[[nodiscard]] std::optional<std::vector<unsigned>> parse_processor_list(std::string_view text);
[[nodiscard]] bool is_placement(std::string_view text);

}  // namespace smbdirect::daemon
