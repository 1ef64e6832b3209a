// SPDX-License-Identifier: MIT
#include "shm/shared_map.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace smbdirect::shm {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

void SharedMap::Unmap::operator()(uint64_t* memory) const { munmap(memory, bytes); }

Result<SharedMap> SharedMap::create(const std::string& name, size_t bytes) {
  const std::string what = "memfd '" + name + "' of " + std::to_string(bytes) + " bytes: ";
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return fail(what + "create", errno);
  if (ftruncate(fd.get(), off_t(bytes)) != 0) return fail(what + "set its size", errno);
  // Without pages of its own the first write to a full tmpfs or memory cgroup would be a SIGBUS.
  if (const int error = posix_fallocate(fd.get(), 0, off_t(bytes)); error != 0) {
    return fail(what + "allocate", error);
  }
  // Populated: nothing is left to fault in, or to count for a process, when it is first written.
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) return fail(what + "map", errno);
  SharedMap map(std::move(fd), static_cast<uint64_t*>(memory), bytes);
  if (fcntl(map.fd(), F_ADD_SEALS, kSizeSeals | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
    return fail(what + "seal", errno);
  }
  return map;
}

Result<SharedMap> SharedMap::open(int fd, size_t min_bytes, size_t max_bytes, Writers writers) {
  const std::string what = "shared memory in descriptor " + std::to_string(fd);
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return fail(what + ": not a memfd", errno);
  if ((seals & kSizeSeals) != kSizeSeals) return fail(what + ": its size is not sealed");
  if (writers == Writers::sealed && (seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)) == 0)
    return fail(what + ": it is not sealed against writers");
  struct stat status{};
  if (fstat(fd, &status) != 0) return fail(what, errno);
  const auto bytes = uint64_t(status.st_size);
  if (bytes < min_bytes || bytes > max_bytes || bytes % 8 != 0) {
    return fail(what + ": its size of " + std::to_string(bytes) + " bytes is not valid");
  }
  const int access = writers == Writers::everybody ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const memory = mmap(nullptr, bytes, access, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return fail(what + ": map", errno);
  return SharedMap(UniqueFd{}, static_cast<uint64_t*>(memory), bytes);
}

}  // namespace smbdirect::shm
