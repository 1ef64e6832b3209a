// SPDX-License-Identifier: MIT
// The lines of smb.conf with which smbd tells clients of RDMA ("smbdirectctl doctor --smb-conf"): pure, from
// what is known of the host. smbdirectctl only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/ctl/doctor/patient.h"

namespace smbdirect::daemon::doctor {

/// In bit/s, as the kernel knows it.
[[nodiscard]] std::optional<uint64_t> link_speed(Host& host, const std::string& interface);

/// interfaces = "eth0;capability=RSS,capability=RDMA,speed=25000000000" "lo". Keeps the items of smb.conf
/// that are not about the listeners' interfaces.
[[nodiscard]] std::string interfaces_line(const Patient& patient);

/// Lines for [global], with why in comments.
[[nodiscard]] std::string smb_conf_lines(const Patient& patient);

}  // namespace smbdirect::daemon::doctor
