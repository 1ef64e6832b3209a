// SPDX-License-Identifier: MIT
// What smbdirectctl shows of memory shared with smbd: how far it has come, or why there is none.
#include <algorithm>
#include <array>
#include <cerrno>

#include <doctest/doctest.h>

#include "shm/area_state.h"
#include "smbd_area_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;

TEST_CASE("what is shown of it: how far it has come, and why the last large request went without") {
  using enum shm::AreaState;
  Area rig;
  const auto shown = [&] { return rig.exchange->area_state(); };
  CHECK(shown() == unasked);
  rig.ask();
  CHECK(shown() == asked);
  rig.attach();
  CHECK(shown() == ready);
  Bytes client(700'000);
  const auto at = rig.expose(client, Access::remote_write);
  uint64_t id = 2;
  const auto after = [&](uint32_t length, uint32_t tree) {
    Bytes pdu = read_of(id++, length, {at});
    put(pdu, 36, tree, 4);
    rig.from_client(pdu);
    rig.settle();
    return shown();
  };
  CHECK(after(kThreshold - 1, kTree) == ready);  // it says nothing of large ones
  CHECK(after(kThreshold, kTree) == no_share);
  rig.say(2, kTree, kSession);
  rig.say(3, kTree + 1, kSession);
  CHECK(after(kThreshold, kTree + 1) == misplaced);
  CHECK(after(700'000, kTree) == used);
  CHECK(after(700'000, kTree) == full);
  rig.say(4, kTree + 1, kSession);
  CHECK(after(kThreshold, kTree + 1) == no_share);
  CHECK(after(kThreshold, kTree) == used);
  rig.module.reset();
  rig.wait(0);
  CHECK(shown() == lost);
}

TEST_CASE("what is shown where there is none") {
  using enum shm::AreaState;
  const auto refused = [](int error) {
    Area rig;
    rig.ask();
    rig.exchange->module_answered(shm::fail("the supervisor's connection to smbd's module", error));
    return rig.exchange->area_state();
  };
  CHECK(refused(ENOENT) == no_module);
  CHECK(refused(EHOSTUNREACH) == other_host);
  CHECK(refused(EPERM) == unreachable);
  CHECK(refused(0) == asked);  // its supervisor is gone; it is asked again
  {
    Area rig;
    rig.ask();
    rig.link();
    rig.say(1, SMBDIRECT_LINK_VERSION + 1);
    CHECK(rig.exchange->area_state() == other_release);
  }
  {
    Area rig;
    rig.area_budget.set_limit(kAreaBytes - 1);
    rig.ask();
    rig.link();
    rig.say(1, SMBDIRECT_LINK_VERSION);
    CHECK(rig.exchange->area_state() == no_memory);
  }
  CHECK(SmbdExchangeRig().shown_without_areas() == disabled);
}

TEST_CASE("a client that signs or encrypts has no use for it, which is shown until something else is") {
  using enum shm::AreaState;
  const auto shown_after = [](const Bytes& pdu) {
    Area rig;
    rig.from_client(pdu);
    rig.settle();
    REQUIRE(rig.broken.empty());
    const auto shown = rig.exchange->area_state();
    rig.smbd.heard.clear();
    rig.ask();
    CHECK(rig.exchange->area_state() == asked);
    return shown;
  };
  const auto read = [](uint32_t length, uint32_t flags) {
    return smb2_test::read_request({.message_id = 2, .flags = flags, .credit_charge = 16},
                                   {.length = length});
  };
  CHECK(shown_after(read(kThreshold, smb2_test::kSigned)) == is_signed);
  CHECK(shown_after(read(kThreshold - 1, smb2_test::kSigned)) == unasked);
  CHECK(shown_after(read(kThreshold, 0)) == unasked);
  Bytes opaque = pattern(200, 1);
  std::ranges::copy(std::to_array({std::byte{0xfd}, std::byte{'S'}, std::byte{'M'}, std::byte{'B'}}),
                    opaque.begin());
  CHECK(shown_after(opaque) == is_encrypted);
  CHECK(shown_after(smb2_test::plain(3, {.message_id = 50, .flags = smb2_test::kSigned}, 8)) == unasked);
}
