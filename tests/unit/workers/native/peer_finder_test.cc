// SPDX-License-Identifier: MIT
// How a connection finds its process: what the supervisor answers, what the registry spares it, and how an
// attempt ends. Processes at the listener have tests of their own (peer_listener_test.cc).
#include <cerrno>
#include <unistd.h>

#include <doctest/doctest.h>

#include "finder_rig.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::native_test;
namespace shm = smbdirect::shm;

namespace {

std::pair<shm::UniqueFd, PeerEnd> pair_of_sockets() {
  auto [worker, peer] = smbdirect::test::socket_pair();
  return {std::move(worker), PeerEnd(std::move(peer))};
}

}  // namespace

TEST_CASE("one who waits and hears of an owner has its channel passed on, with the facts on it") {
  FinderRig rig;
  auto client = rig.connect(5);
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::wait);
  rig.turn();
  CHECK(rig.sent.empty());
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  PeerEnd peer = rig.passed(5);
  const auto facts = peer.hear();  // no turn of the loop was needed
  REQUIRE(facts);
  CHECK(frame(facts->header, facts->body) == introduction());
  CHECK(inode(facts->descriptor.get()) == client->area);
  CHECK_FALSE(client->result);
  peer.say(attached());
  rig.until([&] { return client->result.has_value(); });
  REQUIRE(client->served());
  CHECK(client->upstream->process() == uint32_t(::getpid()));
  CHECK(rig.sent.size() == 1);
}

TEST_CASE("the longest facts there can be fit on a channel at once") {
  FinderRig rig;
  proxy::Facts facts{};
  facts.area_bytes = kSmallArea;
  facts.negotiate = Bytes(proxy::kMaxNegotiate, std::byte{9});
  const auto body = proxy::encode_facts(facts);
  PeerRequest request{};
  request.client.connection = 5_c;
  request.client.claimed = true;
  request.introduction = frame({.type = proxy::FrameType::facts}, body);
  request.area = std::move(shm::make_area(kSmallArea).value());
  Connection client;
  client.upstream = rig.finder->request(std::move(request));
  client.start();
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  PeerEnd peer = rig.passed(5);
  CHECK(peer.hear()->body == body);
  peer.say(attached());
  rig.until([&] { return client.served(); });
}

TEST_CASE("one who waits and is granted the claim after all gets a process started") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5);
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::wait);
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  PeerEnd peer = rig.knock();
  peer.say(hello(rig.wanted(5)));
  rig.hear_facts(peer, *client);
  peer.say(attached());
  rig.until([&] { return client->served(); });
}

TEST_CASE("an owner that never answered gives way to a process that is started") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5);
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  PeerEnd silent = rig.passed(5);
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  const auto cookie = rig.wanted(5);
  CHECK(silent.ended());  // after the facts: it cannot come late
  PeerEnd peer = rig.knock();
  peer.say(hello(cookie));
  rig.hear_facts(peer, *client);
  peer.say(attached());
  rig.until([&] { return client->served(); });
}

TEST_CASE("a channel on its way that fails waits for the supervisor, which says what is next") {
  FinderRig rig;
  auto client = rig.connect(5);
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  {
    PeerEnd peer = rig.passed(5);
    SUBCASE("closed") {}
    SUBCASE("with something else first") { peer.say(hello({})); }
  }
  rig.turn();
  CHECK_FALSE(client->result);
  rig.finder->claimed(5_c, ClaimOutcome::owner);  // another
  REQUIRE(rig.sent.size() == 2);
  PeerEnd peer = rig.passed(5);
  rig.hear_facts(peer, *client);
  peer.say(attached());
  rig.until([&] { return client->served(); });
}

TEST_CASE("where the registry names a process that this worker has, nobody else is asked") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  Served process, other;
  process.serve(rig, 1, kProcess);
  other.serve(rig, 2, kProcess + 1);
  auto client = rig.connect(5);
  client->start();
  REQUIRE(process.channels.size() == 1);
  CHECK(other.channels.empty());
  rig.hear_facts(process.channels[0], *client);
  rig.finder->claimed(5_c, ClaimOutcome::owner);  // the answer comes all the same
  process.channels[0].say(attached());
  rig.until([&] { return client->result.has_value(); });
  REQUIRE(client->served());
  CHECK(client->upstream->process() == uint32_t(::getpid()));  // who came, not who was expected
  CHECK(rig.sent.empty());
}

TEST_CASE("the registry says nothing of it: no such client, no process here, no GUID that counts") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  auto unknown = rig.connect(5, guid(2));
  unknown->start();
  auto unclaimed = rig.connect(6, guid(1), false);
  unclaimed->start();
  (void)rig.wanted(6);
  CHECK(rig.registry->claim(guid(3), shm::Host{}, FinderRig::kWorker, 0).outcome == shm::Claim::granted);
  auto starting = rig.connect(7, guid(3));
  starting->start();
  rig.finder->ended(1_c);
  auto elsewhere = rig.connect(8);
  elsewhere->start();
  rig.turn();
  CHECK(process.channels.empty());
  CHECK(rig.sent.size() == 1);
  rig.finder->claimed(8_c, ClaimOutcome::owner);
  PeerEnd peer = rig.passed(8);
  rig.hear_facts(peer, *elsewhere);
}

