// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/same_view.h"

#include <fstream>
#include <optional>
#include <string_view>
#include <sys/stat.h>

namespace smbdirect::daemon {
namespace {

std::optional<ino_t> mounts_of(const std::string& process) {
  struct stat status{};
  if (stat(("/proc/" + process + "/ns/mnt").c_str(), &status) != 0) return std::nullopt;
  return status.st_ino;
}

/// A line of /proc/PID/status.
std::optional<std::string> status_of(const std::string& process, std::string_view name) {
  std::ifstream lines("/proc/" + process + "/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name)) return line.substr(name.size());
  }
  return std::nullopt;
}

/// Known of both, and not the same.
template <class Value>
bool differ(const std::optional<Value>& ours, const std::optional<Value>& theirs) {
  return ours && theirs && *ours != *theirs;
}

}  // namespace

std::string differences_from(pid_t smbd) {
  const std::string self = "self";
  const std::string other = std::to_string(smbd);
  std::string text;
  const auto add = [&](bool differs, std::string_view what) {
    if (!differs) return;
    if (!text.empty()) text += "; ";
    text += what;
  };
  add(differ(mounts_of(self), mounts_of(other)),
      "other mounts, so files of shares may be missing or read-only (ProtectHome, ProtectSystem, PrivateTmp "
      "and whatever else gives a unit mounts of its own)");
  add(differ(status_of(self, "NoNewPrivs:"), status_of(other, "NoNewPrivs:")),
      "other rules for set-user-ID programs, so scripts of smb.conf may fail (NoNewPrivileges)");
  add(differ(status_of(self, "CapBnd:"), status_of(other, "CapBnd:")),
      "another set of capabilities (CapabilityBoundingSet)");
  add(differ(status_of(self, "Seccomp:"), status_of(other, "Seccomp:")),
      "a filter of system calls (SystemCallFilter, Restrict...)");
  return text;
}

}  // namespace smbdirect::daemon
