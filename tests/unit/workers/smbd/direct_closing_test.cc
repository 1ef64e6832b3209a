// SPDX-License-Identifier: MIT
// What closes a file waits, on its way to smbd, for the WRITEs of it that any channel has under way, and none
// begins any more: smbd gives the file to others before its module hears of it.
#include <ctime>

#include "direct_io_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

constexpr uint32_t kOtherRow = 7;
constexpr uint16_t kLogoff = 2, kTreeDisconnect = 4, kFlush = 7, kSequence = DirectRig::kSequence;

Bytes closes(const std::string& how, uint64_t id) {
  if (how == "CLOSE") return DirectIoRig::about_file(smb2_test::kClose, id);
  if (how == "compound")
    return smb2_test::chain(
        {DirectIoRig::about_file(kFlush, id), DirectIoRig::about_file(smb2_test::kClose, id + 1)});
  return smb2_test::plain(how == "LOGOFF" ? kLogoff : kTreeDisconnect, {.message_id = id});
}

void mark(DirectIoRig& rig, uint16_t count) {
  DirectRig::set_mark(rig.use.get(), 1, kOtherRow, count, kSequence);
}

}  // namespace

TEST_CASE("what closes a file waits for WRITEs of other channels, however new, and none begins") {
  for (const char* how : {"CLOSE", "TREE_DISCONNECT", "LOGOFF", "compound"}) {
    INFO(how);
    DirectIoRig rig;
    rig.write_first(3);
    mark(rig, 1);
    rig.from_client(closes(how, 4));
    for (int ms = 0; ms < 20; ++ms) rig.wait(1);
    CHECK(rig.unheard());
    const auto other = DirectUse::open(rig.use.get(), kOtherRow, {});
    REQUIRE(other);
    CHECK_FALSE((*other)->is_newest(1, 1, 0));
    CHECK_FALSE((*other)->is_newest(1, 1, kSequence));
    mark(rig, 0);
    rig.wait(1);
    REQUIRE(rig.heard().size() == 1);
    CHECK(get(rig.heard()[0], 24, 8) == 4);
    CHECK(rig.held() == 0);
  }
}

TEST_CASE("what a connection may not close does not wait, and harms nobody's") {
  DirectIoRig rig;
  rig.write_first(3);
  mark(rig, 1);
  // smbd does not know the session any more on this connection, and says so.
  rig.from_client(DirectIoRig::about_file(kFlush, 4));
  rig.settle();
  REQUIRE(rig.heard().size() == 1);
  Bytes deleted = smb2_test::error_response(kFlush, {.message_id = 4, .status = 0xC0000203});
  rig.smbd.answer(deleted);
  (void)rig.answer();
  rig.from_client(closes("CLOSE", 5));
  rig.settle();
  CHECK(rig.heard().size() == 2);
  const auto other = DirectUse::open(rig.use.get(), kOtherRow, {});
  REQUIRE(other);
  CHECK((*other)->is_newest(1, 1, 0));
}

TEST_CASE("what closes nothing that is granted does not wait") {
  DirectIoRig rig;
  rig.write_first(3);
  mark(rig, 1);
  Bytes other_file = DirectIoRig::about_file(smb2_test::kClose, 4);
  put(other_file, 72, 1, 8);
  Bytes other_tree = closes("TREE_DISCONNECT", 5), other_session = closes("LOGOFF", 6);
  put(other_tree, 36, 8, 4);
  put(other_session, 40, 1, 8);
  rig.from_client(other_file);
  rig.from_client(other_tree);
  rig.from_client(other_session);
  rig.from_client(DirectIoRig::about_file(kFlush, 7));
  rig.settle();
  CHECK(rig.heard().size() == 4);
}

TEST_CASE("what this channel has sent before the CLOSE is done here as always") {
  DirectIoRig rig(kDisk);
  rig.write_first(3);
  DirectIoRig::BusyThreads busy(rig.its_loop());
  rig.from_client(rig.write_of(4, 300, pattern(8, 4)));
  rig.settle();
  const bool waits = rig.waits();
  rig.from_client(closes("CLOSE", 5));
  rig.settle();
  CHECK(rig.unheard() == waits);
  busy.let_go();
  rig.until([&] { return !rig.heard().empty() && busy.gone(); });
  REQUIRE(rig.heard().size() == 1);
  CHECK(get(rig.heard()[0], 24, 8) == 5);
  CHECK(rig.on_disk(300, 8) == pattern(8, 4));
}

TEST_CASE("a mark that stays is not waited for for ever") {
  DirectIoRig rig;
  rig.write_first(3);
  mark(rig, 1);
  rig.from_client(closes("CLOSE", 4));
  for (int seconds = 0; seconds < 29; ++seconds) rig.wait(1'000);
  CHECK(rig.unheard());
  for (int seconds = 0; seconds < 3; ++seconds) rig.wait(1'000);
  INFO(rig.broken);
  REQUIRE(rig.heard().size() == 1);
  CHECK(rig.broken.empty());
}

TEST_CASE("a long compound that waits for WRITEs of other channels is not read again and again") {
  DirectIoRig rig;
  rig.write_first(3);
  mark(rig, 1);
  Messages all{closes("CLOSE", 4)};
  for (uint32_t id = 5; id < 60'000; ++id) {
    all.push_back(closes("TREE_DISCONNECT", id));
    put(all.back(), 36, id, 4);
  }
  rig.from_client(smb2_test::chain(all));
  rig.wait(1);
  CHECK(rig.unheard());
  const auto began = std::clock();  // of the processor: the rest is the test's
  for (int ms = 0; ms < 200; ++ms) rig.wait(1);
  const auto took_ms = (std::clock() - began) * 1000 / CLOCKS_PER_SEC;
  CHECK(rig.unheard());
  CHECK(took_ms < 500);
  mark(rig, 0);
  rig.wait(1);
  CHECK(rig.heard().size() == 1);
}

TEST_CASE("a CLOSE that smbd refuses: the rest is smbd's, nothing waits, and it can be closed") {
  DirectIoRig rig;
  rig.write_first(3);
  rig.from_client(closes("CLOSE", 4));
  rig.settle();
  rig.smbd.heard.clear();
  rig.smbd.answer(smb2_test::error_response(smb2_test::kClose, {.message_id = 4, .status = 0xC000000D}));
  (void)rig.answer();
  const Messages rest{rig.read_of(5, 0, 8), rig.write_of(6, 0, pattern(8, 6)), closes("CLOSE", 7)};
  for (const Bytes& one : rest) rig.from_client(one);
  rig.settle();
  CHECK(rig.heard() == rest);
  CHECK(rig.held() == 0);
}
