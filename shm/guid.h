// SPDX-License-Identifier: MIT
// A 16-byte identifier as its owner sent it. Pure; any process.
#pragma once

#include <array>
#include <cstddef>

namespace smbdirect::shm {

using Guid = std::array<std::byte, 16>;

}  // namespace smbdirect::shm
