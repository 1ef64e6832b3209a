// SPDX-License-Identifier: MIT
// A file with a daemon's process id, for init scripts. It is locked as long as its daemon lives, so a second
// daemon does not take it, and one that was left behind by a crash is taken over. Removed in the destructor;
// after a crash it stays, unlocked. Supervisor only.
#pragma once

#include <string>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class PidFile {
 public:
  /// Holds nothing.
  PidFile() = default;
  /// By the process that is to be named in it. The error says who has it if somebody does.
  [[nodiscard]] static shm::Result<PidFile> hold(const std::string& path);
  PidFile(PidFile&& other) noexcept = default;
  PidFile& operator=(PidFile&& other) = delete;
  ~PidFile();

 private:
  PidFile(std::string path, shm::UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  shm::UniqueFd file_;
};

}  // namespace smbdirect::daemon
