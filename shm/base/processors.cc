// SPDX-License-Identifier: MIT
#include "shm/base/processors.h"

#include <array>
#include <charconv>
#include <fcntl.h>
#include <string_view>
#include <sys/types.h>
#include <system_error>
#include <unistd.h>

namespace smbdirect::shm {

Processors::Processors()
    : load_(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC)), online_(::sysconf(_SC_NPROCESSORS_ONLN)) {}

bool Processors::suffice() const {
  std::array<char, 128> text{};
  const ssize_t length = ::pread(load_.get(), text.data(), text.size(), 0);
  if (length <= 0) return false;
  const long running = running_of({text.data(), static_cast<size_t>(length)});
  return running >= 0 && running <= online_;
}

/// By hand: sscanf() of three numbers that nobody wants took as long as the system call.
long running_of(std::string_view loadavg) {
  for (int word = 0; word < 3; ++word) {
    const size_t space = loadavg.find(' ');
    if (space == std::string_view::npos) return -1;
    loadavg.remove_prefix(space + 1);
  }
  long running = -1;
  const char* const end = loadavg.data() + loadavg.size();
  const auto [stop, error] = std::from_chars(loadavg.data(), end, running);
  return error == std::errc{} && stop != end && *stop == '/' ? running : -1;
}

}  // namespace smbdirect::shm
