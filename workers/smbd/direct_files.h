// SPDX-License-Identifier: MIT
// The open files that smbd's module has granted this session (protocol/proxy/smbdirect_area.h, "Direct I/O"):
// their descriptors, and whether READs and WRITEs may be done on them at this moment, which the table says
// that the module shares with all links of its process. Owned by the session's exchange with smbd; one
// thread, but for Right, which any may ask. When smbd or its module dies the link ends and all of it goes:
// the table then says nothing any more.
//
// The module is not believed: of a descriptor that is no regular file, or is open for less than the grant
// says, that right is not used; what a grant of a slot already taken, an unknown slot, or too many of them
// would do is end the link.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "protocol/smb2/direct_request.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::workers {

namespace smb2 = protocol::smb2;

/// A slot's word, mapped read-only; keeps the mapping.
class Right {
 public:
  /// Whether the module still lets it be done; asked directly before each system call, in any thread.
  [[nodiscard]] bool holds() const;
};

/// An open file for one READ or WRITE. Shared with what runs in a thread: a CLOSED in between does not close
/// the descriptor under it.
struct DirectFile {
  shm::UniqueFd fd;
  // ... slot, generation, rights, tree, session, channel sequence, whether smbd has had a WRITE of it
};

class DirectFiles {
 public:
  /// The file, if this request may be done on it now. nullptr: it is for smbd.
  [[nodiscard]] std::shared_ptr<DirectFile> find(const smb2::DirectRequest& request);
};

}  // namespace smbdirect::workers
