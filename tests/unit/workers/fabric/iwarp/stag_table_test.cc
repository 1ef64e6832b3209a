// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/stag_table.h"

#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>

namespace smbdirect::test {
namespace {

namespace iwarp = smbdirect::workers::fabric::iwarp;
using iwarp::RangeFault;
using iwarp::StagUse;

/// Every tag hashes alike: the worst case for open addressing.
void colliding(std::span<std::byte> out) {
  static uint32_t next = 0;
  for (size_t at = 0; at + 4 <= out.size(); at += 4) {
    const uint32_t value = (++next % 0x10000) << 16 | 0x0007;
    std::memcpy(out.data() + at, &value, 4);
  }
}

TEST_CASE("a table behaves like a map, whatever the tags") {
  for (const auto entropy : {iwarp::EntropySource{iwarp::system_entropy}, iwarp::EntropySource{colliding}}) {
    std::mt19937_64 random(5);
    iwarp::StagTable table(entropy);
    std::vector<std::byte> memory(4096);
    std::map<uint32_t, uint64_t> model;
    for (int i = 0; i < 3000; ++i) {
      if (model.empty() || (random() % 5 < 3 && model.size() < 300)) {
        const size_t length = random() % memory.size();
        const auto* tag = table.add(StagUse::remote_read, std::span(memory).first(length));
        REQUIRE(tag != nullptr);
        CHECK(tag->stag != 0);
        CHECK(model.emplace(tag->stag, length).second);
      } else {
        auto victim = std::next(model.begin(), static_cast<ptrdiff_t>(random() % model.size()));
        CHECK(table.remove(victim->first));
        CHECK_FALSE(table.remove(victim->first));
        model.erase(victim);
      }
      CHECK(table.size() == model.size());
      if (i % 50 != 0) continue;
      for (const auto& [stag, length] : model) {
        const auto* tag = table.find(stag);
        REQUIRE(tag != nullptr);
        CHECK(tag->length == length);
      }
    }
  }
}

TEST_CASE("tag 0 is never valid, and a full table says so") {
  iwarp::StagTable table(iwarp::system_entropy);
  CHECK(table.find(0) == nullptr);
  CHECK_FALSE(table.remove(0));
  std::byte memory{};
  for (uint32_t i = 0; i < iwarp::StagTable::kMostStags; ++i) {
    if (table.add(StagUse::remote_read, {&memory, 1}) == nullptr) FAIL("full too early, at ", i);
  }
  CHECK(table.add(StagUse::remote_read, {&memory, 1}) == nullptr);
}

TEST_CASE("tags and offsets differ from table to table") {
  std::byte memory{};
  std::set<uint32_t> stags;
  std::set<uint64_t> offsets;
  for (int i = 0; i < 64; ++i) {
    iwarp::StagTable table(iwarp::system_entropy);
    const auto* tag = table.add(StagUse::remote_write, {&memory, 1});
    stags.insert(tag->stag);
    offsets.insert(tag->offset);
  }
  CHECK(stags.size() >= 60);
  CHECK(offsets.size() >= 60);
}

TEST_CASE("range checks in unsigned 64 bits") {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  std::vector<std::byte> memory(100);
  const iwarp::Stag tag{
      .stag = 1, .use = StagUse::remote_read, .memory = memory.data(), .length = 100, .offset = 1000};
  CHECK(check_range(tag, 1000, 100) == RangeFault::none);
  CHECK(check_range(tag, 1000, 0) == RangeFault::none);
  CHECK(check_range(tag, 1100, 0) == RangeFault::none);
  CHECK(check_range(tag, 1099, 1) == RangeFault::none);
  CHECK(check_range(tag, 1100, 1) == RangeFault::bounds);
  CHECK(check_range(tag, 1000, 101) == RangeFault::bounds);
  CHECK(check_range(tag, 999, 1) == RangeFault::bounds);
  CHECK(check_range(tag, 999, 2) == RangeFault::bounds);
  CHECK(check_range(tag, 0, 0) == RangeFault::bounds);
  CHECK(check_range(tag, kMost, 1) == RangeFault::wrap);
  CHECK(check_range(tag, kMost - 10, 11) == RangeFault::wrap);
  CHECK(check_range(tag, kMost - 10, 10) == RangeFault::bounds);
  CHECK(check_range(tag, 1000, kMost) == RangeFault::wrap);
}

}  // namespace
}  // namespace smbdirect::test
