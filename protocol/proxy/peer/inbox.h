// SPDX-License-Identifier: MIT
// What arrives at a socket of the native channel, as frames, each with the descriptor it brought. Owned by a
// channel or a registration of the process that links the library, and for one thread at a time. What the
// other side sends is not trusted; when it dies, complete frames that it has sent are still returned before
// the end is reported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

#include "protocol/proxy/frames.h"
#include "protocol/proxy/peer/owned_fd.h"

namespace smbdirect::protocol::proxy::peer {

struct Frame {
  FrameHeader header;
  std::span<const std::byte> body;  // until the next frame is asked for
};

class Inbox {
 public:
  explicit Inbox(Sender other);

  /// 1: the next frame; 0: it is not there (whole) yet; -ECONNRESET: the end; -EPROTO: the other side may not
  /// say that. Reads from `socket` as much as comes at once.
  [[nodiscard]] int next(int socket, Frame& frame);

  /// The descriptor that came with the frame returned last. -EPROTO: it brought none; -EMFILE: this process
  /// had no room for it.
  [[nodiscard]] std::expected<OwnedFd, int> take_descriptor();

  /// What was read and belongs to no frame returned yet.
  [[nodiscard]] std::span<const std::byte> unread() const;
  /// A descriptor is here whose frame was not returned.
  [[nodiscard]] bool descriptor_waits() const;

  /// Before anything else: what another process's inbox left unread.
  void restore(std::span<const std::byte> unread);

 private:
  /// One that arrived with bytes [first, end) of the stream.
  struct Arrived {
    uint64_t first;
    uint64_t end;
    OwnedFd fd;  // none: lost, for want of room
  };

  void consume();
  void make_room(size_t whole);
  [[nodiscard]] int fill(int socket);
  void keep_descriptors(const void* message, uint64_t first, uint64_t end);

  Sender other_;
  std::unique_ptr<std::byte[]> bytes_;  // not a vector, which would be zeroed
  size_t capacity_ = 0;
  size_t begin_ = 0;       // the frame returned last, or what is unread
  size_t end_ = 0;         // of what was read
  size_t current_ = 0;     // bytes of the frame returned last
  uint64_t position_ = 0;  // of bytes_[begin_] in the stream
  std::vector<Arrived> arrived_;
};

}  // namespace smbdirect::protocol::proxy::peer
