// SPDX-License-Identifier: MIT
// What commands at the control socket do to the pool, as the supervisor tells it. Values; the supervisor
// makes them, and Control writes them down for whoever asked.
#pragma once

#include <cstddef>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/config/pool_reload.h"

namespace smbdirect::daemon {

/// Nothing was done.
struct Refused {
  std::string why;
  std::vector<std::string> problems{};  // of the pool file, with line and pointer
};

struct Reloaded {
  std::vector<Change> changes;
};

struct Resized {
  size_t before = 0;
  size_t workers = 0;
  size_t draining = 0;  // that finish their connections
};

/// Of drain and undrain.
struct Held {
  size_t workers = 0;      // that are held now
  size_t connections = 0;  // that they still have
};

struct Kicked {
  size_t connections = 0;
};

/// Of leave.
struct Left {
  std::string address;
  size_t connections = 0;  // that were ended
};

/// Of take.
struct TakenIn {
  std::string address;
  bool left = false;  // it was leaving
};

/// Another daemon has taken this one's place.
struct Upgraded {
  pid_t pid = 0;
  std::string release;
  pid_t former_pid = 0;
  size_t connections = 0;  // that finish here
};

}  // namespace smbdirect::daemon
