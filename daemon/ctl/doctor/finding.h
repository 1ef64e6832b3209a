// SPDX-License-Identifier: MIT
// What one check found: how it is, in words, and what to do when it is not well. Values; smbdirectctl only.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace smbdirect::daemon::doctor {

enum class State : uint8_t { ok, warning, failed, skipped };

struct Finding {
  State state = State::ok;
  std::string what;
  std::string fix;  // of a warning and a failure; never empty there
};
using Findings = std::vector<Finding>;

[[nodiscard]] inline Finding ok(std::string what) { return {State::ok, std::move(what), {}}; }
/// It works, but not for everybody or not as well as it could.
[[nodiscard]] inline Finding warning(std::string what, std::string fix) {
  return {State::warning, std::move(what), std::move(fix)};
}
/// Clients get no SMB Direct.
[[nodiscard]] inline Finding failed(std::string what, std::string fix) {
  return {State::failed, std::move(what), std::move(fix)};
}
/// why: what it needs and does not have here.
[[nodiscard]] inline Finding skipped(std::string why) { return {State::skipped, std::move(why), {}}; }

}  // namespace smbdirect::daemon::doctor
