// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/smb2_negotiate.h"

#include <algorithm>

namespace smbdirect::daemon::doctor {
namespace {

constexpr size_t kHeader = 64;        // MS-SMB2 2.2.1.2
constexpr size_t kRequestBody = 36;   // 2.2.3, without dialects
constexpr size_t kResponseBody = 64;  // 2.2.4, without its buffer
constexpr std::array<uint16_t, 5> kDialects{0x0202, 0x0210, 0x0300, 0x0302, 0x0311};
constexpr uint8_t kMultiChannel = 0x08;  // SMB2_GLOBAL_CAP_MULTI_CHANNEL
constexpr uint8_t kSigningRequired = 0x02;
constexpr uint8_t kResponse = 0x01;  // SMB2_FLAGS_SERVER_TO_REDIR
constexpr std::array kMagic{std::byte{0xfe}, std::byte{'S'}, std::byte{'M'}, std::byte{'B'}};

uint32_t little(std::span<const std::byte> bytes, size_t at, size_t count) {
  uint32_t value = 0;
  for (size_t i = count; i > 0; --i) value = value << 8 | uint32_t(bytes[at + i - 1]);
  return value;
}

}  // namespace

std::vector<std::byte> negotiate_request(const std::array<std::byte, 16>& client_guid,
                                         const std::array<std::byte, 32>& salt) {
  // The list of contexts begins at a multiple of eight.
  constexpr size_t kContext = (kHeader + kRequestBody + 2 * kDialects.size() + 7) / 8 * 8;
  constexpr size_t kPreauthData = 6 + 32;  // 2.2.3.1.1: one hash, and the salt
  constexpr size_t kMessage = kContext + 8 + kPreauthData;
  std::vector<std::byte> bytes(4 + kMessage);
  bytes[3] = std::byte(kMessage);
  const std::span message = std::span(bytes).subspan(4);
  std::ranges::copy(kMagic, message.begin());
  message[4] = std::byte(kHeader);  // StructureSize
  message[14] = std::byte(1);       // CreditRequest
  const std::span body = message.subspan(kHeader);
  body[0] = std::byte(kRequestBody);
  body[2] = std::byte(kDialects.size());
  body[4] = std::byte(1);     // SecurityMode: signing enabled
  body[8] = std::byte(0x7f);  // Capabilities
  std::ranges::copy(client_guid, body.subspan(12).begin());
  body[28] = std::byte(kContext);  // NegotiateContextOffset
  body[32] = std::byte(1);         // NegotiateContextCount
  for (size_t i = 0; i < kDialects.size(); ++i) {
    body[kRequestBody + 2 * i] = std::byte(kDialects[i] & 0xff);
    body[kRequestBody + 2 * i + 1] = std::byte(kDialects[i] >> 8);
  }
  const std::span context = message.subspan(kContext);
  context[0] = std::byte(1);  // SMB2_PREAUTH_INTEGRITY_CAPABILITIES
  context[2] = std::byte(kPreauthData);
  context[8] = std::byte(1);  // HashAlgorithmCount
  context[10] = std::byte(salt.size());
  context[12] = std::byte(1);  // SHA-512
  std::ranges::copy(salt, context.subspan(14).begin());
  return bytes;
}

std::optional<Negotiated> parse_negotiated(std::span<const std::byte> framed) {
  if (framed.size() < 4 || framed[0] != std::byte{0}) return std::nullopt;
  const std::span message = framed.subspan(4);
  if (message.size() < kHeader || !std::ranges::equal(message.first(4), kMagic)) return std::nullopt;
  if (little(message, 12, 2) != 0 || (little(message, 16, 4) & kResponse) == 0) return std::nullopt;
  Negotiated said{.status = little(message, 8, 4)};
  if (said.status != 0) return said;
  const std::span body = message.subspan(kHeader);
  if (body.size() < kResponseBody) return std::nullopt;
  said.signing_required = (little(body, 2, 2) & kSigningRequired) != 0;
  said.dialect = uint16_t(little(body, 4, 2));
  said.multi_channel = (little(body, 24, 4) & kMultiChannel) != 0;
  return said;
}

bool is_refusal(std::span<const std::byte> message) {
  return !message.empty() && message[0] == std::byte{0x83};
}

}  // namespace smbdirect::daemon::doctor
