// SPDX-License-Identifier: MIT
// Making a queue pair as large as the device lets it be, and what the connection manager's attributes become
// before they are applied to it. Pure functions but for the calls of the verbs library. The loop's thread
// only.
#pragma once

#include <cstdint>

#include "shm/base/result.h"
#include "workers/fabric/verbs/cm_link.h"
#include "workers/fabric/verbs/device.h"
#include "workers/fabric/verbs/verbs.h"

namespace smbdirect::workers::fabric::verbs {

/// Sizes of a queue pair: what we ask for, and then what we may use of what we got.
struct QueueSizes {
  uint32_t sends{};  // SENDs, WRITEs and parts of READs
  uint32_t receives{};
  uint32_t pieces{};   // of a SEND or WRITE
  uint32_t inlined{};  // bytes that a SEND may carry inside its work request
};

inline constexpr uint32_t kMaxPieces = 16;
inline constexpr uint32_t kInlineBytes = 64;  // SMB Direct's messages without payload are 20 to 32

/// RDMA READs that may be outstanding, each way: the least of what the options, the device and the peer say;
/// a peer that says 0 has not said anything.
[[nodiscard]] OurLimits agree_limits(const Options& options, const ibv_device_attr& device,
                                     const PeerLimits& peer);

/// What to ask for: the options' sizes within the device's.
[[nodiscard]] QueueSizes wanted_sizes(const Options& options, const ibv_device_attr& device,
                                      const OurLimits& limits);

struct NewQueuePair {
  QpHandle qp;
  QueueSizes sizes;
};
/// Asks for less when the device refuses: attributes do not tell which combinations it can do.
[[nodiscard]] shm::Result<NewQueuePair> create_queue_pair(const Device::Seat& seat, ibv_pd& pd,
                                                          const QueueSizes& wanted);

/// What the peer may do to our memory through the queue pair itself.
enum class RemoteAccess : uint8_t {
  none,
  write,           // iWARP: the answers to our READs
  read_and_write,  // memory we expose
};

/// The attributes for one state as the connection manager gives them, with our rights and limits in them.
/// connecting: the limits it knows from the peer's answer count too.
void apply_policy(CmLink::QpAttributes& attributes, RemoteAccess access, const OurLimits& limits,
                  bool connecting);

}  // namespace smbdirect::workers::fabric::verbs
