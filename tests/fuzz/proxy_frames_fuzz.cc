// SPDX-License-Identifier: MIT
// Any bytes through each parser of protocol/proxy/frames.h: what parses must encode back to the bytes it came
// from (reserved fields aside). The first byte says who sends and which body; a header is read from the rest
// whatever it says.
#include <cstdint>
#include <cstdlib>

#include "protocol/proxy/frames.h"

namespace proxy = smbdirect::protocol::proxy;

namespace {

using Bytes = std::span<const std::byte>;

void require(bool condition) {
  if (!condition) std::abort();
}

/// The bytes of `reserved` may be anything.
void same(Bytes encoded, Bytes bytes, size_t reserved = 0, size_t reserved_bytes = 0) {
  require(encoded.size() == bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    require(encoded[i] == bytes[i] || (i >= reserved && i < reserved + reserved_bytes));
  }
}

void header(Bytes bytes, proxy::Sender sender) {
  if (bytes.size() < proxy::kFrameHeaderBytes) return;
  const auto start = bytes.first<proxy::kFrameHeaderBytes>();
  const auto parsed = proxy::parse_frame_header(start, sender);
  if (!parsed) return;
  same(proxy::encode_header(*parsed), start);
  require(parsed->length <= proxy::kMaxPdu + proxy::kMaxInvalidate * sizeof(uint32_t));
}

void operation(Bytes body) {
  static proxy::Operation parsed;  // used again, as a worker does
  const size_t count =
      body.size() < proxy::kOperationFixedBytes ? 0 : (body.size() - proxy::kOperationFixedBytes) / 16;
  if (!proxy::parse_operation(body, static_cast<uint16_t>(count), parsed)) return;
  require(parsed.length > 0 && parsed.memory.size() == count);
  same(proxy::encode_operation(parsed), body, 12, 4);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Bytes bytes = std::as_bytes(std::span(data, size)).subspan(1);
  header(bytes, static_cast<proxy::Sender>(data[0] & 3));
  switch (data[0] >> 2) {
    case 0:
      if (const auto facts = proxy::parse_facts(bytes)) same(proxy::encode_facts(*facts), bytes, 22, 2);
      break;
    case 1:
      operation(bytes);
      break;
    case 2:
      if (const auto start = proxy::parse_start(bytes)) same(proxy::encode_start(*start), bytes);
      break;
    case 3:
      if (const auto cookie = proxy::parse_hello(bytes)) same(proxy::encode_hello(*cookie), bytes);
      break;
    case 4:
      if (proxy::parse_version(bytes)) same(proxy::encode_version(), bytes);
      break;
    default:
      break;
  }
  return 0;
}
