// SPDX-License-Identifier: MIT
// UNIX stream sockets in the run directory. Supervisor and smbdirectctl; blocks for no longer than the file
// system does.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <sys/un.h>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// ENAMETOOLONG for a path that does not fit.
[[nodiscard]] shm::Result<sockaddr_un> unix_address(const std::string& path);
/// Nonblocking, closed on exec.
[[nodiscard]] shm::UniqueFd unix_socket();
/// For packets (SOCK_SEQPACKET); likewise.
[[nodiscard]] shm::UniqueFd packet_socket();
/// A packet socket, connected to who listens at this path. The error has connect(2)'s errno: ECONNREFUSED,
/// nobody does any more.
[[nodiscard]] shm::Result<shm::UniqueFd> connect_packets(const std::string& path);
/// Mode 0600. False: errno says why.
[[nodiscard]] bool bind_private(int fd, const sockaddr_un& address);
/// Makes the directory that the path is in, where it is missing.
[[nodiscard]] shm::Result<> make_directory_of(const std::string& path);
/// Whose process connected, as the kernel recorded it then.
struct PeerIdentity {
  uid_t user = 0;
  std::vector<gid_t> groups;  // its own and the supplementary ones
};
/// Nothing: the kernel does not say.
[[nodiscard]] std::optional<PeerIdentity> peer_identity(int fd);
/// Opens the socket at this path to a group's members; nothing: to its owner alone, as bind_private made it.
[[nodiscard]] shm::Result<> open_to_group(const std::string& path, std::optional<gid_t> group);

/// A listening socket at this path, in place of any that a daemon left there.
[[nodiscard]] shm::Result<shm::UniqueFd> listen_in_place(const std::string& path, int backlog);

}  // namespace smbdirect::daemon
