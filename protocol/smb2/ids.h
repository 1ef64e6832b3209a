// SPDX-License-Identifier: MIT
// The 16-byte identifiers of MS-SMB2, each a type of its own, so that none is taken for another. Pure; any
// process.
#pragma once

#include <array>
#include <compare>
#include <cstddef>

namespace smbdirect::protocol::smb2 {

/// MS-SMB2 2.2.14.1.
struct FileId {
  std::array<std::byte, 16> bytes{};
  auto operator<=>(const FileId&) const = default;
};

/// ClientGuid, MS-SMB2 2.2.3.
struct Guid {
  std::array<std::byte, 16> bytes{};
  auto operator<=>(const Guid&) const = default;
};

}  // namespace smbdirect::protocol::smb2
