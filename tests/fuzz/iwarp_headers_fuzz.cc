// SPDX-License-Identifier: MIT
// DDP, RDMAP and Terminate headers: parsed ones encode to what they were read from, and a Terminate about
// any segment can be read again.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "workers/fabric/iwarp/ddp.h"
#include "workers/fabric/iwarp/terminate.h"

namespace iwarp = smbdirect::workers::fabric::iwarp;

namespace {

void must(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto header = iwarp::parse_ddp_header(bytes)) {
    std::array<std::byte, iwarp::kUntaggedHeaderSize> again{};
    must(iwarp::encode_ddp_header(*header, again.data()) == header->size());
    // The first two bytes have reserved bits, which are sent as zero.
    must(std::equal(again.begin() + 2, again.begin() + static_cast<ptrdiff_t>(header->size()),
                    bytes.begin() + 2));
  }
  if (const auto request = iwarp::parse_read_request(bytes)) {
    std::array<std::byte, iwarp::kReadRequestSize> again{};
    iwarp::encode_read_request(*request, again.data());
    must(std::equal(again.begin(), again.end(), bytes.begin()));
  }
  const auto message = iwarp::parse_terminate(bytes);
  must(message.has_value() == (size >= 4));
  if (message) {
    must(!iwarp::terminate_text(message->code).empty());
    const auto about = bytes.first(std::min(bytes.size(), iwarp::kMaxSegmentHeader));
    const auto payload = iwarp::encode_terminate(message->code, about, 1);
    must(payload.size >= 4 && payload.size <= iwarp::kMaxTerminatePayload);
    const auto back = iwarp::parse_terminate(payload.span());
    must(back.has_value() && back->code == message->code);
  }
  return 0;
}
