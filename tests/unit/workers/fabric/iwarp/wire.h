// SPDX-License-Identifier: MIT
// Streams without sockets: bytes are carried between two of them, or fed to one, in pieces of any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "workers/fabric/iwarp/stream.h"

namespace smbdirect::test {

/// One direction of a connection.
class Wire {
 public:
  Wire(workers::fabric::iwarp::Stream& from, workers::fabric::iwarp::Stream& to) : from_(from), to_(to) {}
  /// Moves a random share of what can move. False when nothing could.
  bool step(std::mt19937_64& random, size_t most);

 private:
  workers::fabric::iwarp::Stream& from_;
  workers::fabric::iwarp::Stream& to_;
  std::deque<std::byte> flight_;
};

/// What the stream would send now, whole.
std::vector<std::byte> take_all(workers::fabric::iwarp::Stream& stream);

/// Feeds bytes in pieces of at most `piece`; stops at a fault. Returns how many were taken.
size_t feed(workers::fabric::iwarp::Stream& stream, std::span<const std::byte> bytes, size_t piece);

}  // namespace smbdirect::test
