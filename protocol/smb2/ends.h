// SPDX-License-Identifier: MIT
// What a request lets go of once smbd has done it: an open file, or all of those of a tree or a session. smbd
// gives them to others, so that nothing may be under way on them by then. Pure: bytes from the client, read
// as smbd reads them; of what is encrypted nothing is said.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

struct End {
  enum class Of : uint8_t { file, tree, session };
  Of of{};
  uint64_t session_id{};
  uint32_t tree_id{};  // of a file or a tree
  FileId file_id{};    // of a file
};

/// Each CLOSE, TREE_DISCONNECT and LOGOFF of a request, compounds included. request: all of it, or as much as
/// there is of one that is no compound.
void for_each_end(std::span<const std::byte> request, const std::function<void(const End&)>& what);

}  // namespace smbdirect::protocol::smb2
