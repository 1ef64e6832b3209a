// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/area.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace smbdirect::protocol::proxy::peer {

std::expected<Area, int> Area::map(int memfd, uint64_t bytes) {
  constexpr int kNeeded = F_SEAL_SHRINK | F_SEAL_GROW;
  struct stat status{};
  if (fstat(memfd, &status) != 0) return std::unexpected(-errno);
  const int seals = fcntl(memfd, F_GET_SEALS);
  if (bytes == 0 || bytes > SIZE_MAX / 2 || seals < 0 || (seals & kNeeded) != kNeeded ||
      static_cast<uint64_t>(status.st_size) != bytes) {
    return std::unexpected(-EPROTO);
  }
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (data == MAP_FAILED) {
    // Sealed against writing, or opened for reading only.
    return std::unexpected(errno == EPERM || errno == EACCES ? -EPROTO : -errno);
  }
  return Area(static_cast<uint8_t*>(data), bytes);
}

Area::~Area() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace smbdirect::protocol::proxy::peer
