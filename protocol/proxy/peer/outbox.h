// SPDX-License-Identifier: MIT
// What is sent to a socket of the native channel: whole frames, in order, directly as far as the socket
// accepts them and from a copy otherwise. Owned by a channel or a registration of the process that links the
// library, and for one thread at a time. When the other side has died, the queue is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>
#include <vector>

namespace smbdirect::protocol::proxy::peer {

class Outbox {
 public:
  /// One whole frame, in pieces. 0: it is sent or queued; -ECONNRESET and other errnos: nothing can be sent
  /// any more. May throw std::bad_alloc; then nothing of the frame was sent, or nothing can be sent any more.
  [[nodiscard]] int send(int socket, std::span<const iovec> pieces);
  /// What still waits, or a negated errno.
  [[nodiscard]] int64_t flush(int socket);

  [[nodiscard]] std::span<const std::byte> unsent() const { return std::span(bytes_).subspan(begin_); }
  /// How many of those are the rest of a frame whose beginning was sent, or the whole first frame.
  [[nodiscard]] size_t first_frame() const { return first_frame_; }
  /// Nothing can be sent any more: why, negated; 0 otherwise.
  [[nodiscard]] int failure() const { return failure_; }

  /// Call before anything else: what another process's outbox left unsent.
  void restore(std::span<const std::byte> unsent, size_t first_frame);

 private:
  void sent(size_t bytes);
  int fail(int error);

  std::vector<std::byte> bytes_;
  size_t begin_ = 0;
  size_t first_frame_ = 0;
  int failure_ = 0;
};

}  // namespace smbdirect::protocol::proxy::peer
