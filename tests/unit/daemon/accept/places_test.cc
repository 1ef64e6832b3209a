// SPDX-License-Identifier: MIT
#include "daemon/accept/places.h"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using smbdirect::daemon::Places;
namespace shm = smbdirect::shm;

namespace {
shm::Host client(uint16_t n) { return {0x20, 1, uint8_t(n >> 8), uint8_t(n)}; }
constexpr uint64_t kLater = 2'000;  // nobody is young then
}  // namespace

TEST_CASE("there is room until the places without a session are taken; a session frees one") {
  Places places(10, 2);
  places.add(1_c, client(1), 0);
  CHECK_FALSE(places.room_for(client(2), 0).none);
  places.add(2_c, client(2), 0);
  CHECK(places.room_for(client(3), kLater).goes == 1_c);
  CHECK(places.session_up(1_c));
  CHECK_FALSE(places.session_up(1_c));  // a worker says it twice
  CHECK_FALSE(places.session_up(99_c));
  CHECK(places.without_session() == 1);
  CHECK(places.total() == 2);
  CHECK_FALSE(places.room_for(client(3), kLater).goes);
  CHECK_FALSE(places.room_for(client(3), kLater).none);
}

TEST_CASE("who has a session is never in the way, and with all places theirs a newcomer is turned away") {
  Places places(2, 2);
  places.add(1_c, client(1), 0);
  places.add(2_c, client(1), 0);
  CHECK(places.session_up(1_c));
  CHECK(places.room_for(client(2), kLater).goes == 2_c);
  CHECK(places.session_up(2_c));
  CHECK(places.room_for(client(2), kLater).none);
  places.remove(1_c);
  CHECK_FALSE(places.room_for(client(2), kLater).none);
}

TEST_CASE("the oldest of the client that holds most goes, also the newcomer's own") {
  Places places(100, 30);
  uint64_t number = 0;
  places.add(shm::ConnectionId{++number}, client(1), 0);  // the oldest of all, and alone
  for (int i = 0; i < 9; ++i) places.add(shm::ConnectionId{++number}, client(2), 0);   // 2 to 10
  for (int i = 0; i < 20; ++i) places.add(shm::ConnectionId{++number}, client(3), 0);  // 11 to 30
  CHECK(places.room_for(client(4), 0).goes == 11_c);
  CHECK(places.room_for(client(1), 0).goes == 11_c);
  CHECK(places.room_for(client(3), kLater).goes == 11_c);
  places.ending(11_c);
  CHECK(places.total() == 29);
  CHECK_FALSE(places.room_for(client(4), 0).goes);
  places.add(shm::ConnectionId{++number}, client(4), 0);
  CHECK(places.room_for(client(4), 0).goes == 12_c);
  CHECK(places.session_up(11_c));  // it crossed its end, and stays
  CHECK(places.total() == 31);
  CHECK(places.of_client(client(3)) == 20);
  places.remove(11_c);
  CHECK(places.total() == 30);
  CHECK(places.of_client(client(3)) == 19);
}

TEST_CASE("among equals who have just come a newcomer is refused, for a second at the most") {
  Places places(10, 2);
  places.add(1_c, client(1), 5'000);
  places.add(2_c, client(2), 5'000);
  CHECK(places.room_for(client(3), 5'000).none);
  CHECK(places.room_for(client(3), 5'999).none);
  CHECK(places.room_for(client(3), 6'000).goes == 1_c);
  SUBCASE("also where nobody gets old") {
    uint64_t refused = 0, number = 2;
    for (uint64_t now = 6'000; now < 16'000; now += 10) {
      const Places::Room room = places.room_for(client(uint16_t(now)), now);
      if (room.none) {
        ++refused;
        continue;
      }
      if (room.goes) {
        places.ending(*room.goes);
        places.remove(*room.goes);
      }
      places.add(shm::ConnectionId{++number}, client(uint16_t(now)), now);
    }
    CHECK(refused <= 200);
  }
}

TEST_CASE("ends that do not come are waited for in bounded number") {
  Places places(1'000, 1);
  uint64_t number = 0, got = 0;
  for (; got < 10'000; ++got) {
    const Places::Room room = places.room_for(client(1), kLater);
    if (room.none) break;
    if (room.goes) places.ending(*room.goes);
    places.add(shm::ConnectionId{++number}, client(1), 0);
  }
  CHECK(got < 300);
  places.remove(1_c);
  CHECK_FALSE(places.room_for(client(1), kLater).none);
}

TEST_CASE("property: whoever goes is the oldest of a client with the most, by a plain list") {
  constexpr uint32_t kSeed = 1234;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  Places places(60, 40);
  struct One {
    uint16_t who;
    bool session;
  };
  std::map<shm::ConnectionId, One> list;
  uint64_t number = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto pick = [&] { return std::next(list.begin(), long(random() % list.size())); };
    if (!list.empty() && random() % 4 == 0) {
      const auto one = pick();
      places.remove(shm::ConnectionId{one->first});
      list.erase(one);
    } else if (!list.empty() && random() % 4 == 0) {
      const auto one = pick();
      CHECK(places.session_up(one->first) == !one->second.session);
      one->second.session = true;
    } else {
      const auto who = uint16_t(random() % 6);
      std::map<uint16_t, size_t> counts;
      size_t without = 0;
      for (const auto& [n, one] : list) {
        if (!one.session) ++counts[one.who], ++without;
      }
      const Places::Room room = places.room_for(client(who), 1'000'000'000);
      const bool full = without >= 40 || list.size() >= 60;
      REQUIRE(room.none == (full && without == 0));
      REQUIRE(room.goes.has_value() == (full && without > 0));
      if (room.goes) {
        ++counts[who];
        const auto gone = list.find(*room.goes);
        REQUIRE(gone != list.end());
        REQUIRE_FALSE(gone->second.session);
        const size_t most =
            std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; })->second;
        REQUIRE(counts[gone->second.who] == most);
        for (const auto& [n, one] : list) {
          if (n < gone->first && !one.session) REQUIRE(one.who != gone->second.who);
        }
        places.ending(gone->first);
        places.remove(gone->first);
        list.erase(gone);
      }
      if (!room.none) {
        places.add(shm::ConnectionId{++number}, client(who), 0);
        list[shm::ConnectionId{number}] = {who, false};
      }
    }
    REQUIRE(places.total() == list.size());
    for (uint16_t who = 0; who < 6; ++who) {
      REQUIRE(places.of_client(client(who)) ==
              size_t(std::ranges::count_if(list, [&](const auto& e) { return e.second.who == who; })));
    }
  }
}
