// SPDX-License-Identifier: MIT
// The bytes of one control message (messages.h), apart from sockets so that they can be tested and fuzzed.
// Pure; either side of the control socket may use it. A datagram that is not exactly one well-formed message
// is an error, and the side that reads it ends the conversation: both programs are built together, so the
// sender is foreign or damaged.
//
// Little-endian, fixed size, fields that the message does not use are zero:
//     0 u32 magic "SDC1"   4 u16 version   6 u16 type        8 u32 generation   12 u32 deadline_ms, error,
//     outcome, reason, level, slot or process
//    16 u64 offer         24 u64 sequence  32 u8 fabric
//    40 peer address      64 local address, each: u16 family (0, 4, 6), u16 port, u32 scope, 16 address
//   or, where there is a guid: 40 ClientGuid (16 bytes)
//   and with fabric verbs:
//    33 u8 responder_resources   34 u8 initiator_depth   35 u8 length of the private data
//    36 u32 id                   88 8 bytes of private data
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/contract/messages.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

inline constexpr size_t kMessageSize = 96;
using MessageBytes = std::array<std::byte, kMessageSize>;

[[nodiscard]] MessageBytes encode_message(uint32_t generation, const FromWorker& message);
[[nodiscard]] MessageBytes encode_message(uint32_t generation, const FromSupervisor& message);

template <class Said>
struct Decoded {
  uint32_t generation = 0;
  Said message;
};
/// Said: the messages that the reader receives, FromWorker or FromSupervisor; the other side's messages are
/// refused here. The error is EPROTO and says what was wrong.
template <class Said>
[[nodiscard]] shm::Result<Decoded<Said>> decode_message(std::span<const std::byte> bytes);

}  // namespace smbdirect::daemon
