// SPDX-License-Identifier: MIT
// A stream socket read in bulk into slabs and taken in pieces without copying. Owned by the session that owns
// the socket; one thread. Holds at most one slab while
// nothing is buffered, and none after trim().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/types.h>
#include <sys/uio.h>

#include "shm/base/result.h"
#include "workers/memory/ring.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

/// recvmsg on a UNIX socket with SO_PASSCRED, and the process that wrote what was read: one at a time.
/// Descriptors that come along are closed; sender is unchanged if the kernel names no process.
[[nodiscard]] ssize_t receive_from(int fd, std::span<iovec> into, pid_t& sender);

class StreamReader {
 public:
  StreamReader(SlabPool& pool, Budget& budget) : pool_(pool), budget_(budget) {}

  enum class Fill : uint8_t {
    more,       // read something; there may be more now
    drained,    // read all there is now
    no_memory,  // the budget is exhausted: take() something and release it first
    end,        // the peer has closed
  };
  /// One read of up to `limit` bytes. floor: where the budget has no room and there is not even one slab to
  /// read on with, one is taken all the same. sender: of a UNIX socket with SO_PASSCRED, the process that
  /// wrote them, which is one at a time; descriptors that come with them are closed.
  [[nodiscard]] shm::Result<Fill> fill(int fd, size_t limit, pid_t* sender = nullptr, bool floor = false);

  /// Bytes that were read by other means, copied behind what is buffered. False: there is no memory.
  [[nodiscard]] bool put(std::span<const std::byte> bytes);

  [[nodiscard]] size_t available() const { return available_; }
  /// The first bytes, contiguous: in place when they are in one slab, else copied to `scratch`.
  /// Requires available() >= count and scratch.size() >= count.
  [[nodiscard]] std::span<const std::byte> peek(size_t count, std::span<std::byte> scratch);

  /// The contiguous bytes at the front, up to `most`. Requires available() > 0.
  [[nodiscard]] std::span<const std::byte> front(size_t most);

  struct Chunk {
    SlabRef owner;
    std::span<std::byte> bytes;
  };
  /// Takes up to `most` contiguous bytes from the front (at least 1). Requires available() > 0.
  [[nodiscard]] Chunk take(size_t most);
  void skip(size_t count);
  /// Releases the last slab when nothing is buffered and nothing else uses it: an idle stream costs nothing.
  /// Cheap; call it when work has completed.
  void trim();
  void clear();

 private:
  struct Extent {
    SlabRef slab;
    uint32_t begin = 0;
    uint32_t end = 0;
  };
  SlabPool& pool_;
  Budget& budget_;
  Ring<Extent> extents_;  // only the last may have room at its end
  size_t available_ = 0;
};

}  // namespace smbdirect::workers
