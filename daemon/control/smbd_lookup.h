// SPDX-License-Identifier: MIT
// Which smbd process of this host has the other end of a TCP stream: the kernel's table of connections, and
// the descriptors of the processes that are called smbd, at one moment. For smbdirectctl only: it reads /proc
// and is too slow for the data path. It sees what this process may see: only root sees other users'
// processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class SmbdLookup {
 public:
  [[nodiscard]] static SmbdLookup look();

  /// The process at smbd's end of the stream whose other end has this port, and this address if it is known.
  /// Nothing when there is none, or when it is not clear which.
  [[nodiscard]] std::optional<uint32_t> owner(uint16_t smbd_port, uint16_t other_port,
                                              const std::optional<shm::Host>& other) const;

 private:
  struct Owned {
    shm::Host other{};
    uint32_t pid{};
  };
  std::multimap<std::pair<uint16_t, uint16_t>, Owned> streams_;  // smbd's port, the other's
};

/// One of now, or where that takes long the last one for a while: on a host with 100,000 open files one takes
/// a good part of a second, whoever asks how often.
class RecentLookup {
 public:
  [[nodiscard]] const SmbdLookup& get();

 private:
  static constexpr std::chrono::milliseconds kCheap{50};
  static constexpr int kTimesItsCost = 20;
  SmbdLookup lookup_;
  std::chrono::steady_clock::time_point again_;
};

}  // namespace smbdirect::daemon
