// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/reassembly.h"

namespace smbdirect::protocol::smb_direct {

std::expected<std::optional<Reassembly::Place>, Fault> Reassembly::accept(uint32_t data_length,
                                                                          uint32_t remaining_data_length) {
  const uint64_t announced = uint64_t{data_length} + remaining_data_length;
  if (announced > max_fragmented_size_) return std::unexpected(Fault::exceeds_max_fragmented);
  if (announced == 0) return std::nullopt;

  const bool first = !in_progress();
  if (first) {
    total_ = announced;
    left_ = announced;
  }
  // What this fragment and those after it carry must be exactly what was left: a longer fragment, more
  // than was announced, and an end that comes too early all differ here.
  if (announced != left_) return std::unexpected(Fault::reassembly_mismatch);
  left_ = remaining_data_length;
  return Place{.total = total_, .first = first, .last = left_ == 0};
}

}  // namespace smbdirect::protocol::smb_direct
