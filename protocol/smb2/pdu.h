// SPDX-License-Identifier: MIT
// A checked, read-only view over SMB2 PDUs: header, NEGOTIATE fields, the length field of direct TCP. Pure
// functions over bytes from the network; nothing is trusted. Offsets are those of MS-SMB2 2.2.1 ff.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "protocol/smb2/ids.h"

namespace smbdirect::protocol::smb2 {

/// Why bytes are refused. One table (violation_text) gives the words for logs and counters.
enum class Violation : uint8_t {
  // clang-format off
  too_short, not_smb2, smb1, bad_header_size, bad_next_command, bad_structure_size, bad_body,
  signed_rdma_channel_request, duplicate_message_id, too_many_requests, nbt_refusal, response_too_long,
  response_unmatched_data, compound_invalidate, wrong_direction, reserved_message_id,
  signed_rdma_channel_response, rdma_channel_over_tcp, too_long, response_unmatched, response_too_early,
  response_wrong_command, response_bad_pending, response_bad_notification, response_bad_dialect,
  bad_stream_word, marked_resume_key, response_old_sequence, response_bad_echo,
  // clang-format on
};
[[nodiscard]] std::string_view violation_text(Violation violation);

enum class Command : uint16_t {
  negotiate = 0,
  session_setup,
  logoff,
  tree_connect,
  tree_disconnect,
  create,
  close,
  flush,
  read,
  write,
  lock,
  ioctl,
  cancel,
  echo,
  query_directory,
  change_notify,
  query_info,
  set_info,
  oplock_break,
  server_to_client_notification,
};

/// MS-SMB2 2.2.1, decoded.
struct Header {
  uint16_t credit_charge{};
  uint32_t status{};  // responses; requests: ChannelSequence
  Command command{};
  uint16_t credits{};
  uint32_t flags{};
  uint32_t next_command{};
  uint64_t message_id{};
  uint64_t async_id{};  // with async()
  uint64_t session_id{};
  [[nodiscard]] bool response() const { return (flags & 0x1) != 0; }
  [[nodiscard]] bool async() const { return (flags & 0x2) != 0; }
  [[nodiscard]] bool related() const { return (flags & 0x4) != 0; }
  [[nodiscard]] bool is_signed() const { return (flags & 0x8) != 0; }
  [[nodiscard]] bool replay() const { return (flags & 0x20000000) != 0; }
  [[nodiscard]] uint16_t channel_sequence() const { return uint16_t(status); }  // requests, from 3.0 on
};

inline constexpr size_t kHeaderBytes = 64;

/// What the first four bytes say (MS-SMB2 2.2.1, 2.2.41, 2.2.42).
enum class ProtocolId : uint8_t { smb2, encrypted, compressed, smb1, unknown };
[[nodiscard]] ProtocolId protocol_id(std::span<const std::byte> bytes);

/// Bytes from a 0xFE 'SMB' header on. Errors: too_short (under 64 bytes), smb1, not_smb2 (encrypted and
/// compressed PDUs too: they hide their header), bad_header_size.
[[nodiscard]] std::expected<Header, Violation> parse_header(std::span<const std::byte> bytes);

/// Makes the header of a response that of an asynchronous one (MS-SMB2 2.2.1.1).
void make_async(std::span<std::byte> header, uint64_t async_id);

/// NextCommand of a header that `left` bytes begin with: 0, or 8-aligned, past this header, and with room for
/// another one (MS-SMB2 3.3.5.2.7).
[[nodiscard]] bool valid_next_command(uint32_t next_command, uint64_t left);

/// One element of a PDU or chain: the header at the start of `rest` and where the element ends.
struct Element {
  Header header;
  uint64_t length{};  // of this element, padding included
  [[nodiscard]] bool last() const { return header.next_command == 0; }
};
/// Errors: those of parse_header, and bad_next_command.
[[nodiscard]] std::expected<Element, Violation> parse_element(std::span<const std::byte> rest);

/// The facts of a NEGOTIATE request the registry and the log want (MS-SMB2 2.2.3).
struct NegotiateRequest {
  Guid client_guid{};
  uint16_t highest_dialect{};  // of those MS-SMB2 defines; 0 when it offers none of them
  uint8_t offered{};           // the same as a set: a bit for each place in kDialects
  static constexpr std::array<uint16_t, 5> kDialects{0x0202, 0x0210, 0x0300, 0x0302, 0x0311};
  [[nodiscard]] bool offers(uint16_t dialect) const {
    for (size_t i = 0; i < kDialects.size(); ++i)
      if (kDialects[i] == dialect) return (offered >> i & 1) != 0;
    return false;
  }
};
/// Errors: those of parse_header, wrong_direction, bad_structure_size, bad_body. Negotiate contexts are not
/// looked at.
[[nodiscard]] std::expected<NegotiateRequest, Violation> parse_negotiate_request(
    std::span<const std::byte> pdu);

/// Direct-TCP framing (MS-SMB2 2.1): 0x00 and a 24-bit big-endian length. Any other type byte from smbd is
/// a refusal (denied hosts get 0x83): nbt_refusal.
inline constexpr size_t kNbtBytes = 4;
struct StreamWord {
  bool keepalive = false;  // RFC 1002 4.3.7 SESSION KEEP ALIVE: to be ignored, nothing follows
  uint32_t length{};       // of the message that follows; 0 is no message either
};
/// The word before each message of a stream, from either side. Errors: nbt_refusal (0x83, RFC 1002 4.3.4),
/// bad_stream_word.
[[nodiscard]] std::expected<StreamWord, Violation> parse_stream_word(
    std::span<const std::byte, kNbtBytes> word);
[[nodiscard]] std::expected<uint32_t, Violation> parse_nbt(std::span<const std::byte, kNbtBytes> word);
[[nodiscard]] std::array<std::byte, kNbtBytes> encode_nbt(uint32_t length);

}  // namespace smbdirect::protocol::smb2
