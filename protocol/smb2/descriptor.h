// SPDX-License-Identifier: MIT
// SMBDirect Buffer Descriptor V1 (MS-SMBD 2.2.3.1): a piece of the peer's registered memory. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

/// MS-SMBD 2.2.3.1, decoded.
struct BufferDescriptor {
  uint64_t offset{};
  uint32_t token{};
  uint32_t length{};
};

inline constexpr size_t kDescriptorBytes = 16;
/// What a 16-bit ChannelInfoLength can hold.
inline constexpr size_t kMaxDescriptors = 0xFFFF / kDescriptorBytes;

/// `bytes` holds at least kDescriptorBytes.
[[nodiscard]] inline BufferDescriptor load_descriptor(std::span<const std::byte> bytes) {
  return {wire::load64(bytes, 0), wire::load32(bytes, 8), wire::load32(bytes, 12)};
}
inline void store_descriptor(std::span<std::byte> bytes, const BufferDescriptor& descriptor) {
  wire::store(bytes, 0, descriptor.offset);
  wire::store(bytes, 8, descriptor.token);
  wire::store(bytes, 12, descriptor.length);
}

}  // namespace smbdirect::protocol::smb2
