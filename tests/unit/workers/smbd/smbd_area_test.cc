// SPDX-License-Identifier: MIT
// READs and WRITEs through memory shared with smbd: a module and an smbd that the test plays, honest and not.
#include <algorithm>
#include <array>
#include <optional>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "smbd_area_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

namespace {

Bytes carried(uint64_t id, uint32_t total) {
  Bytes bytes = smb2_test::header(smb2_test::kIoctl, {.message_id = id, .flags = smb2_test::kResponse});
  bytes.resize(124);
  put(bytes, 64, 49, 2);
  put(bytes, 96, 112, 4);
  put(bytes, 100, 12, 4);
  put(bytes, 120, total, 4);
  return bytes;
}

/// Of a carrier: the offset in the area.
uint64_t place_of(const Bytes& carrier) {
  REQUIRE(carrier.size() == 176);
  REQUIRE(get(carrier, 12, 2) == smb2_test::kIoctl);
  return get(carrier, 152, 8);
}

}  // namespace

TEST_CASE("a READ: smbd puts the data into the area, RDMA takes it from there, and the place is free again") {
  Area rig;
  rig.use();
  for (uint64_t id = 2; id < 12; ++id) {
    Bytes small(10), large(600'000);
    const std::vector memory{rig.expose(small, Access::remote_write),
                             rig.expose(large, Access::remote_write)};
    rig.from_client(read_of(id, 600'010, memory, 2));
    rig.settle();
    REQUIRE(rig.smbd.heard.size() == 1);
    const uint64_t place = place_of(rig.smbd.heard[0]);
    const Bytes data = pattern(599'000, uint32_t(id));
    std::ranges::copy(data, rig.memory + place);
    rig.smbd.answer(carried(id, uint32_t(data.size())));
    rig.settle();
    REQUIRE(rig.broken.empty());
    const Bytes written = smb2_test::operator+(small, large);
    CHECK(std::equal(data.begin(), data.end(), written.begin()));
    REQUIRE(rig.client_side.complete == 1);
    CHECK(get(rig.client_side.messages[0], 72, 4) == data.size());
    CHECK(rig.client_side.invalidated == std::vector<uint32_t>{memory[0].token});
    rig.client_side = {};
    rig.smbd.heard.clear();
  }
  CHECK(rig.server->counters().area_reads == 10);
  CHECK(rig.server->counters().area_read_bytes == 5'990'000);
}

TEST_CASE("a WRITE: the data is in the area before smbd hears of it") {
  Area rig;
  rig.use();
  Bytes data = pattern(700'000, 5);
  const auto at = rig.expose(data, Access::remote_read);
  rig.from_client(smb2_test::write_request({.message_id = 2, .credit_charge = 16},
                                           {.length = 700'000, .channel = 1, .memory = {at}}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  const uint64_t place = place_of(rig.smbd.heard[0]);
  CHECK(std::equal(data.begin(), data.end(), rig.memory + place));
  rig.smbd.answer(carried(2, 700'000));
  rig.settle();
  REQUIRE(rig.client_side.complete == 1);
  CHECK(get(rig.client_side.messages[0], 12, 2) == smb2_test::kWrite);
  CHECK(get(rig.client_side.messages[0], 68, 4) == 700'000);
  CHECK(rig.server->counters().area_write_bytes == 700'000);
  CHECK(rig.held() == 0);
}

TEST_CASE("where there is no room it goes inline, and uses the area again when there is") {
  Area rig;
  rig.use();
  Bytes client(700'000);
  const auto at = rig.expose(client, Access::remote_write);
  rig.from_client(read_of(2, 700'000, {at}));
  rig.from_client(read_of(3, 700'000, {at}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 2);
  (void)place_of(rig.smbd.heard[0]);
  CHECK(get(rig.smbd.heard[1], 12, 2) == smb2_test::kRead);
  rig.smbd.answer(carried(2, 0xC0000011));
  rig.smbd.answer(smb2_test::read_response({.message_id = 3}, pattern(700'000, 1)));
  rig.settle();
  CHECK(client == pattern(700'000, 1));
  rig.smbd.heard.clear();
  rig.from_client(read_of(4, 700'000, {at}));
  rig.settle();
  (void)place_of(rig.smbd.heard.at(0));
}

TEST_CASE("what stays inline: below the threshold, other trees, other sessions, trees that are gone") {
  Area rig;
  rig.use();
  Bytes client(kThreshold);
  const auto at = rig.expose(client, Access::remote_write);
  uint64_t id = 2;
  const auto by_area = [&](uint32_t length, uint32_t tree, uint64_t session) {
    Bytes pdu = read_of(id, length, {at});
    put(pdu, 36, tree, 4);
    put(pdu, 40, session, 8);
    INFO("request " << id << " broken " << rig.broken);
    rig.from_client(pdu);
    rig.settle();
    REQUIRE(rig.smbd.heard.size() == 1);
    const bool carrier = get(rig.smbd.heard[0], 12, 2) == smb2_test::kIoctl;
    rig.smbd.heard.clear();
    rig.smbd.answer(smb2_test::error_response(carrier ? smb2_test::kIoctl : smb2_test::kRead,
                                              {.message_id = id++, .status = 0xC0000128}));
    rig.settle();
    return carrier;
  };
  CHECK(by_area(kThreshold, kTree, kSession));
  CHECK_FALSE(by_area(kThreshold - 1, kTree, kSession));
  CHECK_FALSE(by_area(kThreshold, kTree + 1, kSession));
  CHECK_FALSE(by_area(kThreshold, kTree, kSession + 1));
  rig.say(4, kTree, kSession);
  CHECK_FALSE(by_area(kThreshold, kTree, kSession));
  rig.say(2, kTree + 1, kSession);
  CHECK(by_area(kThreshold, kTree + 1, kSession));
  CHECK(rig.asked == 1);
}

TEST_CASE("no module: asked once, and again after another tree connect") {
  Area rig;
  rig.ask();
  CHECK(rig.asked == 1);
  rig.exchange->module_answered(shm::fail("none"));
  rig.ask();
  CHECK(rig.asked == 1);
  rig.from_client(smb2_test::plain(3, {.message_id = 50}, 8));
  rig.settle();
  Bytes connected = smb2_test::plain(3, {.message_id = 50, .flags = smb2_test::kResponse}, 16);
  rig.smbd.answer(connected);
  rig.settle();
  rig.smbd.heard.clear();
  rig.client_side = {};
  rig.ask();
  CHECK(rig.asked == 2);
  CHECK(rig.broken.empty());
}

TEST_CASE("where nobody can be asked it is tried again soon") {
  Area rig;
  rig.cannot_ask = 2;
  rig.ask();
  rig.ask();
  CHECK(rig.asked == 1);
  rig.links.unasked_ms = 0;
  rig.ask();
  CHECK(rig.asked == 2);
  rig.ask();
  CHECK(rig.asked == 3);
  rig.ask();  // this one is to be answered
  CHECK(rig.asked == 3);
}

TEST_CASE("no answer, and a no, are asked for again after a while") {
  Area rig;
  rig.links.again_ms = 0;
  rig.ask();
  rig.ask();
  CHECK(rig.asked == 2);  // a supervisor that has died answers nothing
  rig.exchange->module_answered(shm::fail("none"));
  rig.ask();
  CHECK(rig.asked == 3);
  rig.attach();
  rig.ask();  // the tree is not announced
  CHECK(rig.asked == 3);
  shm::UniqueFd late, end;
  std::tie(late, end) = test::socket_pair(SOCK_SEQPACKET);
  rig.exchange->module_answered(std::move(end));  // to what was asked before
  char byte = 0;
  CHECK(::recv(late.get(), &byte, 1, MSG_DONTWAIT) == 0);
  CHECK_FALSE(rig.gone());
  CHECK(rig.broken.empty());
}

TEST_CASE("a module that lies or dies costs the area, and with requests under way the connection") {
  for (const bool under_way : {false, true}) {
    for (int lie = 0; lie < 7; ++lie) {
      INFO("lie " << lie << (under_way ? ", under way" : ""));
      Area rig;
      rig.use();
      Bytes client(kThreshold);
      const auto at = rig.expose(client, Access::remote_write);
      if (under_way) {
        rig.from_client(read_of(2, kThreshold, {at}));
        rig.settle();
        (void)place_of(rig.smbd.heard.at(0));
        rig.smbd.heard.clear();
      }
      if (lie == 0) {
        rig.module.reset();
        rig.wait(0);
      } else if (lie == 1) {
        REQUIRE(::send(rig.module.get(), "short", 5, MSG_NOSIGNAL) == 5);
        rig.wait(0);
      } else if (lie == 2) {
        const Bytes large(300);
        REQUIRE(::send(rig.module.get(), large.data(), large.size(), MSG_NOSIGNAL) == 300);
        rig.wait(0);
      } else {
        constexpr uint32_t kWrong[] = {1, 5, 6, 77};  // HELLO again, what workers say, added again, nothing
        rig.say(kWrong[lie - 3]);
      }
      CHECK((lie == 0 || rig.gone()));
      CHECK(rig.broken.empty() == !under_way);
      if (under_way) continue;
      rig.from_client(read_of(3, kThreshold, {at}));  // as always
      rig.settle();
      CHECK(get(rig.smbd.heard.at(0), 12, 2) == smb2_test::kRead);
    }
  }
}

TEST_CASE(
    "no memory for an area, a module of another version, one that does not take it, one that says nothing") {
  for (int what = 0; what < 4; ++what) {
    INFO("what " << what);
    Area rig;
    if (what == 0) rig.area_budget.set_limit(kAreaBytes - 1);
    rig.ask();
    if (what < 2) {
      rig.link();
      rig.say(1, what == 0 ? SMBDIRECT_LINK_VERSION : SMBDIRECT_LINK_VERSION + 1);
    } else if (what == 2) {
      rig.link();
      rig.say(1, SMBDIRECT_LINK_VERSION);
      auto area = rig.heard();
      REQUIRE(area);
      std::copy_n(area->first.begin() + 16, 16, rig.token.begin());
      rig.say(6, 0xC000000D);
    } else {
      rig.link();
    }
    CHECK(rig.gone() == (what < 3));
    Bytes client(kThreshold);
    const auto at = rig.expose(client, Access::remote_write);
    rig.from_client(read_of(3, kThreshold, {at}));
    rig.settle();
    CHECK(get(rig.smbd.heard.at(0), 12, 2) == smb2_test::kRead);
    CHECK(rig.broken.empty());
    CHECK(rig.area_budget.used() == 0);
  }
}

TEST_CASE("the place of a cancelled READ is not used again") {
  Area rig;
  rig.use();
  Bytes into(600'000);
  const auto at = rig.expose(into, Access::remote_write);
  const auto by_area = [&](uint64_t id) {
    rig.from_client(read_of(id, 600'000, {at}));
    rig.settle();
    const bool carrier = get(rig.smbd.heard.at(0), 12, 2) == smb2_test::kIoctl;
    rig.smbd.heard.clear();
    rig.smbd.answer(smb2_test::error_response(carrier ? smb2_test::kIoctl : smb2_test::kRead,
                                              {.message_id = id, .status = smb2_test::kCancelled}));
    rig.settle();
    CHECK(rig.broken.empty());
    return carrier;
  };
  CHECK(by_area(2));
  CHECK_FALSE(by_area(3));  // more than half of the area is gone
  // Another area has all of its own.
  rig.module.reset();
  rig.wait(0);
  rig.links.again_ms = 0;
  CHECK_FALSE(by_area(4));
  REQUIRE(rig.asked == 2);
  rig.attach();
  rig.say(2, kTree, kSession);
  CHECK(by_area(5));
}

TEST_CASE("an smbd that counts more than was asked for is not believed") {
  Area rig;
  rig.use();
  Bytes client(kThreshold);
  const auto at = rig.expose(client, Access::remote_write);
  rig.from_client(read_of(2, kThreshold, {at}));
  rig.settle();
  rig.smbd.answer(carried(2, kThreshold + 1));
  rig.settle();
  CHECK_FALSE(rig.broken.empty());
  CHECK(client == Bytes(kThreshold));
}

TEST_CASE("the session ends with requests under way, at smbd and on their way") {
  Area rig;
  rig.use();
  Bytes client(400'000), data = pattern(400'000, 1);
  const auto into = rig.expose(client, Access::remote_write);
  const auto from = rig.expose(data, Access::remote_read);
  rig.from_client(read_of(2, 400'000, {into}));
  rig.settle();
  rig.server_stands = true;
  rig.from_client(smb2_test::write_request({.message_id = 3, .credit_charge = 16},
                                           {.length = 400'000, .channel = 1, .memory = {from}}));
  rig.smbd.answer(carried(2, 400'000));
  rig.settle();
}  // the rig's end finds nothing held
