// SPDX-License-Identifier: MIT
// smbd's end of a session's socket, for tests: takes requests off the stream and says what it is told to, in
// pieces of any size. Owned by the test; never blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/unique_fd.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smbdirect::workers::session_test {

using smb2_test::Bytes;
using Messages = std::vector<Bytes>;

/// A message as a stream has it (MS-SMB2 2.1): its length in front.
inline Bytes framed(std::span<const std::byte> pdu) {
  Bytes out(4);
  for (size_t i = 1; i < 4; ++i) out[i] = static_cast<std::byte>(pdu.size() >> (24 - 8 * i) & 0xFF);
  out.insert(out.end(), pdu.begin(), pdu.end());
  return out;
}

class SmbdEnd {
 public:
  SmbdEnd() = default;
  explicit SmbdEnd(shm::UniqueFd fd) : fd_(std::move(fd)) {}

  void say(std::span<const std::byte> bytes);
  void answer(std::span<const std::byte> pdu) { say(framed(pdu)); }
  /// When all is said.
  void close() { closes_ = true; }

  /// True: something moved.
  bool move();
  /// The other end was closed, and all that it said is heard.
  [[nodiscard]] bool is_closed() const;
  /// It was reset: what asks first hears of it.
  [[nodiscard]] bool is_reset() const;
  /// Bytes of a request that is not here whole, its length among them.
  [[nodiscard]] std::span<const std::byte> part() const { return got_; }
  [[nodiscard]] bool all_said() const { return said_ == to_say_.size(); }
  /// The MessageIds of what was heard.
  [[nodiscard]] std::vector<uint64_t> ids() const;

  std::vector<Bytes> heard;     // whole requests
  size_t at_a_time = SIZE_MAX;  // bytes said in one turn
  bool reads = true;

 private:
  void cut();

  shm::UniqueFd fd_;
  Bytes to_say_;
  size_t said_ = 0;
  Bytes got_;
  bool closes_ = false;
};

}  // namespace smbdirect::workers::session_test
