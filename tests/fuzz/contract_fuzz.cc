// SPDX-License-Identifier: MIT
// Whatever decodes encodes to the same bytes. An input that begins with "{" is a worker's configuration.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "daemon/contract/message_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace smbdirect::daemon;
  if (size > 0 && data[0] == '{') {
    const auto config = WorkerConfig::from_json({reinterpret_cast<const char*>(data), size});
    if (config && !WorkerConfig::from_json(config->to_json())) std::abort();
    return 0;
  }
  const auto message = decode_message({reinterpret_cast<const std::byte*>(data), size});
  if (!message) return 0;
  const MessageBytes bytes = encode_message(*message);
  if (size != bytes.size() || std::memcmp(bytes.data(), data, size) != 0) std::abort();
  return 0;
}
