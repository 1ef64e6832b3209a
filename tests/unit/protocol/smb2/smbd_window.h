// SPDX-License-Identifier: MIT
// How smbd counts MessageIds and credits (source3/smbd/smb2_server.c: smb2_validate_sequence_number,
// smb2_validate_message_id, smb2_set_operation_credit; MS-SMB2 3.3.1.1, 3.3.5.2.3).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace smb2_test {

class SmbdWindow {
 public:
  SmbdWindow(uint32_t max, bool multi_credit) : max_(max), multi_credit_(multi_credit), seen_(max) {}

  /// A request but CANCEL. False: smbd ends the connection.
  [[nodiscard]] bool take(uint64_t message_id, uint16_t credit_charge) {
    const uint32_t charge = taken(credit_charge);
    if (granted_ < charge) return false;
    for (uint64_t id = message_id; id < message_id + charge; ++id)
      if (!take_one(id)) return false;
    granted_ -= charge;
    return true;
  }
  /// The credits in an answer. async: an interim one went before, and had them.
  uint16_t grant(uint16_t credit_charge, uint16_t requested, bool async = false) {
    const uint32_t charge = taken(credit_charge);
    const uint32_t additional = std::min<uint32_t>(std::max<uint32_t>(requested, 1) - 1, max_ - charge);
    const auto credits = uint16_t(std::min(async ? 0 : charge + additional, max_ - range_));
    granted_ += credits;
    range_ += credits;
    return credits;
  }
  [[nodiscard]] uint64_t low() const { return low_; }
  [[nodiscard]] uint64_t end() const { return low_ + range_; }
  [[nodiscard]] uint32_t granted() const { return granted_; }

 private:
  [[nodiscard]] uint32_t taken(uint16_t charge) const {
    return multi_credit_ ? std::max<uint32_t>(charge, 1) : 1;
  }
  bool take_one(uint64_t id) {
    if (id < low_ || id >= low_ + range_ || seen_[id % max_]) return false;
    seen_[id % max_] = true;
    if (id != low_) return true;
    while (seen_[low_ % max_]) {
      seen_[low_ % max_] = false;
      ++low_;
      --range_;
    }
    return true;
  }

  uint32_t max_;
  bool multi_credit_;
  uint64_t low_ = 0;
  uint32_t range_ = 1;
  uint32_t granted_ = 1;
  std::vector<bool> seen_;
};

}  // namespace smb2_test
