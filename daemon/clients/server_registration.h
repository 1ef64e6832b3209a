// SPDX-License-Identifier: MIT
// The registration of a native server's main process (protocol/proxy/frames.h): the connection on which it
// learns of clients that no process serves yet. Owned by the channel router, in the supervisor; its loop's
// thread. Its frames are checked and only report failures. When the main process dies, its children keep
// their channels; when the supervisor dies, the main process sees the connection end and registers with the
// next one.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <sys/types.h>

#include "protocol/proxy/frames.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class ServerRegistration {
 public:
  /// It could start no child for the request, or the child has ended.
  using Failed = std::function<void(uint64_t number, int error)>;
  /// The registration has ended; destroying this is allowed. why: for the log.
  using Gone = std::function<void(const std::string& why)>;

  /// Sends REGISTERED.
  [[nodiscard]] static shm::Result<std::unique_ptr<ServerRegistration>> adopt(shm::Loop& loop,
                                                                              shm::UniqueFd socket,
                                                                              Failed failed, Gone gone);
  /// Of a process that has registered with the daemon that is taken over.
  [[nodiscard]] static shm::Result<std::unique_ptr<ServerRegistration>> inherit(shm::Loop& loop,
                                                                                shm::UniqueFd socket,
                                                                                Failed failed, Gone gone);
  /// For the daemon that takes over; not valid in the middle of a frame, which that could not read on.
  [[nodiscard]] shm::UniqueFd copy() const {
    return have_ == 0 ? shm::duplicate_of(socket_.get()) : shm::UniqueFd{};
  }
  [[nodiscard]] static pid_t pid_of(const shm::UniqueFd& socket);
  /// Sends REFUSED to a process that cannot register.
  static void refuse(const shm::UniqueFd& socket, int error);

  /// An error means that it does not read from its socket.
  [[nodiscard]] shm::Result<> start(uint64_t number, const protocol::proxy::Start& start);
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  ServerRegistration(shm::UniqueFd socket, Failed failed, Gone gone);
  [[nodiscard]] shm::Result<> watch(shm::Loop& loop);
  void read();
  void end(const std::string& why);

  shm::UniqueFd socket_;
  Failed failed_;
  Gone gone_;
  pid_t pid_ = 0;
  std::array<std::byte, protocol::proxy::kFrameHeaderBytes> said_{};
  size_t have_ = 0;
  shm::UniqueFd process_;                  // pidfd
  std::unique_ptr<shm::ReadWatch> watch_;  // after the descriptors: gone before they are closed
  std::unique_ptr<shm::ReadWatch> ended_;
};

}  // namespace smbdirect::daemon
