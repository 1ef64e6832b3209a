// SPDX-License-Identifier: MIT
// A whole stream fed by a hostile peer: the input is a script of FPDUs and of what our side posts, exposes
// and revokes meanwhile. Memory is of exact size on the heap, so a sanitizer sees any byte placed outside.
// Without CRC, or no mutation would get past it; tags are predictable for the same reason.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/mpa.h"
#include "workers/fabric/iwarp/stream.h"

namespace fabric = smbdirect::workers::fabric;
namespace iwarp = smbdirect::workers::fabric::iwarp;

namespace {

void must(bool good) {
  if (!good) std::abort();
}

uint32_t entropy_state = 0;

/// Tags are 1, 4, 7, ... (each takes three words), and all their tagged offsets begin at 0.
void counting(std::span<std::byte> out) {
  for (size_t at = out.size(); at >= 4; at -= 4) {  // the pool is used from its end
    const uint32_t word = ++entropy_state % 3 == 1 ? entropy_state : 0;
    std::memcpy(out.data() + at - 4, &word, 4);
  }
}

class Script {
 public:
  Script(const uint8_t* data, size_t size) : rest_(std::as_bytes(std::span(data, size))) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto out = std::to_integer<uint8_t>(rest_[0]);
    rest_ = rest_.subspan(1);
    return out;
  }
  std::span<const std::byte> bytes(size_t n) {
    const auto out = rest_.first(std::min(n, rest_.size()));
    rest_ = rest_.subspan(out.size());
    return out;
  }

 private:
  std::span<const std::byte> rest_;
};

struct Peer {
  explicit Peer(iwarp::Stream& to) : stream(to) {}
  void feed(std::span<const std::byte> bytes, size_t piece) {
    while (!bytes.empty() && !stream.fault()) {
      size_t left = std::min(piece, bytes.size());
      size_t taken = 0;
      const auto vectors = stream.receive_vectors();
      must(!vectors.empty());
      for (const iovec& vector : vectors) {
        const size_t part = std::min(left, vector.iov_len);
        if (part > 0) std::memcpy(vector.iov_base, bytes.data(), part);
        bytes = bytes.subspan(part);
        left -= part;
        taken += part;
      }
      must(taken > 0);
      stream.received(taken);
    }
  }
  iwarp::Stream& stream;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script script(data, size);
  entropy_state = 0;  // once for an input: tags that come again would be looked for for ever
  iwarp::Stream stream(
      {.max_send_work = 4, .max_receive_work = 4, .max_inbound_reads = 2, .max_outbound_reads = 2}, counting);
  const uint8_t setup = script.byte();
  stream.establish({.crc = false, .ird = 2, .ord = 2, .rtr_empty = (setup & 1) != 0}, 200, (setup & 2) != 0);
  const size_t piece = (setup & 4) != 0 ? 1 : (setup & 8) != 0 ? 13 : 4096;
  Peer peer(stream);
  std::vector<std::unique_ptr<std::vector<std::byte>>> memory;
  std::vector<uint32_t> tokens;
  const auto room = [&](size_t n) -> std::vector<std::byte>& {
    return *memory.emplace_back(std::make_unique<std::vector<std::byte>>(n));
  };
  uint64_t receives = 0, reads = 0, done_receives = 0, done_reads = 0;
  while (!script.empty() && !stream.fault()) {
    const uint8_t what = script.byte();
    const size_t n = script.byte() * ((what & 0x40) != 0 ? 64U : 1U);
    switch (what % 8) {
      case 0: {
        auto& into = room(n);
        receives += stream.post_receive(receives, {into.data(), static_cast<uint32_t>(n), 0}).has_value();
        break;
      }
      case 1: {
        auto& into = room(n);
        reads +=
            stream.post_read(reads, {into.data(), static_cast<uint32_t>(n), 0}, {.offset = n, .token = 7})
                .has_value();
        break;
      }
      case 2:
      case 3: {
        const auto access = what % 8 == 2 ? fabric::Access::remote_read : fabric::Access::remote_write;
        if (const auto at = stream.expose(room(n), access)) tokens.push_back(at->token);
        break;
      }
      case 4:
        if (!tokens.empty()) stream.unexpose(tokens[n % tokens.size()]);
        break;
      case 5: {  // the socket takes some of what is to be sent
        size_t left = n;
        size_t taken = 0;
        for (const iovec& vector : stream.send_vectors()) {
          const size_t part = std::min(left, vector.iov_len);
          taken += part;
          left -= part;
        }
        stream.sent(taken);
        break;
      }
      default: {  // one FPDU: header and payload from the script
        const auto ulpdu = script.bytes(n);
        std::vector<std::byte> fpdu(2 + ulpdu.size() + iwarp::fpdu_trailer(ulpdu.size()));
        iwarp::put_be16(fpdu.data(), static_cast<uint16_t>(ulpdu.size()));
        std::copy(ulpdu.begin(), ulpdu.end(), fpdu.begin() + 2);
        peer.feed(fpdu, piece);
        break;
      }
    }
    for (const auto& completion : stream.hand_out_completed()) {
      if (completion.op == fabric::Op::receive) must(completion.id == done_receives++);
      if (completion.op == fabric::Op::rdma_read) must(completion.id == done_reads++);
    }
    must(done_receives <= receives && done_reads <= reads);
    must(stream.send_room() <= 4);
  }
  if (stream.fault() && !stream.fault()->from_peer && !stream.fault()->silent) {
    stream.terminate(*stream.fault());
    for (auto vectors = stream.send_vectors(); !vectors.empty(); vectors = stream.send_vectors()) {
      size_t all = 0;
      for (const iovec& vector : vectors) all += vector.iov_len;
      stream.sent(all);
    }
    must(stream.terminate_sent());
  }
  return 0;
}
