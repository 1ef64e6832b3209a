// SPDX-License-Identifier: MIT
#include "shm/area.h"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smbdirect::shm {

namespace {

Result<UniqueFd> sealed(UniqueFd fd, size_t bytes) {
  if (!fd.valid()) return fail("data area", errno);
  if (ftruncate(fd.get(), off_t(bytes)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail("data area of " + std::to_string(bytes) + " bytes", errno);
  }
  return fd;
}

}  // namespace

Result<UniqueFd> make_area(size_t bytes) {
  return sealed(UniqueFd(memfd_create("smbdirect-area", MFD_CLOEXEC | MFD_ALLOW_SEALING)), bytes);
}

Result<HugeArea> HugeArea::begin(size_t bytes) {
  auto fd =
      sealed(UniqueFd(memfd_create("smbdirect-area", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB)), bytes);
  if (!fd) return std::unexpected(fd.error());
  // A shared mapping sets the pages aside, for the file and not for itself: they stay when it goes.
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  if (at == MAP_FAILED)
    return fail("huge pages for a data area of " + std::to_string(bytes) + " bytes", errno);
  munmap(at, bytes);
  struct stat status{};
  if (fstat(fd->get(), &status) != 0) return fail("the size of huge pages", errno);
  return HugeArea(std::move(*fd), size_t(status.st_blksize), bytes);
}

Result<bool> HugeArea::step() {
  if (fallocate(fd_.get(), 0, off_t(there_), off_t(page_)) != 0) return fail("a huge page", errno);
  there_ += page_;
  return there_ >= bytes_;
}

}  // namespace smbdirect::shm
