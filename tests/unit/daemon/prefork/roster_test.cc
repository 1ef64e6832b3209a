// SPDX-License-Identifier: MIT
#include "daemon/prefork/roster.h"

#include <map>
#include <random>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"

using smbdirect::daemon::Affinity;
using smbdirect::daemon::Roster;
namespace shm = smbdirect::shm;

namespace {
/// A connection of the client, whose address is all that counts here.
void add(Roster& roster, uint64_t connection, size_t slot, const shm::Host& client) {
  roster.add(connection, slot, *shm::address_from_text(shm::host_text(client), 40'000), {});
}

shm::Host client(uint8_t n) { return shm::Host{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, n}; }
}  // namespace

TEST_CASE("affinity client: the worker that serves the client, else the one with the fewest connections") {
  Roster roster(3);
  const std::vector<bool> all{true, true, true};
  CHECK(roster.choose(client(1), Affinity::client, all) == 0);
  add(roster, 1, 0, client(1));
  CHECK(roster.choose(client(2), Affinity::client, all) == 1);
  add(roster, 2, 1, client(2));
  CHECK(roster.choose(client(1), Affinity::client, all) == 0);  // although 2 is idle
  add(roster, 3, 0, client(1));
  CHECK(roster.choose(client(3), Affinity::client, all) == 2);
  // When its worker is not eligible, another one serves the client too; later the one with more has it.
  CHECK(roster.choose(client(1), Affinity::client, {false, true, true}) == 2);
  add(roster, 4, 2, client(1));
  CHECK(roster.choose(client(1), Affinity::client, all) == 0);
}

TEST_CASE("affinity spread: the fewest connections whoever asks, equals in turn") {
  Roster roster(3);
  const std::vector<bool> all{true, true, true};
  for (uint64_t i = 0; i < 9; ++i) {
    const auto slot = roster.choose(client(1), Affinity::spread, all);
    CHECK(slot == i % 3);
    add(roster, i, *slot, client(1));
  }
  CHECK(roster.remove(4, 1));
  CHECK(roster.choose(client(1), Affinity::spread, all) == 1);
}

TEST_CASE("equals take turns even when nothing stays") {
  Roster roster(3);
  const std::vector<bool> all{true, true, true};
  CHECK(roster.choose(client(1), Affinity::client, all) == 0);
  CHECK(roster.choose(client(1), Affinity::client, all) == 1);
  CHECK(roster.choose(client(1), Affinity::client, all) == 2);
  CHECK(roster.choose(client(1), Affinity::client, all) == 0);
}

TEST_CASE("none eligible is an answer") {
  Roster roster(2);
  CHECK_FALSE(roster.choose(client(1), Affinity::client, {false, false}));
  CHECK_FALSE(roster.choose(client(1), Affinity::spread, {false, false}));
}

TEST_CASE("a worker's word about connections it does not have changes nothing") {
  Roster roster(2);
  add(roster, 7, 0, client(1));
  add(roster, 7, 1, client(2));  // a number is given once
  CHECK(roster.of_slot(1) == 0);
  CHECK_FALSE(roster.remove(7, 1));
  CHECK_FALSE(roster.remove(8, 0));
  CHECK(roster.total() == 1);
  CHECK(roster.remove(7, 0));
  CHECK_FALSE(roster.remove(7, 0));
  CHECK(roster.total() == 0);
}

TEST_CASE("property: counts agree with a plain list") {
  constexpr uint32_t kSeed = 77;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  Roster roster(4);
  std::map<uint64_t, std::pair<size_t, uint8_t>> list;
  for (uint64_t number = 0; number < 4000; ++number) {
    if (random() % 3 != 0) {
      const auto who = uint8_t(random() % 8);
      const std::vector<bool> eligible{random() % 4 != 0, random() % 4 != 0, random() % 4 != 0,
                                       random() % 4 != 0};
      const auto affinity = random() % 2 == 0 ? Affinity::client : Affinity::spread;
      const auto slot = roster.choose(client(who), affinity, eligible);
      REQUIRE(slot.has_value() == (eligible[0] || eligible[1] || eligible[2] || eligible[3]));
      if (!slot) continue;
      REQUIRE(eligible[*slot]);
      if (affinity == Affinity::spread) {
        for (size_t s = 0; s < 4; ++s) {
          if (eligible[s]) REQUIRE(roster.of_slot(*slot) <= roster.of_slot(s));
        }
      }
      add(roster, number, *slot, client(who));
      list[number] = {*slot, who};
    } else if (!list.empty()) {
      const auto victim = std::next(list.begin(), random() % list.size());
      REQUIRE(roster.remove(victim->first, victim->second.first));
      list.erase(victim);
    }
    REQUIRE(roster.total() == list.size());
  }
  for (size_t slot = 0; slot < 4; ++slot) {
    std::vector<uint64_t> numbers;
    for (const auto& [number, where] : list) {
      if (where.first == slot) numbers.push_back(number);
    }
    CHECK(roster.connections_of(slot) == numbers);
    CHECK(roster.of_slot(slot) == numbers.size());
  }
  for (uint8_t who = 0; who < 8; ++who) {
    size_t count = 0;
    for (const auto& [number, where] : list) count += where.second == who ? 1 : 0;
    size_t told = 0;
    for (size_t slot = 0; slot < 4; ++slot) told += roster.of_slot_and_client(slot, client(who));
    CHECK(told == count);
  }
}

TEST_CASE("a connection's addresses are told for the slot that has it, and for no other") {
  Roster roster(2);
  const auto peer = *shm::address_from_text("192.0.2.7", 40'000);
  const auto local = *shm::address_from_text("192.0.2.1", 445);
  roster.add(5, 1, peer, local);
  REQUIRE(roster.addresses(5, 1) != nullptr);
  CHECK(shm::address_text(roster.addresses(5, 1)->peer) == "192.0.2.7:40000");
  CHECK(shm::address_text(roster.addresses(5, 1)->local) == "192.0.2.1:445");
  CHECK(roster.addresses(5, 0) == nullptr);
  CHECK(roster.addresses(6, 1) == nullptr);
}

TEST_CASE("affinity client: a worker that is known to serve the client comes before all others") {
  Roster roster(3);
  const std::vector<bool> all{true, true, true};
  add(roster, 1, 0, client(1));
  add(roster, 2, 2, client(2));
  CHECK(roster.choose(client(1), Affinity::client, all, 0b100) == 2);  // before the address's own
  CHECK(roster.choose(client(1), Affinity::client, all, 0b101) == 0);  // of two, the address's own
  CHECK(roster.choose(client(1), Affinity::client, {true, true, false}, 0b100) == 0);
  CHECK(roster.choose(client(3), Affinity::spread, all, 0b100) == 1);
}

TEST_CASE("an IPv6 client's connections are steered by its network, but never all of a LAN to one slot") {
  const auto at = [](const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); };
  Roster roster(2, 64);
  const std::vector<bool> all{true, true};
  add(roster, 1, 1, at("2001:db8:0:1::1"));
  add(roster, 2, 0, at("2001:db8:0:2::1"));
  CHECK(roster.choose(at("2001:db8:0:1::2"), Affinity::client, all) == 1);
  CHECK(roster.choose(at("2001:db8:0:2::2"), Affinity::client, all) == 0);
  // What the registry knows of it comes first.
  CHECK(roster.choose(at("2001:db8:0:1::2"), Affinity::client, all, 0b01) == 0);
  for (uint64_t n = 0; n < 100; ++n) {
    const shm::Host one = at(("2001:db8:0:1::1:" + std::to_string(n)).c_str());
    add(roster, 10 + n, *roster.choose(one, Affinity::client, all, 0b10), one);
  }
  CHECK(roster.of_slot(0) > 25);
  CHECK(roster.of_slot(1) > 25);
  // Who has a connection there goes there, however many others do.
  for (uint64_t n = 0; n < 100; ++n) add(roster, 200 + n, 1, at("192.0.2.1"));
  CHECK(roster.choose(at("2001:db8:0:1::1"), Affinity::client, all) == 1);
  CHECK(roster.choose(at("192.0.2.1"), Affinity::client, all, 0b10) == 1);
}
