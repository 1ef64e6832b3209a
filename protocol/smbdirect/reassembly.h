// SPDX-License-Identifier: MIT
// Which fragments form an upper-layer message (MS-SMBD 3.1.5.8), without keeping any of their bytes: each
// is delivered as it comes. Part of an Engine; same owner, same thread.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>

#include "protocol/smbdirect/fault.h"

namespace smbdirect::protocol::smb_direct {

class Reassembly {
 public:
  /// A fragment's place in its upper-layer message.
  struct Place {
    uint64_t total = 0;  // length of the whole message
    bool first = false;
    bool last = false;
  };

  explicit Reassembly(uint32_t max_fragmented_size) : max_fragmented_size_(max_fragmented_size) {}

  /// One received message's DataLength and RemainingDataLength. Nothing for a message that carries
  /// credits only (both 0): it belongs to no upper-layer message and may come between fragments.
  /// Errors: exceeds_max_fragmented, reassembly_mismatch.
  [[nodiscard]] std::expected<std::optional<Place>, Fault> accept(uint32_t data_length,
                                                                  uint32_t remaining_data_length);
  [[nodiscard]] bool in_progress() const { return left_ > 0; }

 private:
  uint32_t max_fragmented_size_;
  uint64_t total_ = 0;
  uint64_t left_ = 0;
};

}  // namespace smbdirect::protocol::smb_direct
