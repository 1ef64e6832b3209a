// SPDX-License-Identifier: MIT
#include "daemon/os/own_address.h"

#include <cerrno>
#include <sys/socket.h>

#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// A socket can be bound to no others.
bool is_own_address(const shm::Host& host) {
  const auto address = shm::address_from_text(shm::host_text(host), 0);
  if (!address) return true;
  const shm::UniqueFd fd(socket(address->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return !fd.valid() ||
         bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), shm::length_of(*address)) == 0 ||
         errno != EADDRNOTAVAIL;
}

}  // namespace smbdirect::daemon
