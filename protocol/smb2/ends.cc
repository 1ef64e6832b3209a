// SPDX-License-Identifier: MIT
#include "protocol/smb2/ends.h"

#include <algorithm>
#include <optional>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

/// Where a request names the open file that it is on; 0: it names none.
size_t file_id_at(Command command) {
  switch (command) {
    case Command::close:
      return kCloseFileIdAt;
    case Command::flush:
      return kFlushFileIdAt;
    case Command::read:
      return read_at::kFileId;
    case Command::write:
      return write_at::kFileId;
    case Command::lock:
      return kLockFileIdAt;
    case Command::ioctl:
      return kIoctlFileIdAt;
    case Command::set_info:
      return kSetInfoFileIdAt;
    default:
      return 0;
  }
}

/// How a related request names the file of the one before it.
FileId previous() {
  FileId id;
  id.bytes.fill(std::byte{0xFF});
  return id;
}

std::optional<End::Of> end_of(Command command) {
  switch (command) {
    case Command::close:
      return End::Of::file;
    case Command::tree_disconnect:
      return End::Of::tree;
    case Command::logoff:
      return End::Of::session;
    default:
      return std::nullopt;
  }
}

}  // namespace

void for_each_end(std::span<const std::byte> request, const std::function<void(const End&)>& what) {
  End now;
  for (;;) {
    const auto header = parse_header(request);
    if (!header || header->response() || !valid_next_command(header->next_command, request.size())) return;
    const auto element = header->next_command == 0 ? request : request.first(header->next_command);
    // A related one is on what the one before it was on, whatever it says itself (MS-SMB2 3.3.5.2.7.2).
    if (!header->related()) {
      now.session_id = header->session_id;
      now.tree_id = header->async() ? 0 : wire::load32(element, header_at::kTreeId);
    }
    const size_t at = file_id_at(header->command);
    FileId names{};
    if (at != 0 && element.size() >= at + sizeof(FileId))
      std::ranges::copy(element.subspan(at, sizeof(FileId)), names.bytes.begin());
    if (!header->related()) now.file_id = names;
    if (header->command == Command::create) now.file_id = {};
    if (const auto of = end_of(header->command)) {
      now.of = *of;
      what(now);
      // ... unless that was on none, or failed: then smbd takes it at its word.
      if (now.of == End::Of::file && header->related() && names != now.file_id && names != previous())
        what({.of = now.of, .session_id = now.session_id, .tree_id = now.tree_id, .file_id = names});
    }
    if (header->next_command == 0) return;
    request = request.subspan(header->next_command);
  }
}

}  // namespace smbdirect::protocol::smb2
