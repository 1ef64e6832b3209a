// SPDX-License-Identifier: MIT
#include "shm/base/processors.h"

#include <array>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

namespace smbdirect::shm {

Processors::Processors()
    : load_(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC)), online_(::sysconf(_SC_NPROCESSORS_ONLN)) {}

bool Processors::suffice() const {
  std::array<char, 128> text{};
  if (::pread(load_.get(), text.data(), text.size() - 1, 0) <= 0) return false;
  const long running = running_of(text.data());
  return running >= 0 && running <= online_;
}

long running_of(const char* loadavg) {
  long running = -1;
  return std::sscanf(loadavg, "%*f %*f %*f %ld/", &running) == 1 ? running : -1;
}

}  // namespace smbdirect::shm
