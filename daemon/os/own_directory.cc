// SPDX-License-Identifier: MIT
#include "daemon/os/own_directory.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace smbdirect::daemon {
namespace {

namespace fs = std::filesystem;

std::unexpected<shm::Error> not_ours(const fs::path& path, const std::string& key, const std::string& why) {
  return shm::fail(
      "directory '" + path.string() + "' " + why + ": others could put sockets of their own there; set " +
          key +
          " to a directory that belongs to root or to smbdirectd's user, and that nobody else may write to",
      EPERM);
}

std::string mode_text(mode_t mode) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "%04o", unsigned(mode & 07777));
  return text.data();
}

constexpr mode_t kOpenMode = 0755;

/// "/run/x/"
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

bool trusted(uid_t user) { return user == 0 || user == geteuid(); }

shm::Result<> make(const fs::path& path, mode_t mode) {
  if (path.has_parent_path() && path.parent_path() != path) {
    std::error_code error;
    if (!fs::exists(path.parent_path(), error)) {
      if (auto made = make(path.parent_path(), kOpenMode); !made) return made;
    }
  }
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return shm::fail("directory '" + path.string() + "'", errno);
  }
  return {};
}

/// Whoever may rename what is in a parent can put another in its place.
shm::Result<> check_parents(const fs::path& path, const std::string& key) {
  for (fs::path above = path.parent_path();; above = above.parent_path()) {
    struct stat status{};
    if (lstat(above.empty() ? "." : above.c_str(), &status) != 0)
      return shm::fail("directory '" + above.string() + "'", errno);
    if (S_ISLNK(status.st_mode) && !trusted(status.st_uid)) {
      return not_ours(path, key,
                      "is reached through '" + above.string() + "', a symbolic link of user " +
                          std::to_string(status.st_uid));
    }
    if (S_ISDIR(status.st_mode) && (status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0) {
      return not_ours(path, key,
                      "lies in '" + above.string() + "', to which everybody may write (mode " +
                          mode_text(status.st_mode) + ")");
    }
    if (above.empty() || above == above.parent_path()) return {};
  }
}

}  // namespace

shm::Result<> own_directory(const std::string& named, const std::string& key, mode_t mode) {
  if (auto made = make(without_slash(named), mode); !made) return made;
  return check_own_directory(named, key);
}

shm::Result<> check_own_directory(const std::string& named, const std::string& key) {
  const fs::path path = without_slash(named);
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) return shm::fail("directory '" + named + "'", errno);
  if (S_ISLNK(status.st_mode)) return not_ours(path, key, "is a symbolic link");
  if (!S_ISDIR(status.st_mode)) return shm::fail("directory '" + named + "'", ENOTDIR);
  if (!trusted(status.st_uid)) return not_ours(path, key, "belongs to user " + std::to_string(status.st_uid));
  const bool group = (status.st_mode & S_IWGRP) != 0 && status.st_gid != 0;
  if (group || (status.st_mode & S_IWOTH) != 0) {
    return not_ours(path, key,
                    "is writable by others (mode " + mode_text(status.st_mode) + ", group " +
                        std::to_string(status.st_gid) + ")");
  }
  if (auto checked = check_parents(path, key); !checked) return checked;
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error || real == path ? shm::Result<>{} : check_parents(real, key);
}

}  // namespace smbdirect::daemon
