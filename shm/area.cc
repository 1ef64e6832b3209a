// SPDX-License-Identifier: MIT
#include "shm/area.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
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

Result<UniqueFd> make_huge_area(size_t bytes) {
  auto fd =
      sealed(UniqueFd(memfd_create("smbdirect-area", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB)), bytes);
  if (!fd) return fd;
  if (fallocate(fd->get(), 0, 0, off_t(bytes)) != 0) {
    return fail("huge pages for a data area of " + std::to_string(bytes) + " bytes", errno);
  }
  return fd;
}

}  // namespace smbdirect::shm
