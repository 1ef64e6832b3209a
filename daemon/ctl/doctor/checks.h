// SPDX-License-Identifier: MIT
// The checks: one table of them, in the order in which they are told, causes before effects. Each is a
// function of what is known of a host and of what it looks at there itself. smbdirectctl only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "daemon/ctl/doctor/finding.h"
#include "daemon/ctl/doctor/patient.h"

namespace smbdirect::daemon::doctor {

/// What a check cannot do without; it is skipped where that is missing.
enum class Needs : uint8_t { nothing, pool, verbs, daemon, smbd, smb_conf };

struct CheckRow {
  std::string_view name;
  std::string_view looks_at;
  Needs needs;
  bool told_when_ok;  // the few lines of a healthy host
  Findings (*check)(const Patient&);
};
[[nodiscard]] std::span<const CheckRow> check_table();

// pool_checks.cc
[[nodiscard]] Findings check_versions(const Patient& patient);
[[nodiscard]] Findings check_root(const Patient& patient);
[[nodiscard]] Findings check_pool_file(const Patient& patient);
[[nodiscard]] Findings check_run_directory(const Patient& patient);
[[nodiscard]] Findings check_daemon(const Patient& patient);
[[nodiscard]] Findings check_daemon_pool(const Patient& patient);
// listener_checks.cc
[[nodiscard]] Findings check_addresses(const Patient& patient);
[[nodiscard]] Findings check_ports(const Patient& patient);
[[nodiscard]] Findings check_port_numbers(const Patient& patient);
[[nodiscard]] Findings check_ksmbd(const Patient& patient);
[[nodiscard]] Findings check_path(const Patient& patient);
// rdma_checks.cc
[[nodiscard]] Findings check_rdma_modules(const Patient& patient);
[[nodiscard]] Findings check_rdma_devices(const Patient& patient);
[[nodiscard]] Findings check_rdma_rights(const Patient& patient);
[[nodiscard]] Findings check_locked_memory(const Patient& patient);
// smb_conf_checks.cc
[[nodiscard]] Findings check_smb_conf(const Patient& patient);
[[nodiscard]] Findings check_multichannel(const Patient& patient);
[[nodiscard]] Findings check_interfaces(const Patient& patient);
[[nodiscard]] Findings check_smb_ports(const Patient& patient);
[[nodiscard]] Findings check_protocol(const Patient& patient);
[[nodiscard]] Findings check_signing(const Patient& patient);
[[nodiscard]] Findings check_encryption(const Patient& patient);
// vfs_checks.cc
[[nodiscard]] Findings check_vfs_module(const Patient& patient);
[[nodiscard]] Findings check_vfs_objects(const Patient& patient);
[[nodiscard]] Findings check_vfs_directory(const Patient& patient);
// ctdb_checks.cc
[[nodiscard]] Findings check_ctdb_script(const Patient& patient);
[[nodiscard]] Findings check_ctdb_addresses(const Patient& patient);
[[nodiscard]] Findings check_ctdb_mode(const Patient& patient);
// smbd_checks.cc
[[nodiscard]] Findings check_smbd(const Patient& patient);
[[nodiscard]] Findings check_upstream_mode(const Patient& patient);

}  // namespace smbdirect::daemon::doctor
