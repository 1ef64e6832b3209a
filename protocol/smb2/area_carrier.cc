// SPDX-License-Identifier: MIT
#include "protocol/smb2/area_carrier.h"

#include <algorithm>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/smb2/classify.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

// MS-SMB2 2.2.31 and 2.2.32, IOCTL.
namespace ioctl_at {
constexpr uint16_t kRequestStructureSize = 57;
constexpr size_t kCtlCode = 68;
constexpr size_t kFileId = 72;
constexpr size_t kInputOffset = 88;
constexpr size_t kInputCount = 92;
constexpr size_t kMaxOutputResponse = 108;
constexpr size_t kFlags = 112;
constexpr size_t kBuffer = 120;  // smbd takes the input from here alone
constexpr uint16_t kResponseStructureSize = 49;
constexpr size_t kOutputOffset = 96;
constexpr size_t kOutputCount = 100;
constexpr size_t kResponseBuffer = 112;
constexpr uint32_t kIsFsctl = 1;
}  // namespace ioctl_at

constexpr uint32_t kCopychunk = 0x001440F2;  // MS-SMB2 2.2.31
constexpr uint32_t kCopychunkWrite = 0x001480F2;

// MS-SMB2 2.2.31.1, SRV_COPYCHUNK_COPY, after the resume key; and 2.2.31.1.1, its one chunk.
namespace copychunk_at {
constexpr size_t kChunkCount = ioctl_at::kBuffer + SMBDIRECT_KEY_SIZE;
constexpr size_t kSourceOffset = kChunkCount + 8;
constexpr size_t kTargetOffset = kSourceOffset + 8;
constexpr size_t kLength = kTargetOffset + 8;
constexpr size_t kEnd = kLength + 8;
}  // namespace copychunk_at
static_assert(copychunk_at::kEnd == kCarrierBytes);

// MS-SMB2 2.2.32.1, SRV_COPYCHUNK_RESPONSE.
constexpr uint32_t kAnswerBytes = 12;
constexpr size_t kTotalAt = ioctl_at::kResponseBuffer + 8;
static_assert(kTotalAt + sizeof(uint32_t) <= kPrefixBytes);

constexpr size_t kMarkAt = ioctl_at::kBuffer + SMBDIRECT_KEY_AT_MARK;
static_assert(kMarkAt + 2 <= kPrefixBytes);

// MS-SMB2 2.2.21, Flags; the second one from dialect 3.0.2 on. smbd makes no difference.
constexpr uint32_t kWriteThrough = 0x00000001;
constexpr uint32_t kWriteUnbuffered = 0x00000002;
constexpr size_t kWriteFlagsAt = 108;
constexpr size_t kOffsetAt = 72;  // of READ and of WRITE

}  // namespace

CarrierBytes encode_carrier(Command command, std::span<const std::byte> request, uint32_t length,
                            const AreaPlace& place, uint16_t dialect) {
  CarrierBytes bytes{};
  const std::span out(bytes);
  std::ranges::copy(request.first(kHeaderBytes), bytes.begin());
  wire::store(out, header_at::kCommand, uint16_t(Command::ioctl));
  wire::store(out, kBodyAt, ioctl_at::kRequestStructureSize);
  wire::store(out, ioctl_at::kCtlCode, kCopychunkWrite);
  static_assert(read_at::kFileId == write_at::kFileId);
  std::ranges::copy(request.subspan(read_at::kFileId, 16), out.subspan(ioctl_at::kFileId).begin());
  wire::store(out, ioctl_at::kInputOffset, uint32_t(ioctl_at::kBuffer));
  wire::store(out, ioctl_at::kInputCount, uint32_t(kCarrierBytes - ioctl_at::kBuffer));
  wire::store(out, ioctl_at::kMaxOutputResponse, kAnswerBytes);
  wire::store(out, ioctl_at::kFlags, ioctl_at::kIsFsctl);
  const std::span key = out.subspan(ioctl_at::kBuffer, SMBDIRECT_KEY_SIZE);
  std::ranges::copy(place.token, key.begin());
  wire::store(key, SMBDIRECT_KEY_AT_LENGTH, length);
  const bool write = command == Command::write;
  const uint32_t to_disk = kWriteThrough | (dialect >= kDialect302 ? kWriteUnbuffered : 0);
  const bool through = write && (wire::load32(request, kWriteFlagsAt) & to_disk) != 0;
  wire::store(key, SMBDIRECT_KEY_AT_OPERATION, uint8_t(write ? SMBDIRECT_KEY_WRITE : SMBDIRECT_KEY_READ));
  wire::store(key, SMBDIRECT_KEY_AT_FLAGS, uint8_t(through ? SMBDIRECT_KEY_WRITE_THROUGH : 0));
  wire::store(key, SMBDIRECT_KEY_AT_MARK, uint8_t{SMBDIRECT_KEY_MARK_0});
  wire::store(key, SMBDIRECT_KEY_AT_MARK + 1, uint8_t{SMBDIRECT_KEY_MARK_1});
  wire::store(out, copychunk_at::kChunkCount, uint32_t{1});
  wire::store(out, copychunk_at::kSourceOffset, place.offset);
  wire::store(out, copychunk_at::kTargetOffset, wire::load64(request, kOffsetAt));
  wire::store(out, copychunk_at::kLength, uint32_t{1});
  return bytes;
}

std::expected<CarrierAnswer, Violation> parse_carrier_answer(const Header& header,
                                                             std::span<const std::byte> prefix,
                                                             uint64_t length) {
  if (length < kBodyAt + sizeof(uint16_t)) return std::unexpected(Violation::bad_body);
  const uint16_t structure = wire::load16(prefix, kBodyAt);
  // With a failure smbd may send its limits along (MS-SMB2 3.3.5.15.6); they are of no use to a READ.
  if (is_error(header.status)) {
    if (structure != kErrorStructureSize && structure != ioctl_at::kResponseStructureSize)
      return std::unexpected(Violation::bad_structure_size);
    return CarrierAnswer{.status = header.status};
  }
  if (header.status != 0 || structure != ioctl_at::kResponseStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  if (length < ioctl_at::kResponseBuffer + kAnswerBytes ||
      prefix.size() < ioctl_at::kResponseBuffer + kAnswerBytes ||
      wire::load32(prefix, ioctl_at::kOutputOffset) != ioctl_at::kResponseBuffer ||
      wire::load32(prefix, ioctl_at::kOutputCount) != kAnswerBytes) {
    return std::unexpected(Violation::bad_body);
  }
  const uint32_t total = wire::load32(prefix, kTotalAt);
  if (total >= SMBDIRECT_FIRST_STATUS) return CarrierAnswer{.status = total};
  return CarrierAnswer{.count = total};
}

bool is_marked_copychunk(const Header& header, std::span<const std::byte> element) {
  if (header.command != Command::ioctl || element.size() < kMarkAt + 2) return false;
  const uint32_t code = wire::load32(element, ioctl_at::kCtlCode);
  return (code == kCopychunk || code == kCopychunkWrite) &&
         wire::load8(element, kMarkAt) == SMBDIRECT_KEY_MARK_0 &&
         wire::load8(element, kMarkAt + 1) == SMBDIRECT_KEY_MARK_1;
}

}  // namespace smbdirect::protocol::smb2
