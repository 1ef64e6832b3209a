// SPDX-License-Identifier: MIT
// How an attempt of the peer finder ends other than well: in time, with a reason, without a trace.
#include <cerrno>

#include <doctest/doctest.h>

#include "finder_rig.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::native_test;

TEST_CASE("an attempt ends at its deadline wherever it stands") {
  FinderRig rig(1'000);
  rig.listen_for_peers();
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  std::vector<std::unique_ptr<Connection>> clients;
  for (const uint64_t offer : {5, 6, 7, 8, 9}) clients.push_back(rig.connect(offer, guid(uint8_t(offer))));
  clients.push_back(rig.connect(10, guid(1)));  // here
  for (auto& client : clients) client->start();
  rig.finder->claimed(6_c, ClaimOutcome::wait);
  rig.finder->claimed(7_c, ClaimOutcome::owner);
  const PeerEnd passed = rig.passed(7);
  rig.finder->claimed(8_c, ClaimOutcome::granted);
  rig.finder->claimed(9_c, ClaimOutcome::granted);
  PeerEnd slow = rig.knock();
  slow.say(hello(rig.wanted(9)));
  rig.hear_facts(slow, *clients[4]);
  for (auto& client : clients) {
    rig.until([&] { return client->result.has_value(); });
    CHECK(client->error() == ETIMEDOUT);
  }
}

TEST_CASE("what the supervisor refuses ends with its reason, at once") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  auto wanted = rig.connect(5, guid(2)), here = rig.connect(6);
  wanted->start();
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  here->start();
  rig.finder->refused(5_c, ENOTCONN);
  rig.finder->refused(6_c, EAGAIN);
  rig.finder->refused(7_c, EAGAIN);  // nobody's
  CHECK(wanted->error() == ENOTCONN);
  CHECK(here->error() == EAGAIN);
  rig.finder->refused(5_c, EPERM);  // over: it is not told twice
  rig.finder->claimed(6_c, ClaimOutcome::granted);
  rig.turn();
  CHECK(rig.sent.size() == 1);
}

TEST_CASE("an attempt that is given up leaves nothing, at whatever stage") {
  FinderRig rig;
  rig.listen_for_peers();
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  auto client = rig.connect(5, guid(2));
  PeerEnd peer;
  proxy::Cookie cookie{};
  SUBCASE("not begun") {}
  SUBCASE("no answer yet") { client->start(); }
  SUBCASE("waiting") {
    client->start();
    rig.finder->claimed(5_c, ClaimOutcome::wait);
  }
  SUBCASE("a process was asked for") {
    client->start();
    rig.finder->claimed(5_c, ClaimOutcome::granted);
    cookie = rig.wanted(5);
  }
  SUBCASE("the process has come") {
    client->start();
    rig.finder->claimed(5_c, ClaimOutcome::granted);
    peer = rig.knock();
    peer.say(hello(rig.wanted(5)));
    rig.hear_facts(peer, *client);
  }
  SUBCASE("it has attached itself, and that was not seen yet") {
    client->start();
    rig.finder->claimed(5_c, ClaimOutcome::granted);
    peer = rig.knock();
    peer.say(hello(rig.wanted(5)));
    rig.hear_facts(peer, *client);
    peer.say(attached());
  }
  SUBCASE("passed on") {
    client->start();
    rig.finder->claimed(5_c, ClaimOutcome::owner);
    peer = rig.passed(5);
    rig.hear_facts(peer, *client);
  }
  SUBCASE("passed here") {
    client = rig.connect(5, guid(1));
    client->start();
    peer = std::move(process.channels.at(0));
    rig.hear_facts(peer, *client);
  }
  client->upstream.reset();
  CHECK_FALSE(client->result);
  const size_t said = rig.sent.size();
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  rig.finder->refused(5_c, EPERM);
  CHECK(rig.sent.size() == said);
  if (peer.fd() >= 0) rig.until([&] { return peer.ended(); });
  if (cookie != proxy::Cookie{}) {
    PeerEnd late = rig.knock();
    late.say(hello(cookie));
    rig.until([&] { return late.ended(); });
  }
}

TEST_CASE("an attempt may be destroyed by the one who hears its end") {
  FinderRig rig(50);
  auto failing = rig.connect(5), served = rig.connect(6);
  int ends = 0;
  failing->upstream->start([&](const auto& result) {
    CHECK_FALSE(result.has_value());
    failing->upstream.reset();
    ++ends;
  });
  served->upstream->start([&](const auto& result) {
    CHECK(result.has_value());
    served->upstream.reset();
    ++ends;
  });
  rig.finder->claimed(6_c, ClaimOutcome::owner);
  PeerEnd peer = rig.passed(6);
  peer.say(attached());
  rig.until([&] { return ends == 2; });
}

TEST_CASE("what fails inside start() is told from the loop") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  auto client = rig.connect(5, guid(1), true, false);  // its area cannot be passed
  client->start();
  CHECK_FALSE(client->result);
  CHECK(process.channels.empty());
  rig.until([&] { return client->result.has_value(); });
  CHECK(client->error() == EBADF);
}

TEST_CASE("what fails at an answer, or at the listener, is told from the loop too") {
  FinderRig rig;
  rig.listen_for_peers();
  auto owned = rig.connect(5, guid(1), true, false), granted = rig.connect(6, guid(1), true, false);
  owned->start();
  granted->start();
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  CHECK(rig.sent.empty());
  CHECK_FALSE(owned->result);
  rig.finder->claimed(6_c, ClaimOutcome::granted);
  PeerEnd peer = rig.knock();
  peer.say(hello(rig.wanted(6)));
  for (auto* client : {&owned, &granted}) {
    rig.until([&] { return (*client)->result.has_value(); });
    CHECK((*client)->error() == EBADF);
  }
  CHECK(peer.ended());
}
