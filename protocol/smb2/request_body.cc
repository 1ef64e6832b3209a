// SPDX-License-Identifier: MIT
#include "protocol/smb2/request_body.h"

#include <algorithm>
#include <optional>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::expected<void, Violation> check_io_body(std::span<const std::byte> element) {
  static_assert(read_at::kStructureSize == write_at::kStructureSize && read_at::kBuffer == write_at::kBuffer);
  if (element.size() < read_at::kBuffer) return std::unexpected(Violation::bad_body);
  if (wire::load16(element, kBodyAt) != read_at::kStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  return {};
}

uint32_t rdma_channel_of(Command command, std::span<const std::byte> element) {
  return wire::load32(element, command == Command::read ? read_at::kChannel : write_at::kChannel);
}

OnFile file_of(const Header& header, std::span<const std::byte> element) {
  const auto on = [&](size_t at) {
    // smbd may take it for what it does not say.
    if (header.related() || header.next_command != 0 || element.size() < at + sizeof(FileId))
      return OnFile{.holds = Holds::all};
    OnFile found{.holds = is_io(header.command) ? Holds::nothing : Holds::file};
    std::ranges::copy(element.subspan(at, sizeof(FileId)), found.file_id.bytes.begin());
    return found;
  };
  static_assert(read_at::kFileId == write_at::kFileId);
  switch (header.command) {
    case Command::read:
    case Command::write:
      return on(read_at::kFileId);
    case Command::close:
      return on(kCloseFileIdAt);
    case Command::flush:
      return on(kFlushFileIdAt);
    case Command::lock:
      return on(kLockFileIdAt);
    case Command::ioctl:
      return on(kIoctlFileIdAt);
    case Command::set_info:
      return on(kSetInfoFileIdAt);
    case Command::tree_disconnect:
    case Command::logoff:
    case Command::oplock_break:  // once it is acknowledged others may read
      return {.holds = Holds::all};
    default:
      if (header.next_command != 0 || header.related()) return {.holds = Holds::all};
      return {.holds = header.command == Command::create ? Holds::sends : Holds::nothing};
  }
}

uint64_t previous_session_of(std::span<const std::byte> element) {
  if (element.size() < kPreviousSessionIdAt + sizeof(uint64_t)) return 0;
  return wire::load64(element, kPreviousSessionIdAt);
}

uint64_t reply_cost(const Header& header, std::span<const std::byte> element) {
  const auto field = [&](size_t at) -> std::optional<uint64_t> {
    if (element.size() < at + sizeof(uint32_t)) return std::nullopt;
    return wire::load32(element, at);
  };
  std::optional<uint64_t> cost;
  switch (header.command) {
    case Command::cancel:  // has no response
      return 0;
    case Command::logoff:  // answers of fixed size, however much CreditCharge a payload took
    case Command::tree_connect:
    case Command::tree_disconnect:
    case Command::close:
    case Command::flush:
    case Command::write:
    case Command::lock:
    case Command::echo:
    case Command::set_info:
    case Command::oplock_break:
      return kReplyToken;
    case Command::read:
      cost = field(read_at::kLength);
      break;
    case Command::ioctl:
      cost = field(kIoctlOutputAt);
      break;
    case Command::query_directory:
      cost = field(kQueryDirectoryOutputAt);
      break;
    case Command::query_info:
      cost = field(kQueryInfoOutputAt);
      break;
    case Command::change_notify:
      cost = field(kChangeNotifyOutputAt);
      break;
    default:
      break;
  }
  return std::clamp(cost.value_or(kReplyUnit * std::max<uint64_t>(header.credit_charge, 1)), kReplyToken,
                    kReplyCap);
}

}  // namespace smbdirect::protocol::smb2
