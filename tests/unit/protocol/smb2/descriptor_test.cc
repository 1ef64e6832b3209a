// SPDX-License-Identifier: MIT
// Buffer descriptors against the examples of MS-SMBD.
#include "protocol/smb2/descriptor.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

namespace smb2 = smbdirect::protocol::smb2;

namespace {

using Descriptor = std::array<std::byte, smb2::kDescriptorBytes>;

void check(const std::array<uint8_t, smb2::kDescriptorBytes>& wire, const smb2::BufferDescriptor& expected) {
  Descriptor bytes{};
  for (size_t i = 0; i < wire.size(); ++i) bytes[i] = std::byte(wire[i]);
  const smb2::BufferDescriptor loaded = smb2::load_descriptor(bytes);
  CHECK(loaded.offset == expected.offset);
  CHECK(loaded.token == expected.token);
  CHECK(loaded.length == expected.length);
  Descriptor stored{};
  smb2::store_descriptor(stored, loaded);
  CHECK(stored == bytes);
}

}  // namespace

TEST_CASE("the examples of MS-SMBD 4.4 and 4.5, and the extremes") {
  check({0x12, 0xE0, 0xCD, 0xAB, 0, 0, 0, 0, 0x56, 0xBC, 0x00, 0x1A, 0x00, 0x00, 0x10, 0x00},
        {.offset = 0xABCDE012, .token = 0x1A00BC56, .length = 0x100000});
  check({0x24, 0xA0, 0xCB, 0x0D, 0, 0, 0, 0, 0x57, 0xBC, 0x00, 0x1A, 0x00, 0x00, 0x10, 0x00},
        {.offset = 0xDCBA024, .token = 0x1A00BC57, .length = 0x100000});
  check({0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFD, 0xFF, 0xFF, 0xFF, 0xFC, 0xFF, 0xFF, 0xFF},
        {.offset = UINT64_MAX - 1, .token = UINT32_MAX - 2, .length = UINT32_MAX - 3});
}
