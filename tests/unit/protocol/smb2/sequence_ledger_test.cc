// SPDX-License-Identifier: MIT
// The ids that are answered here: what smbd gets for them, byte for byte, and when; what is not answered
// here.
#include "protocol/smb2/sequence_ledger.h"

#include <array>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

using smbdirect::protocol::smb2::SequenceLedger;

namespace {

struct Told {
  uint64_t first{};
  uint64_t charge{};
  uint64_t request{};
  bool operator==(const Told&) const = default;
};

/// After NEGOTIATE and whatever else gave the client so many credits; the next id is 1.
struct Ledger : SequenceLedger {
  explicit Ledger(uint16_t credits = 1000, bool multi = true) {
    forwarded(0, 0);
    multi_credit(multi);
    granted(credits);
  }
  std::vector<Told> told(size_t room = 64 * kEchoBytes) {
    Bytes out(room);
    const size_t size = tell(out);
    CHECK(size % kEchoBytes == 0);
    std::vector<Told> echoes;
    for (size_t at = 0; at < size; at += kEchoBytes) {
      const auto pdu = std::span(out).subspan(at + 4, 68);
      CHECK(get(pdu, 12, 2) == kEcho);
      echoes.push_back({get(pdu, 24, 8), get(pdu, 6, 2), get(pdu, 14, 2)});
    }
    return echoes;
  }
  uint16_t use(uint64_t id, uint16_t charge = 1) {
    REQUIRE(room(id, charge));
    return answered(id, charge);
  }
  void answer(uint64_t id, uint16_t charge = 1) { CHECK(use(id, charge) == charge); }
};

constexpr uint64_t kAll = 1 + SequenceLedger::kReserve;  // what an ECHO asks for at first

}  // namespace

TEST_CASE("golden: an ECHO for three ids") {
  Ledger ledger;
  ledger.answer(1, 3);
  Bytes out(SequenceLedger::kEchoBytes);
  REQUIRE(ledger.tell(out) == out.size());
  CHECK(out == hex("00000044"
                   "fe534d42 4000 0300 00000000 0d00 0101 00000000 00000000 0100000000000000"
                   "00000000 00000000 0000000000000000 00000000000000000000000000000000"
                   "0400 0000"));
  CHECK_FALSE(ledger.owes());
  CHECK(ledger.tell(out) == 0);
  CHECK_FALSE(ledger.swallows(2, 3));
  CHECK(ledger.swallows(1, 3 + 256));
  CHECK_FALSE(ledger.swallows(1, 3));
  CHECK(ledger.held_back() == 256);
}

TEST_CASE("ids in a row are one ECHO, in whatever order they were answered") {
  Ledger ledger;
  for (const uint64_t id : {3, 1, 9, 5, 2, 8, 4}) (void)ledger.use(id);
  (void)ledger.use(20, 16);
  CHECK(ledger.short_of() == 18);
  CHECK(ledger.told() == std::vector<Told>{{1, 5, 1}, {8, 2, 1}, {20, 16, kAll + 18}});
}

TEST_CASE("an ECHO is for no more than 512") {
  Ledger ledger(4000);
  for (uint64_t id = 1; id < 513; id += 128) ledger.answer(id, 128);
  CHECK_FALSE(ledger.room(513, 1));
  CHECK(ledger.answered(513, 128) == 128);  // was begun before
  CHECK(ledger.told() == std::vector<Told>{{1, 512, 1}, {513, 128, kAll}});
}

TEST_CASE("what has no room is told the next time") {
  Ledger ledger;
  for (const uint64_t id : {1, 3, 5, 7, 9}) (void)ledger.use(id);
  CHECK(ledger.told(SequenceLedger::kEchoBytes - 1).empty());
  CHECK(ledger.told(2 * SequenceLedger::kEchoBytes + 5) == std::vector<Told>{{1, 1, 1}, {3, 1, kAll + 4}});
  CHECK(ledger.owes());
  CHECK(ledger.told() == std::vector<Told>{{5, 1, 1}, {7, 1, 1}, {9, 1, 1}});
  for (const uint64_t id : {1, 3, 5, 7, 9}) CHECK(ledger.swallows(id, 1));
}

TEST_CASE("before multi-credit each id has its own") {
  Ledger ledger(100, false);
  CHECK(ledger.taken(7) == 1);
  ledger.answer(1);
  ledger.answer(2);
  CHECK(ledger.told() == std::vector<Told>{{1, 0, 1}, {2, 0, 1 + 50}});
  Ledger multi;
  CHECK(multi.taken(7) == 7);
  CHECK(multi.taken(0) == 1);
}

TEST_CASE("smbd hears of it in time") {
  Ledger ledger(10);
  CHECK_FALSE(ledger.due());
  ledger.answer(1);
  ledger.answer(2, 3);
  CHECK_FALSE(ledger.due());
  ledger.answer(5);
  CHECK(ledger.due());  // half of what the client has
  (void)ledger.told();
  CHECK_FALSE(ledger.due());

  Ledger rich(60000);
  for (uint64_t id = 1; id < 256; ++id) rich.answer(id);
  CHECK_FALSE(rich.due());
  rich.answer(256);
  CHECK(rich.due());
}

TEST_CASE("a client with one credit") {
  Ledger ledger(1);
  ledger.answer(1);
  CHECK(ledger.due());
  CHECK_FALSE(ledger.room(2, 1));  // smbd has not granted it
  CHECK(ledger.told() == std::vector<Told>{{1, 1, 1}});
  ledger.answer(2);  // it will have when it gets there
}