TEST_CASE("a descriptor that is no registry is done without") {
  FinderRig rig;
  rig.finder->map_registry(std::move(shm::make_area(4096).value()));
  auto client = rig.connect(5);
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  (void)rig.wanted(5);
}

TEST_CASE("a process that does not take the channel in time: what the supervisor has answered counts") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  Served process;
  process.serve(rig, 1, kProcess);
  auto owned = rig.connect(5), granted = rig.connect(6), unanswered = rig.connect(7);
  for (auto* client : {&owned, &granted, &unanswered}) (*client)->start();
  REQUIRE(process.channels.size() == 3);
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  rig.finder->claimed(6_c, ClaimOutcome::granted);
  rig.turn();
  CHECK(rig.sent.empty());
  const uint64_t began = uv_now(&rig.loop);
  rig.until([&] { return rig.sent.size() == 2; });
  CHECK(uv_now(&rig.loop) - began >= PeerFinder::kPassMs - 50);
  rig.until([&] { return process.channels[2].ended(); });
  CHECK(process.channels[0].ended());
  CHECK(process.channels[1].ended());
  (void)rig.wanted(6);
  rig.sent.pop_back();
  PeerEnd passed = rig.passed(5);
  rig.hear_facts(passed, *owned);
  passed.say(attached());
  rig.until([&] { return owned->served(); });
  CHECK(rig.sent.size() == 1);
  rig.finder->claimed(7_c, ClaimOutcome::owner);
  PeerEnd last = rig.passed(7);
  rig.hear_facts(last, *unanswered);
  CHECK_FALSE(granted->result);
}

TEST_CASE("a process that will not have the channel is not waited for") {
  FinderRig rig;
  rig.register_client(guid(1), kProcess);
  rig.finder->serving(1_c, kProcess, [](const shm::UniqueFd&) { return true; });
  auto client = rig.connect(5);
  rig.finder->claimed(5_c, ClaimOutcome::owner);  // before it has begun: nobody's
  client->start();
  rig.finder->claimed(5_c, ClaimOutcome::owner);
  const uint64_t began = uv_now(&rig.loop);
  rig.until([&] { return !rig.sent.empty(); });
  CHECK(uv_now(&rig.loop) - began < PeerFinder::kPassMs / 2);
  PeerEnd peer = rig.passed(5);
  rig.hear_facts(peer, *client);
  // The time that the first had is not the second's.
  uint64_t waited = 0;
  shm::Timer later(rig.loop, [&] { waited = uv_now(&rig.loop); });
  later.start(PeerFinder::kPassMs + 100);
  rig.until([&] { return waited != 0; });
  CHECK(rig.sent.size() == 1);
  CHECK_FALSE(peer.ended());
}

TEST_CASE("another worker's channel goes to the process it is for, or back") {
  FinderRig rig;
  Served process;
  process.serve(rig, 1, kProcess);
  auto [ours, theirs] = pair_of_sockets();
  rig.finder->pass_to(41, kProcess, std::move(ours));
  REQUIRE(process.channels.size() == 1);
  CHECK(rig.sent.empty());
  process.channels[0].say(attached());
  CHECK(theirs.pending() == attached().size());

  const auto not_passed = [&](uint64_t sequence) {
    CHECK(rig.last<message::NotPassed>().sequence == sequence);
  };
  auto [second, end] = pair_of_sockets();
  rig.finder->pass_to(42, kProcess + 1, std::move(second));
  not_passed(42);
  CHECK(end.ended());
  rig.finder->pass_to(43, kProcess, shm::UniqueFd());  // it was lost on the way
  not_passed(43);
  // A channel that breaks over it and ends.
  rig.finder->serving(1_c, kProcess, [&](const shm::UniqueFd&) {
    rig.finder->ended(1_c);
    return true;
  });
  rig.finder->pass_to(44, kProcess, std::move(pair_of_sockets().first));
  rig.finder->pass_to(45, kProcess, std::move(pair_of_sockets().first));
  not_passed(45);
  CHECK(rig.sent.size() == 3);
}

TEST_CASE("a channel that has gone to another process takes channels for that") {
  FinderRig rig;
  Served process;
  process.serve(rig, 1, kProcess);
  process.serve(rig, 1, kProcess + 1);
  rig.finder->pass_to(1, kProcess, std::move(pair_of_sockets().first));
  CHECK(rig.sent.size() == 1);
  rig.finder->pass_to(2, kProcess + 1, std::move(pair_of_sockets().first));
  CHECK(process.channels.size() == 1);
}
