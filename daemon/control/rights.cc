// SPDX-License-Identifier: MIT
#include "daemon/control/rights.h"

#include <algorithm>

namespace smbdirect::daemon {

Right right_of(const PeerIdentity& peer, uid_t own, std::optional<gid_t> readers) {
  if (peer.user == 0 || peer.user == own) return Right::everything;
  const bool reads = readers && std::ranges::find(peer.groups, *readers) != peer.groups.end();
  return reads ? Right::questions : Right::none;
}

}  // namespace smbdirect::daemon
