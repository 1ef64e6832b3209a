// SPDX-License-Identifier: MIT
// A file with a daemon's process id, for init scripts. It is locked as long as its daemon lives, so a second
// daemon does not take it, and one that was left behind by a crash is taken over. Removed in the destructor;
// after a crash it stays, unlocked. Supervisor only.
#pragma once

#include <string>
#include <utility>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class PidFile {
 public:
  /// Holds nothing.
  PidFile() = default;
  /// By the process that is to be named in it. The error says who has it if somebody does.
  [[nodiscard]] static shm::Result<PidFile> hold(const std::string& path);
  /// The same file, locked by a process that hands it over; it names that process until name_us().
  [[nodiscard]] static PidFile inherit(const std::string& path, shm::UniqueFd file) {
    return {path, std::move(file)};
  }
  PidFile(PidFile&& other) noexcept = default;
  PidFile& operator=(PidFile&& other) = delete;
  ~PidFile();

  [[nodiscard]] bool held() const { return file_.valid(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// For the process that is to inherit it; its lock is this one's.
  [[nodiscard]] shm::UniqueFd copy() const { return shm::duplicate_of(file_.get()); }
  /// This process is to be named in it.
  [[nodiscard]] shm::Result<> name_us();
  /// Another process has it now.
  void let_go() { file_.reset(); }

 private:
  PidFile(std::string path, shm::UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  shm::UniqueFd file_;
  bool named_ = false;  // this process is; so it is the one that removes the file
};

}  // namespace smbdirect::daemon
