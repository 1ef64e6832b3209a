// SPDX-License-Identifier: MIT
// All checks of a host, and how they are told to a person or a program. smbdirectctl only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/ctl/doctor/checks.h"

namespace smbdirect::daemon::doctor {

struct Told {
  std::string_view name;
  bool told_when_ok = false;
  Finding finding;
};
using Examination = std::vector<Told>;

[[nodiscard]] Examination examine(const Patient& patient);
[[nodiscard]] size_t count(const Examination& examination, State state);

/// Ailments and the lines of a healthy host; all: also what passed otherwise or was skipped. Ends with a line
/// that says how many failed.
[[nodiscard]] std::string examination_text(const Examination& examination, bool all);
/// {"doctor": [{"name", "state", "what", "fix"}, ...]}: every check.
[[nodiscard]] std::string examination_json(const Examination& examination);

}  // namespace smbdirect::daemon::doctor
