// SPDX-License-Identifier: MIT
#include <array>

#include "daemon/ctl/doctor/checks.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr std::array kTable{
    CheckRow{"versions", "the kernel, Samba and rdma-core", Needs::nothing, true, check_versions},
    CheckRow{"root", "whether this program may look everywhere", Needs::nothing, false, check_root},
    CheckRow{"pool-file", "the pool file", Needs::nothing, true, check_pool_file},
    CheckRow{"run-directory", "who may put files into /run_directory", Needs::pool, false,
             check_run_directory},
    CheckRow{"daemon", "the answer at the control socket", Needs::nothing, true, check_daemon},
    CheckRow{"daemon-pool", "whether the daemon runs with this pool file", Needs::daemon, false,
             check_daemon_pool},
    CheckRow{"addresses", "the listeners' addresses", Needs::pool, false, check_addresses},
    CheckRow{"ksmbd", "the kernel's own SMB server", Needs::pool, false, check_ksmbd},
    CheckRow{"ports", "who listens on the listeners' ports", Needs::pool, false, check_ports},
    CheckRow{"port-numbers", "whether clients look for these ports", Needs::pool, false, check_port_numbers},
    CheckRow{"rdma-modules", "the kernel's modules for RDMA", Needs::verbs, false, check_rdma_modules},
    CheckRow{"rdma-devices", "the devices, ports and GIDs of listeners", Needs::verbs, false,
             check_rdma_devices},
    CheckRow{"rdma-rights", "who may open the RDMA devices", Needs::verbs, false, check_rdma_rights},
    CheckRow{"locked-memory", "the limit of memory that is registered", Needs::verbs, false,
             check_locked_memory},
    CheckRow{"smb-conf", "whether Samba accepts smb.conf", Needs::smbd, false, check_smb_conf},
    CheckRow{"multichannel", "\"server multi channel support\"", Needs::smb_conf, false, check_multichannel},
    CheckRow{"interfaces", "\"interfaces\" with capability=RDMA", Needs::smb_conf, false, check_interfaces},
    CheckRow{"smb-ports", "\"smb ports\", \"server smb transports\"", Needs::smb_conf, false,
             check_smb_ports},
    CheckRow{"protocol", "\"server min protocol\", \"server max protocol\"", Needs::smb_conf, false,
             check_protocol},
    CheckRow{"signing", "\"server signing\"", Needs::smb_conf, false, check_signing},
    CheckRow{"encryption", "\"server smb encrypt\"", Needs::smb_conf, false, check_encryption},
    CheckRow{"vfs-module", "the files of vfs_smbdirect", Needs::smb_conf, true, check_vfs_module},
    CheckRow{"vfs-objects", "smbdirect in \"vfs objects\"", Needs::smb_conf, false, check_vfs_objects},
    CheckRow{"vfs-directory", "where smbd's modules listen", Needs::smb_conf, false, check_vfs_directory},
    CheckRow{"ctdb-script", "the event script for CTDB", Needs::smb_conf, false, check_ctdb_script},
    CheckRow{"ctdb-addresses", "addresses that move and those that stay", Needs::smb_conf, false,
             check_ctdb_addresses},
    CheckRow{"ctdb-mode", "the upstream mode beside CTDB", Needs::smb_conf, false, check_ctdb_mode},
    CheckRow{"upstream-mode", "what the upstream mode needs of this host", Needs::pool, false,
             check_upstream_mode},
    CheckRow{"smbd", "an SMB2 NEGOTIATE to smbd", Needs::smbd, true, check_smbd},
    CheckRow{"path", "an SMB Direct connection to each listener", Needs::daemon, true, check_path},
};

}  // namespace

std::span<const CheckRow> check_table() { return kTable; }

}  // namespace smbdirect::daemon::doctor
