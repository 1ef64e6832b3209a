// SPDX-License-Identifier: MIT
#include "tests/peer/area_allocator.h"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "tests/peer/transfers.h"

using namespace smbdirect::tests::peer;

namespace {

constexpr size_t kUnit = AreaAllocator::kAlignment;

}  // namespace

TEST_CASE("the first gap that is long enough is taken, and a region is free when its holder lets go") {
  AreaAllocator area(1000 * kUnit, 10 * kUnit);
  auto first = area.take(2 * kUnit);
  auto second = area.take(3 * kUnit);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->offset() == 1000 * kUnit);
  CHECK(second->offset() == 1002 * kUnit);
  CHECK(area.free_bytes() == 5 * kUnit);
  first.reset();
  const auto third = area.take(3 * kUnit);
  REQUIRE(third);
  CHECK(third->offset() == 1005 * kUnit);  // the gap before is too short
  const auto fourth = area.take(1);
  REQUIRE(fourth);
  CHECK(fourth->offset() == 1000 * kUnit);
  CHECK(fourth->length() == 1);
  CHECK(area.free_bytes() == 3 * kUnit);
}

TEST_CASE("an allocator that is full says so, and gaps grow together again") {
  AreaAllocator area(0, 4 * kUnit + 7);
  CHECK(area.capacity() == 4 * kUnit);
  CHECK_FALSE(area.take(0));
  CHECK_FALSE(area.take(4 * kUnit + 1));
  std::array<std::optional<AreaAllocator::Region>, 4> all;
  for (auto& each : all) each = area.take(kUnit - 1);
  CHECK(area.free_bytes() == 0);
  CHECK_FALSE(area.take(1));
  for (const size_t i : {1, 3, 0, 2}) all.at(i).reset();
  const auto whole = area.take(4 * kUnit);
  REQUIRE(whole);
  CHECK(whole->offset() == 0);
}

TEST_CASE("a region that is moved belongs to its new holder alone") {
  AreaAllocator area(0, 2 * kUnit);
  auto one = area.take(kUnit);
  REQUIRE(one);
  {
    AreaAllocator::Region held = std::move(*one);
    one.reset();
    CHECK(area.free_bytes() == kUnit);
    auto other = area.take(kUnit);
    REQUIRE(other);
    held = std::move(*other);
    CHECK(held.offset() == kUnit);
  }
  CHECK(area.free_bytes() == 2 * kUnit);
}

TEST_CASE("whatever is taken and given back: no two regions overlap, and all comes back") {
  std::mt19937 random(4);
  constexpr size_t kBegin = 5 * kUnit;
  constexpr size_t kSize = 300 * kUnit;
  AreaAllocator area(kBegin, kSize);
  std::vector<AreaAllocator::Region> held;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 2 == 0 && !held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
      continue;
    }
    auto region = area.take(1 + random() % (20 * kUnit));
    if (!region) continue;
    REQUIRE(region->offset() >= kBegin);
    REQUIRE(region->offset() + region->length() <= kBegin + kSize);
    for (const auto& other : held) {
      REQUIRE((region->offset() + region->length() <= other.offset() ||
               other.offset() + other.length() <= region->offset()));
    }
    held.push_back(std::move(*region));
  }
  held.clear();
  CHECK(area.free_bytes() == kSize);
  CHECK(area.take(kSize));
}

TEST_CASE("client memory is walked in slices, across its pieces and without the empty ones") {
  const std::vector<smb2::BufferDescriptor> memory{{100, 1, 10}, {0, 2, 0}, {500, 3, 20}};
  DescriptorCursor at(memory);
  std::vector<smbdirect_descriptor> slice;
  CHECK(at.take(4, slice) == 4);
  REQUIRE(slice.size() == 1);
  CHECK(slice[0].offset == 100);
  CHECK(slice[0].length == 4);
  CHECK(at.take(16, slice) == 16);
  REQUIRE(slice.size() == 2);
  CHECK(slice[0].offset == 104);
  CHECK(slice[0].length == 6);
  CHECK(slice[1].offset == 500);
  CHECK(slice[1].token == 3);
  CHECK(slice[1].length == 10);
  CHECK(at.take(100, slice) == 10);
  CHECK(at.take(100, slice) == 0);
}

TEST_CASE("a slice has no more pieces than one operation may name") {
  const std::vector<smb2::BufferDescriptor> memory(SMBDIRECT_MAX_DESCRIPTORS + 10, {0, 1, 8});
  DescriptorCursor at(memory);
  std::vector<smbdirect_descriptor> slice;
  CHECK(at.take(1 << 20, slice) == 8 * SMBDIRECT_MAX_DESCRIPTORS);
  CHECK(slice.size() == SMBDIRECT_MAX_DESCRIPTORS);
  CHECK(at.take(1 << 20, slice) == 80);
}
