// SPDX-License-Identifier: MIT
// TCP streams as the kernel knows them, and which descriptors of another process are such streams. No table
// of the kernel's is read, so that the process may be in any network namespace. Needs what ptrace(2) needs
// (CAP_SYS_PTRACE for processes of others, or that have changed their user). Supervisor; blocks for as long
// as the kernel takes to list one process' descriptors. A copy of the process' descriptor is open meanwhile.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <sys/types.h>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

struct TcpStream {
  uint64_t network = 0;  // the namespace's cookie; 0 where the kernel has none (before Linux 5.14)
  shm::Host local{};
  shm::Host remote{};
  uint16_t local_port = 0;
  uint16_t remote_port = 0;

  auto operator<=>(const TcpStream&) const = default;
  [[nodiscard]] TcpStream other_end() const { return {network, remote, local, remote_port, local_port}; }
};
/// Nothing for what is no established TCP connection.
[[nodiscard]] std::optional<TcpStream> tcp_stream(int descriptor);

/// The inodes of the sockets that a process has open; none of one that is gone, or not ours to look into.
[[nodiscard]] std::vector<uint64_t> sockets_of(pid_t process);

struct HeldStream {
  TcpStream stream;
  int number = -1;  // the descriptor's, in that process
};
/// All of that process. The error: it is gone (ESRCH), or is not ours to look into (EPERM, EACCES).
[[nodiscard]] shm::Result<std::vector<HeldStream>> streams_of(pid_t process);
/// Whether it is so still.
[[nodiscard]] bool has_stream(pid_t process, const HeldStream& held);

}  // namespace smbdirect::daemon
