// SPDX-License-Identifier: MIT
// Whatever decodes encodes to the same bytes, and is one side's to say. An input that begins with "{" is a
// worker's configuration.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "daemon/contract/message_codec.h"
#include "daemon/contract/worker_config.h"

namespace {

using namespace smbdirect::daemon;

template <class Said>
bool decodes(std::span<const std::byte> data) {
  const auto decoded = decode_message<Said>(data);
  if (!decoded) return false;
  if (!std::ranges::equal(encode_message(decoded->generation, decoded->message), data)) std::abort();
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] == '{') {
    const auto config = WorkerConfig::from_json({reinterpret_cast<const char*>(data), size});
    if (config && !WorkerConfig::from_json(config->to_json())) std::abort();
    return 0;
  }
  const std::span bytes{reinterpret_cast<const std::byte*>(data), size};
  if (decodes<FromWorker>(bytes) && decodes<FromSupervisor>(bytes)) std::abort();
  return 0;
}
