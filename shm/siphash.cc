// SPDX-License-Identifier: MIT
#include "shm/siphash.h"

#include <bit>
#include <cstring>

namespace smbdirect::shm {
namespace {

static_assert(std::endian::native == std::endian::little, "words are loaded as they lie in memory");

class State {
 public:
  explicit State(const SipKey& key)
      : v0_(key[0] ^ 0x736f6d6570736575),  // "somepseudorandomlygeneratedbytes"
        v1_(key[1] ^ 0x646f72616e646f6d),
        v2_(key[0] ^ 0x6c7967656e657261),
        v3_(key[1] ^ 0x7465646279746573) {}

  void compress(uint64_t word) {
    v3_ ^= word;
    round();
    round();
    v0_ ^= word;
  }
  uint64_t finish() {
    v2_ ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void round() {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }

  uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

uint64_t siphash(const SipKey& key, std::span<const std::byte> data) {
  State state(key);
  const uint64_t length = data.size();
  for (; data.size() >= 8; data = data.subspan(8)) {
    uint64_t word = 0;
    std::memcpy(&word, data.data(), 8);
    state.compress(word);
  }
  uint64_t last = length << 56;
  for (size_t i = 0; i < data.size(); ++i) last |= std::to_integer<uint64_t>(data[i]) << (8 * i);
  state.compress(last);
  return state.finish();
}

}  // namespace smbdirect::shm
