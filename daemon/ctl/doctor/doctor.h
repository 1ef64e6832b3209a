// SPDX-License-Identifier: MIT
// "smbdirectctl doctor": examines this host and says what to do. smbdirectctl only.
#pragma once

#include <string>

#include "daemon/ctl/doctor/host.h"
#include "daemon/ctl/options.h"

namespace smbdirect::daemon::doctor {

struct Diagnosis {
  bool healthy = true;
  std::string text;
};
[[nodiscard]] Diagnosis diagnose(Host& host, const DoctorOptions& options, bool json);

}  // namespace smbdirect::daemon::doctor
