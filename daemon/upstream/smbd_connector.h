// SPDX-License-Identifier: MIT
// Opens what a worker has no privilege to open: a TCP stream to smbd on which smbd sees the client's own
// address. Implemented by TransparentConnector (to the listening smbd) and HandoffConnector (to an smbd
// started for the client). Owned by the supervisor; its loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <sys/socket.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class SmbdConnector {
 public:
  /// The stream, nonblocking and closed on exec, or why there is none: what failed, on what, and what to do.
  using Done = std::function<void(shm::Result<shm::UniqueFd>)>;

  virtual ~SmbdConnector() = default;
  /// client: the client's address; its port is used if possible. server: the address and port that smbd is to
  /// see as its own. done is called once, from the loop and never from within open(), unless the request is
  /// cancelled before. The number is never 0.
  [[nodiscard]] virtual uint64_t open(const sockaddr_storage& client, const sockaddr_storage& server,
                                      Done done) = 0;
  /// The request is no longer wanted: its stream is closed. Numbers that are done already are ignored.
  virtual void cancel(uint64_t number) = 0;
};

}  // namespace smbdirect::daemon
