// SPDX-License-Identifier: MIT
// A channel's state, which one process gives to another together with the channel's descriptors: bytes with a
// magic and a version, little-endian. Pure. The bytes come from outside the process that reads them and are
// not trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "protocol/proxy/frames.h"

namespace smbdirect::protocol::proxy::peer {

struct State {
  Facts facts;
  std::span<const std::byte> unread;  // from the worker; begins with a frame, may end within one
  std::span<const std::byte> unsent;  // to the worker; may begin within a frame, ends with one
  size_t first_frame{};               // of `unsent`: what is left of its first frame
  std::vector<uint64_t> operations;   // without their DONE: sorted, none twice
};

[[nodiscard]] std::vector<std::byte> encode_state(const State& state);
/// The spans are of `bytes`. Nothing: that is no state, or not one a channel can be in.
[[nodiscard]] std::optional<State> parse_state(std::span<const std::byte> bytes);

}  // namespace smbdirect::protocol::proxy::peer
