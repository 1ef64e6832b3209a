// SPDX-License-Identifier: MIT
// UNIX stream sockets in the run directory. Supervisor and smbdirectctl; blocks for no longer than the file
// system does.
#pragma once

#include <string>
#include <sys/un.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// ENAMETOOLONG for a path that does not fit.
[[nodiscard]] shm::Result<sockaddr_un> unix_address(const std::string& path);
/// Nonblocking, closed on exec.
[[nodiscard]] shm::UniqueFd unix_socket();
/// Mode 0600. False: errno says why.
[[nodiscard]] bool bind_private(int fd, const sockaddr_un& address);
/// Makes the directory that the path is in, where it is missing.
[[nodiscard]] shm::Result<> make_directory_of(const std::string& path);
/// Whether the other end is root's or this process's own user's.
[[nodiscard]] bool is_trusted(int fd);

/// A listening socket at this path, in place of any that a daemon left there.
[[nodiscard]] shm::Result<shm::UniqueFd> listen_in_place(const std::string& path, int backlog);

}  // namespace smbdirect::daemon
