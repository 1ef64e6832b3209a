// SPDX-License-Identifier: MIT
// The bytes of one control message (contract.h), apart from sockets so that they can be tested and
// fuzzed. Pure; either side of the control socket may use it. A datagram that is not exactly one
// well-formed message is an error, and the side that read it ends the conversation: both programs are
// built together, so anything else means a foreign or damaged sender.
//
// Little-endian, fixed size, fields not named for the type are zero:
//     0 u32 magic "SDC1"   4 u16 version   6 u16 type        8 u32 generation   12 u32 deadline_ms, error or
//     process
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
#include <string_view>

#include "daemon/contract/contract.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

inline constexpr size_t kMessageSize = 96;
using MessageBytes = std::array<std::byte, kMessageSize>;

/// "offer", "take", ...; empty for a number that is no type.
[[nodiscard]] std::string_view message_name(MessageType type);

/// Which fields travel with a type; the one table behind encode, decode and their tests.
struct MessageFields {
  MessageType type{};
  std::string_view name;
  bool offer{}, sequence{}, deadline{}, error{}, process{}, guid{}, addresses{}, descriptor{};
  uint32_t largest_error = UINT32_MAX;  // where it is one of an enumeration
};
[[nodiscard]] std::span<const MessageFields> message_table();
/// Nothing for a number that is no type.
[[nodiscard]] const MessageFields* message_fields(MessageType type);

/// Fields that do not travel with the type are written as zero, whatever they hold.
[[nodiscard]] MessageBytes encode_message(const Message& message);

/// The error is EPROTO and says what was wrong.
[[nodiscard]] shm::Result<Message> decode_message(std::span<const std::byte> bytes);

}  // namespace smbdirect::daemon
