// SPDX-License-Identifier: MIT
// The eight bytes of private data with which SMB Direct over iWARP names its limits on RDMA READs, for
// devices whose own set-up (MPA revision 1) does not (MS-SMBD 6.1): IRD, how many READs the sender of the
// bytes serves at once, and ORD, how many it wants in flight; each 32 bits, big-endian. The client sends
// them; on InfiniBand and RoCE they are absent. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "workers/fabric/verbs/cm_link.h"

namespace smbdirect::workers::fabric::verbs {

struct IrdOrd {
  uint32_t ird{};
  uint32_t ord{};
  bool operator==(const IrdOrd&) const = default;
};

/// The limits in a client's private data; nullopt unless the device is an iWARP one and there are eight
/// bytes: absent, longer or shorter data is not an error. Older cifs.ko wrote the numbers in host byte order;
/// little-endian ones are recognised, because no IRD is as large as they would be.
[[nodiscard]] std::optional<IrdOrd> parse_ird_ord(std::span<const std::byte> private_data, bool iwarp);
[[nodiscard]] std::array<std::byte, 8> ird_ord_bytes(const IrdOrd& values);

/// A client that serves or makes no READs at all cannot be served (MS-SMBD 6.1).
[[nodiscard]] bool acceptable(const IrdOrd& client);
/// The limits the connection manager named, tightened by what the client said; what the client said where it
/// named none.
[[nodiscard]] PeerLimits tightened(PeerLimits limits, const IrdOrd& client);
/// The server's answer, in MS-SMBD's words: IRD the lesser of its own ORD and the client's IRD, and ORD the
/// other way round.
[[nodiscard]] IrdOrd answer_to(const IrdOrd& client, const OurLimits& ours);

/// On iWARP neither side says 0: set-up may need one READ, and 0 may be taken for a refusal. Nobody gets a
/// right to any memory by it.
[[nodiscard]] OurLimits at_least_one(OurLimits limits);

}  // namespace smbdirect::workers::fabric::verbs
