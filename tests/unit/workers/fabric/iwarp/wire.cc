// SPDX-License-Identifier: MIT
#include "wire.h"

#include <algorithm>
#include <cstring>

namespace smbdirect::test {

namespace iwarp = smbdirect::workers::fabric::iwarp;

bool Wire::step(std::mt19937_64& random, size_t most) {
  bool moved = false;
  const auto vectors = from_.send_vectors();
  size_t size = 0;
  for (const iovec& vector : vectors) size += vector.iov_len;
  if (size > 0 && flight_.size() < 1U << 20) {
    size_t n = random() % std::min(size, most) + 1;
    if (random() % 4 == 0) n = size;
    size_t left = n;
    for (const iovec& vector : vectors) {
      const auto* at = static_cast<const std::byte*>(vector.iov_base);
      const size_t part = std::min(left, vector.iov_len);
      flight_.insert(flight_.end(), at, at + part);
      left -= part;
    }
    from_.sent(n);
    moved = true;
  }
  if (!flight_.empty() && !to_.fault()) {
    size_t n = random() % std::min(flight_.size(), most) + 1;
    if (random() % 4 == 0) n = flight_.size();
    size_t taken = 0;
    for (const iovec& vector : to_.receive_vectors()) {
      const size_t part = std::min(n - taken, vector.iov_len);
      std::copy_n(flight_.begin(), part, static_cast<std::byte*>(vector.iov_base));
      flight_.erase(flight_.begin(), flight_.begin() + static_cast<ptrdiff_t>(part));
      taken += part;
    }
    to_.received(taken);
    moved = true;
  }
  return moved;
}

std::vector<std::byte> take_all(iwarp::Stream& stream) {
  std::vector<std::byte> out;
  for (auto vectors = stream.send_vectors(); !vectors.empty(); vectors = stream.send_vectors()) {
    size_t size = 0;
    for (const iovec& vector : vectors) {
      const auto* at = static_cast<const std::byte*>(vector.iov_base);
      out.insert(out.end(), at, at + vector.iov_len);
      size += vector.iov_len;
    }
    stream.sent(size);
  }
  return out;
}

size_t feed(iwarp::Stream& stream, std::span<const std::byte> bytes, size_t piece) {
  size_t at = 0;
  while (at < bytes.size() && !stream.fault()) {
    size_t left = std::min(piece, bytes.size() - at);
    size_t taken = 0;
    for (const iovec& vector : stream.receive_vectors()) {
      const size_t part = std::min(left, vector.iov_len);
      if (part > 0) std::memcpy(vector.iov_base, bytes.data() + at, part);
      at += part;
      left -= part;
      taken += part;
    }
    stream.received(taken);
  }
  return at;
}

}  // namespace smbdirect::test
