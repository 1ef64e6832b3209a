// SPDX-License-Identifier: MIT
// A memfd mapped as an array of 64-bit words, with exactly one process that can write it. The maker maps it
// writable, then seals it: no process can resize it (and so cause another a SIGBUS), map it writable or
// write(2) to it any more, even with the descriptor. It is passed by descriptor and mapped read-only by the
// others. The memory lives as long as any process holds the descriptor or a mapping, so it can still be read
// after the maker has died. A forked child shares its parent's mapping, and the right to write with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::shm {

class SharedMap {
 public:
  /// Zeroed and writable. `name` shows in /proc/PID/fd; bytes: a multiple of 8.
  [[nodiscard]] static Result<SharedMap> create(const std::string& name, size_t bytes);
  /// sealed: nobody but a process that had it mapped before, as above; its_maker: the size alone is sealed,
  /// and whoever has the descriptor may write; everybody: that, and this process as well.
  enum class Writers : uint8_t { sealed, its_maker, everybody };
  /// Read-only but for everybody's; the descriptor is borrowed for the call only. What is not a memfd sealed
  /// as above, or is smaller than min_bytes or larger than max_bytes, is an error.
  [[nodiscard]] static Result<SharedMap> open(int fd, size_t min_bytes, size_t max_bytes,
                                              Writers writers = Writers::sealed);

  [[nodiscard]] std::span<const uint64_t> words() const { return {memory_.get(), bytes_ / 8}; }
  /// Of a map made by create(), or everybody's: writing to another one is a SIGSEGV.
  [[nodiscard]] std::span<uint64_t> writable() { return {memory_.get(), bytes_ / 8}; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  /// To be passed on; closed on exec. Invalid (-1) in a map made by open().
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(uint64_t* memory) const;
  };
  SharedMap(UniqueFd fd, uint64_t* memory, size_t bytes)
      : fd_(std::move(fd)), memory_(memory, Unmap{bytes}), bytes_(bytes) {}

  UniqueFd fd_;
  std::unique_ptr<uint64_t, Unmap> memory_;
  size_t bytes_;
};

}  // namespace smbdirect::shm
