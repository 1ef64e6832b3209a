// SPDX-License-Identifier: MIT
#include "workers/smbd/granted_file.h"

#include <cstdint>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace smbdirect::workers {

std::expected<GrantedFile, const char*> look_at_granted(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return std::unexpected("a descriptor that cannot be looked at");
  if ((flags & O_PATH) != 0) return std::unexpected("a path instead of an open file");
  if ((flags & O_APPEND) != 0) return std::unexpected("a file that is open for appending");
  if ((flags & O_DIRECT) != 0) return std::unexpected("a file whose reads and writes must be aligned");
  struct statx status{};
  // As far as it is known here: storage far away may take its time to answer, and the loop stands meanwhile.
  constexpr unsigned kWanted = STATX_TYPE | STATX_NLINK;
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, kWanted, &status) != 0)
    return std::unexpected("a descriptor that cannot be looked at");
  if (!S_ISREG(status.stx_mode)) return std::unexpected("what is no regular file");
  // A memfd is one too, and so is a file that somebody has deleted: smbd can deal with it.
  if (status.stx_nlink == 0) return std::unexpected("a file without a name");
  // What can be sealed is tmpfs's or hugetlbfs's, and only these are asked what they are: others may have to
  // ask their server.
  struct statfs system{};
  const bool memory =
      ::fcntl(fd, F_GET_SEALS) >= 0 && ::fstatfs(fd, &system) == 0 && system.f_type == TMPFS_MAGIC;
  // Flags that file systems keep which are this host's own: others may send something when a file is closed.
  constexpr uint64_t kOwn = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
  const bool own = (status.stx_attributes_mask & kOwn) == kOwn;
  const int access = flags & O_ACCMODE;
  // O_SYNC has the bit of O_DSYNC. See protocol/smb2/direct_request.cc, takes_flags().
  const bool on_disk = (flags & O_DSYNC) != 0;
  return GrantedFile{.readable = access == O_RDONLY || access == O_RDWR,
                     .writable = (access == O_WRONLY || access == O_RDWR) && !on_disk,
                     .device = makedev(status.stx_dev_major, status.stx_dev_minor),
                     .never_blocks = memory,
                     .closes_at_once = memory || own};
}

}  // namespace smbdirect::workers