TEST_CASE("what the client may not use is for smbd to refuse") {
  Ledger ledger;
  CHECK_FALSE(ledger.room(0, 1));     // used
  CHECK_FALSE(ledger.room(1001, 1));  // not granted
  CHECK_FALSE(ledger.room(991, 11));
  CHECK(ledger.room(991, 10));
  CHECK_FALSE(ledger.room(~uint64_t{0}, 1));
  CHECK_FALSE(ledger.room(~uint64_t{0} - 3, 4));
  CHECK_FALSE(ledger.room(1, 600));
  CHECK(ledger.use(3) == 0);
  CHECK_FALSE(ledger.room(3, 1));
  CHECK_FALSE(ledger.room(2, 2));
  CHECK(ledger.room(2, 1));
  ledger.forwarded(3, 1);  // an id twice
  CHECK_FALSE(ledger.room(2, 1));
  CHECK(ledger.told() == std::vector<Told>{{3, 1, kAll + 1}});

  Ledger beyond(100);
  beyond.forwarded(101, 1);
  CHECK_FALSE(beyond.room(1, 1));
  Ledger far(100);
  far.forwarded(uint64_t{1} << 40, 1);
  CHECK_FALSE(far.room(1, 1));
}

TEST_CASE("ids that cannot be seen") {
  Ledger ledger;
  ledger.answer(1);
  ledger.lose_count();
  CHECK_FALSE(ledger.room(2, 1));
  CHECK(ledger.told() == std::vector<Told>{{1, 1, kAll}});
}

TEST_CASE("above a gap an answer grants what smbd is sure to grant") {
  // smbd's window was never longer than 300; 1 is somewhere on its way.
  Ledger ledger(300);
  REQUIRE(ledger.room(2, 16));
  CHECK(ledger.answered(2, 16) == 0);
  CHECK(ledger.short_of() == 16);
  REQUIRE(ledger.room(18, 16));
  CHECK(ledger.answered(18, 16) == 0);
  CHECK_FALSE(ledger.room(34, 16));  // the client would have less than any request may need
  REQUIRE(ledger.room(1, 1));
  CHECK(ledger.answered(1, 1) == 33);  // the gap is closed
  CHECK(ledger.short_of() == 0);
  CHECK(ledger.told() == std::vector<Told>{{1, 33, 1 + 150}});
  CHECK(ledger.swallows(1, 33 + 150));
  // With what smbd has granted beyond it needs no order.
  ledger.answer(50, 16);

  Ledger poor(100);
  CHECK_FALSE(poor.room(2, 1));
  CHECK(poor.room(1, 1));
}

TEST_CASE("what is begun is counted upon") {
  Ledger ledger(300);
  ledger.answer(1);
  (void)ledger.told();
  REQUIRE(ledger.swallows(1, 1 + 150));
  REQUIRE(ledger.begin(3, 100) == 100);  // 2 is somewhere on its way
  CHECK_FALSE(ledger.begin(103, 51));
  REQUIRE(ledger.begin(103, 50) == 50);
  CHECK_FALSE(ledger.begin(153, 1));
  REQUIRE(ledger.begin(2, 1) == 0);
  CHECK(ledger.answered(103, 50, 50) == 50);
  CHECK(ledger.answered(3, 100, 100) == 100);
  CHECK(ledger.answered(2, 1, 0) == 1);
  // What went to smbd is not.
  const auto next = ledger.begin(154, 100);
  REQUIRE(next == 100);
  CHECK_FALSE(ledger.begin(254, 100));
  ledger.given_up(*next);
  CHECK(ledger.begin(254, 100));
}

TEST_CASE("what is missing is not given back of what is counted upon") {
  Ledger ledger(1000);
  REQUIRE(ledger.begin(3, 10) == 10);
  CHECK(ledger.answered(3, 10, 10) == 0);
  CHECK(ledger.told() == std::vector<Told>{{3, 10, kAll + 10}});
  REQUIRE(ledger.swallows(3, 0));  // smbd's window is as long as it gets
  REQUIRE(ledger.begin(20, 5) == 5);
  CHECK(ledger.use(1) == 1);
  ledger.forwarded(2, 1);
  CHECK(ledger.use(13) == 1);
  CHECK(ledger.short_of() == 10);
}

TEST_CASE("an ECHO asks for what is missing of the reserve, one at a time") {
  Ledger ledger;
  ledger.answer(1);
  CHECK(ledger.told() == std::vector<Told>{{1, 1, kAll}});
  ledger.answer(2);
  CHECK(ledger.told() == std::vector<Told>{{2, 1, 1}});
  CHECK(ledger.swallows(1, 1 + 100));  // smbd's window is as long as it gets
  CHECK(ledger.swallows(2, 1));
  ledger.answer(3);
  CHECK(ledger.told() == std::vector<Told>{{3, 1, 1 + 156}});
  CHECK(ledger.swallows(3, 1 + 156));
  CHECK(ledger.held_back() == 256);
  ledger.answer(4);
  CHECK(ledger.told() == std::vector<Told>{{4, 1, 1}});
}

TEST_CASE("ECHOs that smbd does not answer have an end") {
  Ledger ledger(60000, false);
  uint64_t id = 1;
  for (; ledger.room(id, 1); ++id) {
    ledger.answer(id);
    (void)ledger.told();
  }
  CHECK(ledger.echoes() == SequenceLedger::kMostEchoes);
  CHECK(ledger.swallows(1, 1));
  CHECK(ledger.room(id, 1));
}

}  // namespace smb2_test
