// SPDX-License-Identifier: MIT
// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash for tables whose keys come from the network.
// Without the hash key nobody can choose table keys that collide. Pure; any process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace smbdirect::shm {

using SipKey = std::array<uint64_t, 2>;

/// The key's words are the little-endian halves of the paper's 16 key bytes.
[[nodiscard]] uint64_t siphash(const SipKey& key, std::span<const std::byte> data);

}  // namespace smbdirect::shm
