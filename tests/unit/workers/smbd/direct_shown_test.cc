// SPDX-License-Identifier: MIT
// When a session asks for open files, what it counts of them, and what smbdirectctl shows.
#include <cerrno>

#include <doctest/doctest.h>

#include "direct_rig.h"
#include "smbd_area_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

namespace {

/// smbd answers a CREATE.
void create(SmbdExchangeRig& rig, uint64_t id, uint32_t status = 0, uint32_t flags = 0) {
  rig.from_client(smb2_test::plain(smb2_test::kCreate, {.message_id = id, .flags = flags}, 60));
  rig.settle();
  rig.smbd.answer(smb2_test::plain(
      smb2_test::kCreate, {.message_id = id, .flags = smb2_test::kResponse | flags, .status = status}, 92));
  rig.settle();
  REQUIRE(rig.broken.empty());
}

}  // namespace

TEST_CASE("the link is asked for when smbd has opened a file for a plain session") {
  Area rig(kAreaBytes, true);
  CHECK(rig.exchange->direct_state() == shm::DirectState::unasked);
  create(rig, 2, 0xC0000034);
  create(rig, 3, 0, smb2_test::kSigned);
  CHECK(rig.asked == 0);
  create(rig, 4);
  CHECK(rig.asked == 1);
  CHECK(rig.exchange->direct_state() == shm::DirectState::asked);
  CHECK(rig.exchange->area_state() == shm::AreaState::unasked);
  create(rig, 5);
  CHECK(rig.asked == 1);
}

TEST_CASE("one link serves both: memory is made when a request could use it, and not before") {
  Area rig(kAreaBytes, true);
  create(rig, 2);
  rig.link();
  rig.say(1, SMBDIRECT_LINK_VERSION);
  Bytes packet(SMBDIRECT_LINK_SIZE);
  REQUIRE(test::receive_with(rig.module.get(), packet, MSG_DONTWAIT));
  CHECK(get(packet, 0, 4) == SMBDIRECT_LINK_DIRECT);
  CHECK_FALSE(test::receive_with(rig.module.get(), packet, MSG_DONTWAIT));
  rig.say(2, kTree, kSession);
  rig.smbd.heard.clear();
  rig.client_side = {};
  rig.ask();
  CHECK(rig.asked == 1);
  const auto area = rig.heard();
  REQUIRE(area);
  CHECK(get(area->first, 0, 4) == SMBDIRECT_LINK_AREA);
  std::copy_n(area->first.begin() + 16, 16, rig.token.begin());
  SUBCASE("it is taken") {
    rig.say(6);
    CHECK(rig.exchange->area_state() == shm::AreaState::ready);
  }
  SUBCASE("it is not: open files go on without it") {
    rig.say(6, 0xC000000D);
    CHECK(rig.exchange->area_state() == shm::AreaState::lost);
    CHECK_FALSE(rig.gone());
    CHECK(rig.exchange->direct_state() == shm::DirectState::asked);
  }
}

TEST_CASE("a module without direct I/O keeps the link for memory, or loses it") {
  SUBCASE("with memory") {
    Area rig(kAreaBytes, true);
    create(rig, 2);
    rig.link();
    rig.say(1, SMBDIRECT_LINK_VERSION);
    rig.say(SMBDIRECT_LINK_DIRECT_NOT);
    CHECK(rig.exchange->direct_state() == shm::DirectState::not_here);
    Bytes packet(SMBDIRECT_LINK_SIZE);
    CHECK(test::receive_with(rig.module.get(), packet, MSG_DONTWAIT));  // DIRECT
    CHECK_FALSE(rig.gone());
  }
  SUBCASE("without") {
    DirectRig rig;
    rig.greet();
    rig.say(DirectRig::packet(SMBDIRECT_LINK_DIRECT_NOT, 0, "smbdirect:direct = no"));
    CHECK(rig.gone());
    CHECK(rig.shown() == shm::DirectState::not_here);
  }
}

TEST_CASE("what is shown of open files follows the link, and then each request that could use one") {
  using enum shm::DirectState;
  DirectRig rig;
  CHECK(rig.shown() == unasked);
  rig.attach();
  Bytes tree = DirectRig::packet(SMBDIRECT_LINK_TREE, DirectRig::kTree, "data");
  put(tree, SMBDIRECT_LINK_AT_SESSION, DirectRig::kSession, 8);
  rig.say(tree);
  const auto after = [&](uint8_t file) {
    if (const auto found = rig.files.find(DirectRig::request(file)))
      rig.files.did(DirectRig::request(file), 7);
    return rig.shown();
  };
  CHECK(after(1) == not_granted);
  rig.grant_file(0, 1);
  CHECK(after(1) == used);
  rig.set(0, 0);
  rig.say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 0, 0));
  CHECK(after(1) == revoked);
  rig.set(0, DirectRig::kBoth);
  rig.say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 0, DirectRig::kBoth));
  CHECK(after(1) == used);
  rig.say(DirectRig::packet(SMBDIRECT_LINK_DIRECT_REFUSED, 0, "data: another module reads and writes"));
  CHECK(after(2) == share_refused);
  CHECK(after(1) == used);
  rig.files.did(DirectRig::request(1, smb2::Command::write), 100);
  const Counters counted = rig.server->counters();
  CHECK(counted.direct_reads == 3);
  CHECK(counted.direct_read_bytes == 21);
  CHECK(counted.direct_writes == 1);
  CHECK(counted.direct_write_bytes == 100);
  CHECK(counted.direct_grants == 1);
  CHECK(counted.direct_revocations == 1);
}

TEST_CASE("what is shown where no files are granted") {
  using enum shm::DirectState;
  for (const auto& [error, state] : {std::pair{ENOENT, no_module}, std::pair{EHOSTUNREACH, other_host},
                                     std::pair{EPERM, unreachable}, std::pair{0, asked}}) {
    DirectRig rig;
    rig.files.opened();
    rig.link.answered(shm::fail("the supervisor's connection to smbd's module", error));
    CHECK(rig.shown() == state);
  }
  DirectRig rig;
  rig.files.opened();
  shm::UniqueFd ours;
  std::tie(rig.module, ours) = test::socket_pair(SOCK_SEQPACKET);
  rig.link.answered(std::move(ours));
  rig.say(DirectRig::packet(SMBDIRECT_LINK_HELLO, SMBDIRECT_LINK_VERSION + 1));
  CHECK(rig.shown() == other_release);
  CHECK(rig.exchange->direct_state() == disabled);  // of its own exchange
}

TEST_CASE("a client that signs or encrypts is shown as one, until a file is opened for it") {
  using enum shm::DirectState;
  DirectRig rig;
  rig.files.passed_by(is_signed);
  CHECK(rig.shown() == is_signed);
  rig.files.passed_by(is_encrypted);
  CHECK(rig.shown() == is_signed);
  rig.files.opened();
  CHECK(rig.shown() == asked);
}
