// SPDX-License-Identifier: MIT
#include "workers/session/size_advice.h"

#include <algorithm>

namespace smbdirect::workers {
namespace {

/// What stands around the payload of a request: headers, fixed parts, an encryption's header.
constexpr uint64_t kAround = 1024;

}  // namespace

std::optional<std::string> size_advice(const protocol::smb2::NegotiateResponse& offered,
                                       const SizeLimits& limits) {
  const uint64_t largest = std::max(offered.max_write_size, offered.max_transact_size);
  std::string text;
  if (largest + kAround > limits.max_fragmented_size) {
    text =
        "smbd offers writes and other requests of up to " + std::to_string(largest) +
        " bytes, and a client that sends larger ones inline than the pool file allows is disconnected: raise "
        "/smbdirect/max_fragmented_size (" +
        std::to_string(limits.max_fragmented_size) +
        ") in the pool file, or lower smb2 max write and smb2 max trans in smb.conf";
  }
  const uint64_t moved = std::max(offered.max_read_size, offered.max_write_size);
  if (moved > limits.max_read_write_size) {
    text +=
        (text.empty() ? "" : "; ") + std::string("smbd offers reads and writes of up to ") +
        std::to_string(moved) + " bytes, and larger ones than /smbdirect/max_read_write_size (" +
        std::to_string(limits.max_read_write_size) +
        ") are refused when they use RDMA: raise it, or lower smb2 max read and smb2 max write in smb.conf";
  }
  if (text.empty()) return std::nullopt;
  return text;
}

std::string oversize_advice(const SizeLimits& limits) {
  return "; the client's message was longer than /smbdirect/max_fragmented_size (" +
         std::to_string(limits.max_fragmented_size) +
         "): raise that in the pool file, or lower smb2 max write and smb2 max trans in smb.conf";
}

}  // namespace smbdirect::workers
