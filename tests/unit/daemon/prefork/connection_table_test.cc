// SPDX-License-Identifier: MIT
#include "daemon/prefork/connection_table.h"

#include <map>
#include <random>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using smbdirect::daemon::Affinity;
using smbdirect::daemon::ConnectionTable;
namespace shm = smbdirect::shm;

namespace {
/// A connection of the client, whose address is all that counts here.
void add(ConnectionTable& table, uint64_t connection, size_t slot, const shm::Host& client) {
  table.add(shm::ConnectionId{connection}, slot, *shm::address_from_text(shm::host_text(client), 40'000), {});
}

shm::Host client(uint8_t n) { return shm::Host{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, n}; }
}  // namespace

TEST_CASE("affinity client: the worker that serves the client, else the one with the fewest connections") {
  ConnectionTable table(3);
  const std::vector<bool> all{true, true, true};
  CHECK(table.choose(client(1), Affinity::client, all) == 0);
  add(table, 1, 0, client(1));
  CHECK(table.choose(client(2), Affinity::client, all) == 1);
  add(table, 2, 1, client(2));
  CHECK(table.choose(client(1), Affinity::client, all) == 0);  // although 2 is idle
  add(table, 3, 0, client(1));
  CHECK(table.choose(client(3), Affinity::client, all) == 2);
  // When its worker is not eligible, another one serves the client too; later the one with more has it.
  CHECK(table.choose(client(1), Affinity::client, {false, true, true}) == 2);
  add(table, 4, 2, client(1));
  CHECK(table.choose(client(1), Affinity::client, all) == 0);
}

TEST_CASE("affinity spread: the fewest connections whoever asks, equals in turn") {
  ConnectionTable table(3);
  const std::vector<bool> all{true, true, true};
  for (uint64_t i = 0; i < 9; ++i) {
    const auto slot = table.choose(client(1), Affinity::spread, all);
    CHECK(slot == i % 3);
    add(table, i, *slot, client(1));
  }
  CHECK(table.remove(4_c, 1));
  CHECK(table.choose(client(1), Affinity::spread, all) == 1);
}

TEST_CASE("equals take turns even when nothing stays") {
  ConnectionTable table(3);
  const std::vector<bool> all{true, true, true};
  CHECK(table.choose(client(1), Affinity::client, all) == 0);
  CHECK(table.choose(client(1), Affinity::client, all) == 1);
  CHECK(table.choose(client(1), Affinity::client, all) == 2);
  CHECK(table.choose(client(1), Affinity::client, all) == 0);
}

TEST_CASE("none eligible is an answer") {
  ConnectionTable table(2);
  CHECK_FALSE(table.choose(client(1), Affinity::client, {false, false}));
  CHECK_FALSE(table.choose(client(1), Affinity::spread, {false, false}));
}

TEST_CASE("a worker's word about connections it does not have changes nothing") {
  ConnectionTable table(2);
  add(table, 7, 0, client(1));
  add(table, 7, 1, client(2));  // a number is given once
  CHECK(table.of_slot(1) == 0);
  CHECK_FALSE(table.remove(7_c, 1));
  CHECK_FALSE(table.remove(8_c, 0));
  CHECK(table.total() == 1);
  CHECK(table.remove(7_c, 0));
  CHECK_FALSE(table.remove(7_c, 0));
  CHECK(table.total() == 0);
}

TEST_CASE("property: counts agree with a plain list") {
  constexpr uint32_t kSeed = 77;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  ConnectionTable table(4);
  std::map<uint64_t, std::pair<size_t, uint8_t>> list;
  for (uint64_t number = 0; number < 4000; ++number) {
    if (random() % 3 != 0) {
      const auto who = uint8_t(random() % 8);
      const std::vector<bool> eligible{random() % 4 != 0, random() % 4 != 0, random() % 4 != 0,
                                       random() % 4 != 0};
      const auto affinity = random() % 2 == 0 ? Affinity::client : Affinity::spread;
      const auto slot = table.choose(client(who), affinity, eligible);
      REQUIRE(slot.has_value() == (eligible[0] || eligible[1] || eligible[2] || eligible[3]));
      if (!slot) continue;
      REQUIRE(eligible[*slot]);
      if (affinity == Affinity::spread) {
        for (size_t s = 0; s < 4; ++s) {
          if (eligible[s]) REQUIRE(table.of_slot(*slot) <= table.of_slot(s));
        }
      }
      add(table, number, *slot, client(who));
      list[number] = {*slot, who};
    } else if (!list.empty()) {
      const auto victim = std::next(list.begin(), random() % list.size());
      REQUIRE(table.remove(shm::ConnectionId{victim->first}, victim->second.first));
      list.erase(victim);
    }
    REQUIRE(table.total() == list.size());
  }
  for (size_t slot = 0; slot < 4; ++slot) {
    std::vector<shm::ConnectionId> of_slot;
    for (const auto& [number, where] : list) {
      if (where.first == slot) of_slot.push_back(shm::ConnectionId{number});
    }
    CHECK(table.connections_of(slot) == of_slot);
    CHECK(table.of_slot(slot) == of_slot.size());
  }
  for (uint8_t who = 0; who < 8; ++who) {
    size_t count = 0;
    for (const auto& [number, where] : list) count += where.second == who ? 1 : 0;
    size_t told = 0;
    for (size_t slot = 0; slot < 4; ++slot) told += table.of_slot_and_client(slot, client(who));
    CHECK(told == count);
  }
}

TEST_CASE("a connection's addresses are told for the slot that has it, and for no other") {
  ConnectionTable table(2);
  const auto peer = *shm::address_from_text("192.0.2.7", 40'000);
  const auto local = *shm::address_from_text("192.0.2.1", 445);
  table.add(5_c, 1, peer, local);
  REQUIRE(table.addresses(5_c, 1) != nullptr);
  CHECK(shm::address_text(table.addresses(5_c, 1)->peer) == "192.0.2.7:40000");
  CHECK(shm::address_text(table.addresses(5_c, 1)->local) == "192.0.2.1:445");
  CHECK(table.addresses(5_c, 0) == nullptr);
  CHECK(table.addresses(6_c, 1) == nullptr);
}

TEST_CASE("affinity client: a worker that is known to serve the client comes before all others") {
  ConnectionTable table(3);
  const std::vector<bool> all{true, true, true};
  add(table, 1, 0, client(1));
  add(table, 2, 2, client(2));
  CHECK(table.choose(client(1), Affinity::client, all, 0b100) == 2);  // before the address's own
  CHECK(table.choose(client(1), Affinity::client, all, 0b101) == 0);  // of two, the address's own
  CHECK(table.choose(client(1), Affinity::client, {true, true, false}, 0b100) == 0);
  CHECK(table.choose(client(3), Affinity::spread, all, 0b100) == 1);
}

TEST_CASE("an IPv6 client's connections are steered by its network, but never all of a LAN to one slot") {
  const auto at = [](const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); };
  ConnectionTable table(2, 64);
  const std::vector<bool> all{true, true};
  add(table, 1, 1, at("2001:db8:0:1::1"));
  add(table, 2, 0, at("2001:db8:0:2::1"));
  CHECK(table.choose(at("2001:db8:0:1::2"), Affinity::client, all) == 1);
  CHECK(table.choose(at("2001:db8:0:2::2"), Affinity::client, all) == 0);
  // What the registry knows of it comes first.
  CHECK(table.choose(at("2001:db8:0:1::2"), Affinity::client, all, 0b01) == 0);
  for (uint64_t n = 0; n < 100; ++n) {
    const shm::Host one = at(("2001:db8:0:1::1:" + std::to_string(n)).c_str());
    add(table, 10 + n, *table.choose(one, Affinity::client, all, 0b10), one);
  }
  CHECK(table.of_slot(0) > 25);
  CHECK(table.of_slot(1) > 25);
  // Who has a connection there goes there, however many others do.
  for (uint64_t n = 0; n < 100; ++n) add(table, 200 + n, 1, at("192.0.2.1"));
  CHECK(table.choose(at("2001:db8:0:1::1"), Affinity::client, all) == 1);
  CHECK(table.choose(at("192.0.2.1"), Affinity::client, all, 0b10) == 1);
}
