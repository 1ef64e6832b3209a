// SPDX-License-Identifier: MIT
// Who gets a place among those whom the server has not let in, and who goes for whom.
#include "workers/connect/places.h"

#include <deque>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace smbdirect::workers::connect {

namespace {

struct Client final : PlaceHolder {
  void enter() override { in = true; }
  void leave(std::string why) override {
    in = false;
    left = std::move(why);
  }
  [[nodiscard]] bool served() const override { return busy; }

  bool in = false;
  bool busy = false;
  std::string left;
};

shm::Host host(uint8_t n) {
  shm::Host out{};
  out.back() = n;
  return out;
}

struct Rig {
  Client& silent(uint8_t from) {
    Client& client = clients.emplace_back();
    places.arrived(client, host(from));
    return client;
  }
  Client& greeted(uint8_t from) {
    Client& client = silent(from);
    places.greeted(client);
    return client;
  }
  std::vector<Client*> many(size_t count, uint8_t from) {
    std::vector<Client*> out;
    for (size_t i = 0; i < count; ++i) out.push_back(&greeted(from));
    return out;
  }

  std::deque<Client> clients;
  Places places;
};

}  // namespace

TEST_CASE("who has said nothing has no place, and who has is served at once while there are some") {
  Rig rig;
  const Client& silent = rig.silent(1);
  const auto all = rig.many(Places::kMost, 1);
  CHECK_FALSE(rig.places.serve(0));
  CHECK_FALSE(silent.in);
  for (const Client* client : all) CHECK(client->in);
}

TEST_CASE("of one address: who comes later waits until one that waits for nothing has had a second") {
  Rig rig;
  const auto all = rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  for (Client* client : all) client->busy = true;
  all[3]->busy = false;
  Client& late = rig.greeted(1);
  late.busy = true;
  CHECK(rig.places.serve(10) == Places::kQuietMs - 10);
  CHECK_FALSE(late.in);
  CHECK_FALSE(rig.places.serve(Places::kQuietMs));
  CHECK(late.in);
  CHECK_FALSE(all[3]->in);
  CHECK(all[3]->left != "");
  // The others have something to wait for: they have longer.
  const Client& later = rig.greeted(1);
  CHECK(rig.places.serve(Places::kQuietMs + 1) == Places::kLookMs);
  CHECK_FALSE(later.in);
  CHECK_FALSE(rig.places.serve(Places::kLongMs));
  CHECK(later.in);
  CHECK_FALSE(all[0]->in);
}

TEST_CASE("turns go by who has waited longest, not by who has been silent") {
  Rig rig;
  const auto all = rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  Client& sleeper = rig.silent(1);
  const Client& honest = rig.greeted(1);
  rig.places.greeted(sleeper);
  rig.places.remove(*all[0]);
  (void)rig.places.serve(1);
  CHECK(honest.in);
  CHECK_FALSE(sleeper.in);
}

TEST_CASE("who has just got a place is the last to lose it") {
  Rig rig;
  Client& first = rig.greeted(1);
  for (size_t i = 1; i < Places::kMost; ++i) (void)rig.greeted(1);
  (void)rig.places.serve(0);
  const Client& late = rig.greeted(1);  // gets the place of the first
  CHECK_FALSE(rig.places.serve(Places::kQuietMs));
  CHECK(late.in);
  CHECK_FALSE(first.in);
  for (size_t i = 1; i < Places::kMost; ++i) {
    (void)rig.greeted(2);
    (void)rig.places.serve(Places::kQuietMs + 1);
    CHECK(late.in);
  }
}

TEST_CASE("a few places more than a newcomer's address has are no reason to lose one at once") {
  Rig rig;
  const auto honest = rig.many(Places::kFew, 1);
  for (uint8_t n = 2; rig.clients.size() < Places::kMost; ++n) (void)rig.greeted(n);
  (void)rig.places.serve(0);
  for (Client* client : honest) client->busy = true;
  for (uint8_t n = 100; n < 150; ++n) (void)rig.greeted(n);
  (void)rig.places.serve(10);
  for (const Client* client : honest) CHECK(client->in);
}

TEST_CASE("the look at what may end is never later than its end") {
  Rig rig;
  for (Client* client : rig.many(Places::kMost, 1)) client->busy = true;
  (void)rig.places.serve(0);
  for (Client& client : rig.clients) client.busy = true;
  (void)rig.greeted(1);
  CHECK(rig.places.serve(Places::kLongMs - 20) == 20);
}

TEST_CASE("who has been let in, or is gone, leaves the place to the next") {
  Rig rig;
  const auto all = rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  const Client& second = rig.greeted(1);
  const Client& third = rig.greeted(1);
  CHECK(rig.places.serve(0));
  rig.places.remove(*all[0]);
  rig.places.remove(*all[0]);
  CHECK(rig.places.serve(0));
  CHECK(second.in);
  CHECK_FALSE(third.in);
  CHECK(all[0]->in);
}

TEST_CASE(
    "an address that has them all gives one to another at once, and that one is served before those who "
    "waited") {
  Rig rig;
  const auto all = rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  for (Client* client : all) client->busy = true;
  const Client& same = rig.greeted(1);
  (void)rig.places.serve(0);
  const Client& other = rig.greeted(2);
  (void)rig.places.serve(0);
  CHECK(other.in);
  CHECK_FALSE(all[0]->in);
  CHECK_FALSE(same.in);
}

TEST_CASE("addresses end with much the same number of places, and then nobody is sent away early") {
  Rig rig;
  (void)rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  const auto others = rig.many(2 * Places::kMost, 2);
  CHECK(rig.places.serve(0) == Places::kQuietMs);
  size_t in = 0;
  for (const Client* client : others) in += client->in ? 1 : 0;
  CHECK(in == (Places::kMost - Places::kFew) / 2);
}

TEST_CASE(
    "room to connect is made by the silent, then by those who wait, of the address that has most of them") {
  Rig rig;
  const auto placed = rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  CHECK_FALSE(rig.places.make_room("full"));
  const Client& few = rig.silent(2);
  const Client& waits = rig.greeted(1);
  const Client& silent = rig.silent(1);
  CHECK(rig.places.make_room("full"));
  CHECK(silent.left == "full");
  const Client& waits_too = rig.greeted(1);
  CHECK(rig.places.make_room("full"));
  CHECK(waits.left == "full");
  CHECK(waits_too.left == "");
  CHECK(few.left == "");
  for (const Client* client : placed) CHECK(client->in);
}

}  // namespace smbdirect::workers::connect
