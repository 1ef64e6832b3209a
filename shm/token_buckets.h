// SPDX-License-Identifier: MIT
// Limits how often each of many clients may do something: a number at once (burst) and a number per second on
// average. Bounded: beyond max_keys the client with the most tokens left is forgotten, for which it makes the
// least difference. Pure (time is a parameter); one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class TokenBuckets {
 public:
  /// per_second 0: no limit.
  TokenBuckets(uint64_t burst, uint64_t per_second, size_t max_keys = 4096)
      : burst_(burst * kWhole), per_second_(per_second), max_keys_(max_keys) {}

  /// False: not now.
  [[nodiscard]] bool take(const shm::Host& client, uint64_t now_ms) {
    if (per_second_ == 0) return true;
    Bucket& bucket = refilled(client, now_ms);
    if (bucket.left < kWhole) return false;
    bucket.left -= kWhole;
    return true;
  }
  /// It was none that counts.
  void give_back(const shm::Host& client) {
    if (const auto found = buckets_.find(client); found != buckets_.end()) {
      found->second.left = std::min(burst_, found->second.left + kWhole);
    }
  }
  [[nodiscard]] size_t size() const { return buckets_.size(); }

 private:
  static constexpr uint64_t kWhole = 1000;  // a token, so that a millisecond brings per_second of these
  struct Bucket {
    uint64_t left{};
    uint64_t at_ms{};
  };

  Bucket& refilled(const shm::Host& client, uint64_t now_ms) {
    auto found = buckets_.find(client);
    if (found == buckets_.end()) {
      if (buckets_.size() >= std::max<size_t>(max_keys_, 1)) forget_one(now_ms);
      found = buckets_.emplace(client, Bucket{burst_, now_ms}).first;
    }
    refill(found->second, now_ms);
    return found->second;
  }
  void refill(Bucket& bucket, uint64_t now_ms) const {
    const uint64_t passed = std::min<uint64_t>(now_ms - std::min(now_ms, bucket.at_ms), 86'400'000);
    bucket.left = std::min(burst_, bucket.left + passed * per_second_);
    bucket.at_ms = now_ms;
  }
  /// All that are full again, for they say nothing; else the fullest.
  void forget_one(uint64_t now_ms) {
    for (auto& [client, bucket] : buckets_) refill(bucket, now_ms);
    if (std::erase_if(buckets_, [&](const auto& entry) { return entry.second.left == burst_; }) > 0) return;
    buckets_.erase(std::max_element(buckets_.begin(), buckets_.end(), [](const auto& a, const auto& b) {
      return a.second.left < b.second.left;
    }));
  }

  uint64_t burst_;
  uint64_t per_second_;
  size_t max_keys_;
  std::map<shm::Host, Bucket> buckets_;
};

}  // namespace smbdirect::daemon
