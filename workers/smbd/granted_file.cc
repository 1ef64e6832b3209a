// SPDX-License-Identifier: MIT
#include "workers/smbd/granted_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace smbdirect::workers {

std::expected<GrantedFile, const char*> look_at_granted(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return std::unexpected("a descriptor that cannot be looked at");
  if ((flags & O_PATH) != 0) return std::unexpected("a path instead of an open file");
  if ((flags & O_APPEND) != 0) return std::unexpected("a file that is open for appending");
  if ((flags & O_DIRECT) != 0) return std::unexpected("a file whose reads and writes must be aligned");
  struct stat status{};
  if (::fstat(fd, &status) != 0) return std::unexpected("a descriptor that cannot be looked at");
  if (!S_ISREG(status.st_mode)) return std::unexpected("what is no regular file");
  // A memfd is one too, and so is a file that somebody has deleted: smbd can deal with it.
  if (status.st_nlink == 0) return std::unexpected("a file without a name");
  struct statfs system{};
  const bool known = ::fstatfs(fd, &system) == 0;
  const bool memory = known && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
  const bool local = known && (system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC ||
                               system.f_type == BTRFS_SUPER_MAGIC || system.f_type == F2FS_SUPER_MAGIC);
  const int access = flags & O_ACCMODE;
  // O_SYNC has the bit of O_DSYNC. See protocol/smb2/direct_request.cc, takes_flags().
  const bool on_disk = (flags & O_DSYNC) != 0;
  return GrantedFile{.readable = access == O_RDONLY || access == O_RDWR,
                     .writable = (access == O_WRONLY || access == O_RDWR) && !on_disk,
                     .device = status.st_dev,
                     .never_blocks = memory,
                     .closes_at_once = memory || local};
}

}  // namespace smbdirect::workers
