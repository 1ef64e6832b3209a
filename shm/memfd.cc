// SPDX-License-Identifier: MIT
#include "shm/memfd.h"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smbdirect::shm {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

}  // namespace

Result<UniqueFd> make_sealed_text(const std::string& name, std::string_view text) {
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return fail("memfd_create '" + name + "'", errno);
  for (size_t written = 0; written < text.size();) {
    const ssize_t step = write(fd.get(), text.data() + written, text.size() - written);
    if (step < 0 && errno == EINTR) continue;
    if (step < 0) return fail("write to memfd '" + name + "'", errno);
    written += size_t(step);
  }
  lseek(fd.get(), 0, SEEK_SET);  // a reader that inherits the descriptor shares its offset
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return fail("seal memfd '" + name + "'", errno);
  return fd;
}

Result<std::string> read_sealed_text(int fd, size_t max_bytes) {
  const std::string what = "read sealed memfd " + std::to_string(fd);
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return fail(what, errno);
  if ((seals & kSeals) != kSeals) return fail(what + ": it is not sealed");
  struct stat status{};
  if (fstat(fd, &status) != 0) return fail(what, errno);
  if (uint64_t(status.st_size) > max_bytes) return fail(what, EFBIG);
  std::string text(size_t(status.st_size), '\0');
  // pread: the file offset is shared with everybody who holds the descriptor.
  for (size_t got = 0; got < text.size();) {
    const ssize_t step = pread(fd, text.data() + got, text.size() - got, off_t(got));
    if (step < 0 && errno == EINTR) continue;
    if (step < 0) return fail(what, errno);
    if (step == 0) return fail(what, EIO);
    got += size_t(step);
  }
  return text;
}

}  // namespace smbdirect::shm
