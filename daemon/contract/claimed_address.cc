// SPDX-License-Identifier: MIT
#include "daemon/contract/claimed_address.h"

namespace smbdirect::daemon {
namespace {

/// fe80::/10: every RoCE port has one, made from its hardware address, and InfiniBand's subnet prefix is of
/// it mostly.
bool is_link_local(const shm::Host& gid) { return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80; }

}  // namespace

bool is_false_claim(const shm::Host& claimed, const CmGids& gids) {
  if (gids.path == shm::Host{} || gids.path == claimed) return false;
  if (shm::is_ipv4(gids.path)) return true;
  // Only on RoCE does the kernel make a GID of the address.
  return gids.address == claimed && !is_link_local(gids.path);
}

}  // namespace smbdirect::daemon
