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

TEST_CASE("addresses end with as many places each, and then nobody is sent away early") {
  Rig rig;
  (void)rig.many(Places::kMost, 1);
  (void)rig.places.serve(0);
  const auto others = rig.many(2 * Places::kMost, 2);
  CHECK(rig.places.serve(0) == Places::kQuietMs);
  size_t in = 0;
  for (const Client* client : others) in += client->in ? 1 : 0;
  CHECK(in == Places::kMost / 2);
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
