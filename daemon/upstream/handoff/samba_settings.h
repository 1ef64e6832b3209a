// SPDX-License-Identifier: MIT
// The parts of Samba's configuration that mode "handoff" depends on, read by Samba's own testparm, because
// only Samba can parse smb.conf in full (includes, the registry). Supervisor, at start.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// What every smbd of ours is started with beside its configuration file. With durable handles `smbd -i`
/// panics when a client leaves (an assertion in scavenger.c, Samba 4.17 to 4.25). An option on the command
/// line wins over [global] and over each share; check_durable_handles() looks whether it did.
inline constexpr const char* kNoDurableHandles = "--option=durable handles=no";

/// The sections of testparm's output in which durable handles are on.
[[nodiscard]] std::vector<std::string> sections_with_durable_handles(std::string_view testparm_output);

struct Samba {
  std::string testparm;
  std::string smb_conf;  // empty: Samba's own default

  /// Of the smbd that smb.conf describes.
  [[nodiscard]] shm::Result<std::string> pid_directory() const;
  /// An error that names the shares, where durable handles stay on in spite of kNoDurableHandles.
  [[nodiscard]] shm::Result<> check_durable_handles() const;
};

}  // namespace smbdirect::daemon
