// SPDX-License-Identifier: MIT
#include "protocol/smb2/multi_protocol.h"

#include <algorithm>
#include <string_view>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

// MS-CIFS 2.2.3.1, 2.2.4.52.1.
namespace smb1_at {
constexpr size_t kCommand = 4;
constexpr size_t kFlags = 9;
constexpr size_t kWordCount = 32;
constexpr size_t kByteCount = 33;
constexpr size_t kDialects = 35;
}  // namespace smb1_at
constexpr uint8_t kSmb1Negotiate = 0x72;
constexpr uint8_t kSmb1Reply = 0x80;
constexpr std::byte kDialectFormat{2};

constexpr std::string_view kWildcardName = "SMB 2.???";
constexpr std::string_view kSmb2002Name = "SMB 2.002";
constexpr uint16_t kSmb2002 = 0x0202;

constexpr uint16_t kSigningEnabled = 1;
constexpr uint32_t kResponseFlag = 1;
// MS-SMB2 2.2.3, and 2.2.4 for the rest.
constexpr size_t kSecurityMode = 68;
constexpr size_t kResponseSecurityMode = 66;
constexpr size_t kMaxTransactSize = 92;
constexpr size_t kSystemTime = 104;
constexpr size_t kSecurityBufferOffset = 120;

/// Of a NEGOTIATE under MessageId 0, with one credit asked for or granted. The rest is 0 already.
void store_header(std::span<std::byte> out, uint32_t flags) {
  wire::store(out, 0, uint32_t{0x424D53FE});
  wire::store(out, header_at::kStructureSize, static_cast<uint16_t>(kHeaderBytes));
  wire::store(out, header_at::kCommand, static_cast<uint16_t>(Command::negotiate));
  wire::store(out, header_at::kCredits, uint16_t{1});
  wire::store(out, header_at::kFlags, flags);
}

}  // namespace

std::expected<uint16_t, Violation> parse_multi_protocol_negotiate(std::span<const std::byte> pdu) {
  if (protocol_id(pdu) != ProtocolId::smb1) return std::unexpected(Violation::not_smb2);
  if (pdu.size() < smb1_at::kDialects) return std::unexpected(Violation::bad_body);
  if (wire::load8(pdu, smb1_at::kCommand) != kSmb1Negotiate) return std::unexpected(Violation::smb1);
  if ((wire::load8(pdu, smb1_at::kFlags) & kSmb1Reply) != 0)
    return std::unexpected(Violation::wrong_direction);
  const size_t count = wire::load16(pdu, smb1_at::kByteCount);
  auto left = pdu.subspan(smb1_at::kDialects);
  if (wire::load8(pdu, smb1_at::kWordCount) != 0 || count > left.size())
    return std::unexpected(Violation::bad_body);
  left = left.first(count);
  const auto is = [](std::span<const std::byte> name, std::string_view text) {
    return std::ranges::equal(name, text, {}, {}, [](char c) { return std::byte(c); });
  };
  uint16_t dialect = 0;
  while (!left.empty()) {
    const auto end = std::ranges::find(left, std::byte{0});
    if (left.front() != kDialectFormat || end == left.end()) return std::unexpected(Violation::bad_body);
    const auto name = std::span(left.begin() + 1, end);
    if (is(name, kWildcardName)) dialect = kDialectWildcard;
    if (is(name, kSmb2002Name)) dialect = std::max(dialect, kSmb2002);
    left = left.subspan(name.size() + 2);
  }
  if (dialect == 0) return std::unexpected(Violation::smb1);
  return dialect;
}

void store_multi_protocol_negotiate(std::span<std::byte> out, uint16_t dialect) {
  std::ranges::fill(out.first(kMultiProtocolNegotiateBytes), std::byte{0});
  store_header(out, 0);
  wire::store(out, kBodyAt, negotiate_at::kRequestStructureSize);
  wire::store(out, negotiate_at::kDialectCount, uint16_t{1});
  wire::store(out, kSecurityMode, kSigningEnabled);
  wire::store(out, negotiate_at::kDialects, dialect);
}

std::array<std::byte, negotiate_at::kResponseFixedEnd> multi_protocol_response(uint64_t system_time) {
  std::array<std::byte, negotiate_at::kResponseFixedEnd> out{};
  store_header(out, kResponseFlag);
  wire::store(std::span(out), kBodyAt, negotiate_at::kResponseStructureSize);
  wire::store(std::span(out), kResponseSecurityMode, kSigningEnabled);
  wire::store(std::span(out), negotiate_at::kDialectRevision, kDialectWildcard);
  // The least that every server takes: what counts is said with the next answer.
  for (const size_t at : {kMaxTransactSize, negotiate_at::kMaxReadSize, negotiate_at::kMaxWriteSize})
    wire::store(std::span(out), at, uint32_t{65536});
  wire::store(std::span(out), kSystemTime, system_time);
  wire::store(std::span(out), kSecurityBufferOffset, static_cast<uint16_t>(negotiate_at::kResponseFixedEnd));
  return out;
}

}  // namespace smbdirect::protocol::smb2
