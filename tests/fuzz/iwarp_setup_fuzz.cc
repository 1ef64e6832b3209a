// SPDX-License-Identifier: MIT
// MPA set-up: any bytes as a request and as a reply, in any pieces. What is answered must parse again, and
// what is agreed must be within what was offered.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "workers/fabric/iwarp/setup.h"

namespace iwarp = smbdirect::workers::fabric::iwarp;

namespace {

void must(bool good) {
  if (!good) std::abort();
}

constexpr iwarp::SetupOffer kOffer{
    .want_crc = false, .max_inbound_reads = 16, .max_outbound_reads = 8, .revision = 2};

void check(const iwarp::Agreed& agreed) {
  must(agreed.ird >= 1 && agreed.ird <= kOffer.max_inbound_reads);
  must(agreed.ord >= 1 && agreed.ord <= kOffer.max_outbound_reads);
}

void read_frame(iwarp::MpaFrameKind kind, size_t piece, std::span<const std::byte> bytes) {
  iwarp::MpaFrameReader reader(kind);
  while (!bytes.empty()) {
    const auto room = reader.want();
    must(!room.empty());
    const size_t n = std::min({room.size(), piece, bytes.size()});
    std::copy_n(bytes.begin(), n, room.begin());
    bytes = bytes.subspan(n);
    const auto done = reader.consumed(n);
    if (!done) return;
    if (!*done) continue;
    if (kind == iwarp::MpaFrameKind::request) {
      const auto answer = iwarp::answer_request(kOffer, reader.header(), reader.private_data());
      const auto header = iwarp::parse_mpa_header(answer.reply.span());
      must(header.has_value() && header->kind == iwarp::MpaFrameKind::reply);
      must(header->reject == !answer.agreed.has_value());
      must(answer.reply.size == iwarp::kMpaHeaderSize + header->private_data_length);
      must(iwarp::parse_mpa_private_data(header->enhanced, answer.reply.span().subspan(iwarp::kMpaHeaderSize))
               .has_value());
      if (answer.agreed) check(*answer.agreed);
    } else {
      const auto agreed = iwarp::judge_reply(kOffer, reader.header(), reader.private_data());
      if (agreed) check(*agreed);
    }
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const size_t piece = data[0] % 64 + 1;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  read_frame(iwarp::MpaFrameKind::request, piece, bytes);
  read_frame(iwarp::MpaFrameKind::reply, piece, bytes);
  return 0;
}
