// SPDX-License-Identifier: MIT
#include "shm/area.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace smbdirect::shm {

Result<UniqueFd> make_area(size_t bytes) {
  UniqueFd fd(memfd_create("smbdirect-area", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return fail("data area", errno);
  if (ftruncate(fd.get(), off_t(bytes)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail("data area of " + std::to_string(bytes) + " bytes", errno);
  }
  return fd;
}

}  // namespace smbdirect::shm
