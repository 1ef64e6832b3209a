// SPDX-License-Identifier: MIT
// The table of requests in flight, against std::map and against its bounds.
#include "protocol/smb2/request_table.h"

#include <chrono>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace smb2 = smbdirect::protocol::smb2;
using smb2::InFlight;
using smb2::RequestTable;
using smb2::Violation;

TEST_CASE("random adds, finds and finishes agree with a map") {
  constexpr uint32_t kSeed = 20140514;
  INFO("seed ", kSeed);
  std::mt19937_64 random(kSeed);
  RequestTable table(700, random());
  struct Known {
    InFlight* request;
    uint32_t mark;
    size_t count;
  };
  std::map<uint64_t, Known> model;
  std::vector<uint64_t> gone;
  uint64_t next = 0;
  for (int step = 0; step < 30000; ++step) {
    const bool growing = (step / 4000) % 2 == 0;
    if (random() % 10 < (growing ? 7u : 3u)) {
      // Runs of ids in steps of a CreditCharge, and some from anywhere.
      next += 1 + random() % 130;
      const uint64_t id = random() % 20 == 0 ? random() : next;
      const auto added = table.add(id);
      if (model.contains(id)) {
        CHECK(added.error() == Violation::duplicate_message_id);
      } else if (model.size() >= 700) {
        CHECK(added.error() == Violation::too_many_requests);
      } else {
        REQUIRE(added);
        const auto mark = static_cast<uint32_t>(random());
        const size_t count = random() % 4 == 0 ? 1 + random() % 600 : 1 + random() % 4;
        const auto memory = table.descriptors_for(**added, count);
        REQUIRE(memory.size() == count);
        for (size_t i = 0; i < count; ++i) memory[i] = {id + i, mark, static_cast<uint32_t>(i)};
        model[id] = {*added, mark, count};
      }
    } else if (!model.empty()) {
      auto it = model.lower_bound(random() % (next + 1));
      if (it == model.end()) it = model.begin();
      CHECK(table.find(it->first) == it->second.request);
      table.finish(*it->second.request);
      CHECK(table.find(it->first) == nullptr);
      // Still readable until recycle().
      CHECK(it->second.request->descriptors().size() == it->second.count);
      CHECK(it->second.request->descriptors().front().token == it->second.mark);
      model.erase(it);
    }
    CHECK(table.size() == model.size());
    if (random() % 3 == 0) table.recycle();
    if (step % 997 == 0) {
      for (const auto& [id, known] : model) {
        REQUIRE(table.find(id) == known.request);
        const auto memory = known.request->descriptors();
        REQUIRE(memory.size() == known.count);
        bool intact = true;
        for (size_t i = 0; i < memory.size(); ++i)
          intact = intact && memory[i].offset == id + i && memory[i].token == known.mark;
        REQUIRE(intact);
      }
      CHECK(table.find(next + 1) == nullptr);
    }
  }
}

TEST_CASE("the MessageId of notifications is never entered") {
  RequestTable table(10);
  CHECK(table.add(~uint64_t{0}).error() == Violation::reserved_message_id);
  CHECK(table.find(~uint64_t{0}) == nullptr);
}

TEST_CASE("ids that are chosen to fall together do not") {
  constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
  uint64_t inverse = kGolden;  // modulo 2^64: each step doubles the bits that are right
  for (int step = 0; step < 6; ++step) inverse *= 2 - kGolden * inverse;
  RequestTable table(65536, 0x0123456789ABCDEF);
  const auto before = std::chrono::steady_clock::now();
  for (uint64_t n = 1; n <= 65536; ++n) REQUIRE(table.add(n * inverse));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  CHECK(took.count() < 1);  // all in one row: ten
}

TEST_CASE("an id is free again the moment its request is finished") {
  RequestTable table(10);
  auto first = table.add(5);
  REQUIRE(first);
  CHECK(table.add(5).error() == Violation::duplicate_message_id);
  table.finish(**first);
  CHECK(table.add(5));
}

TEST_CASE("descriptor memory is bounded and comes back") {
  RequestTable table(8192);
  std::vector<InFlight*> held;
  uint64_t id = 0;
  for (;;) {
    auto added = table.add(id++);
    REQUIRE(added);
    if (table.descriptors_for(**added, smb2::kMaxDescriptors).empty()) break;
    held.push_back(*added);
    REQUIRE(held.size() < 1000);
  }
  CHECK(held.size() == RequestTable::kMaxPooledDescriptors / 4096);
  // Few descriptors need no block, so ordinary clients never meet the bound.
  auto small = table.add(id++);
  REQUIRE(small);
  CHECK(table.descriptors_for(**small, 4).size() == 4);
  // Blocks of one size make room for another.
  const size_t full = table.bytes();
  CHECK(full > RequestTable::kMaxPooledDescriptors * sizeof(smb2::BufferDescriptor));
  for (InFlight* request : held) table.finish(*request);
  table.recycle();
  CHECK(table.bytes() == full);
  table.trim();
  CHECK(table.bytes() == full - RequestTable::kMaxPooledDescriptors * sizeof(smb2::BufferDescriptor));
  for (int i = 0; i < 300; ++i) {
    auto added = table.add(id++);
    REQUIRE(added);
    REQUIRE(table.descriptors_for(**added, 500).size() == 500);
  }
}
