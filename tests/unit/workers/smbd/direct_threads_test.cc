// SPDX-License-Identifier: MIT
// READs and WRITEs of the open file itself that wait for a disk, in threads: what waits for them, what does
// not, and what becomes of them when their session ends.
#include "direct_waiting.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

TEST_CASE("a WRITE that waits for a thread is answered when it is done") {
  Waiting waiting;
  if (!waiting.rig.waits()) return;
  waiting.threads->let_go();
  waiting.rig.until([&] { return waiting.rig.client_side.complete == 1 && waiting.rig.queued > 0; });
  const Bytes answer = waiting.rig.answer();
  CHECK(get(answer, 24, 8) == 4);
  CHECK(get(answer, 68, 4) == 10'000);
  CHECK(waiting.rig.on_disk(0, 10'000) == waiting.data);
  CHECK(waiting.rig.unheard());
  CHECK(waiting.rig.held() == 0);
}

TEST_CASE("while it waits others go on, but what is about its file waits for it, and all behind that") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  const Bytes other = rig.read_of(5, 0, 10, DirectIoRig::kOther);
  rig.from_client(other);
  rig.settle();
  CHECK(rig.heard() == Messages{other});
  rig.smbd.heard.clear();

  Bytes waits;
  SUBCASE("CLOSE") { waits = DirectIoRig::about_file(smb2_test::kClose, 6); }
  SUBCASE("FLUSH") { waits = DirectIoRig::about_file(7, 6); }
  SUBCASE("OPLOCK_BREAK") { waits = smb2_test::plain(18, {.message_id = 6}, 36); }
  SUBCASE("LOGOFF") { waits = smb2_test::plain(2, {.message_id = 6}); }
  SUBCASE("a compound") {
    waits = smb2_test::chain({smb2_test::plain(smb2_test::kClose, {.message_id = 6}, 24),
                              smb2_test::plain(smb2_test::kClose, {.message_id = 7}, 24)});
  }
  const Bytes behind = smb2_test::plain(smb2_test::kQueryInfo, {.message_id = 8}, 40);
  rig.from_client(waits);
  rig.from_client(behind);
  rig.settle();
  CHECK(rig.unheard());
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 2; });
  CHECK(rig.heard() == Messages{waits, behind});
  REQUIRE(rig.client_side.complete == 1);
  CHECK(rig.on_disk(0, 10'000) == waiting.data);
}

TEST_CASE("a right that is taken back before the thread comes to it: smbd does it, before what has waited") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  const Bytes close = DirectIoRig::about_file(smb2_test::kClose, 6);
  rig.from_client(close);
  rig.settle();
  rig.revoke();
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 2; });
  CHECK(rig.heard() == Messages{waiting.slow(4), close});
  CHECK(rig.on_disk(8, 10'000) == rig.part(8, 10'000));
  CHECK(rig.client_side.complete == 0);
}

TEST_CASE("smbd's process dies before the thread comes to it: it is not done") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  rig.smbd_dies();
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 1; });
  CHECK(rig.on_disk(8, 10'000) == rig.part(8, 10'000));
  CHECK(rig.client_side.complete == 0);
}

TEST_CASE("its data, fetched from the client's memory, is there for smbd too") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  Bytes memory = pattern(600'000, 3);
  Bytes request = rig.write_from(5, 0, 600'000, {rig.expose(memory, Access::remote_read)});
  rig.from_client(request);
  rig.settle();
  REQUIRE(rig.threads->under_way() == 2);
  rig.revoke();
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 2; });
  Bytes written = smb2_test::write_request({.message_id = 5, .credit_charge = 10},
                                           {.offset = 0, .file = DirectIoRig::kFile, .data = memory});
  // Of two threads, either may be first.
  CHECK((rig.heard() == Messages{waiting.slow(4), written} ||
         rig.heard() == Messages{written, waiting.slow(4)}));
}

TEST_CASE("what has come of a WRITE is written while the rest is fetched, and then the rest") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  CHECK(rig.client_side.complete == 0);
  ahead.threads->let_go();
  while (rig.threads->under_way() > 0) uv_run(&rig.its_loop(), UV_RUN_ONCE);
  CHECK(rig.on_disk(0, 10'000) == Bytes(ahead.memory.begin(), ahead.memory.begin() + 10'000));
  CHECK(rig.on_disk(0, Ahead::kLarge) != ahead.memory);  // it was part of it
  rig.until([&] { return rig.client_side.complete == 1; });
  const Bytes answer = rig.answer();
  CHECK(get(answer, 24, 8) == 5);
  CHECK(get(answer, 68, 4) == Ahead::kLarge);
  CHECK(rig.on_disk(0, Ahead::kLarge) == ahead.memory);
  CHECK(rig.unheard());
  CHECK(rig.held() == 0);
}

TEST_CASE("... and what comes behind it on its file waits") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  const Bytes close = DirectIoRig::about_file(smb2_test::kClose, 6);
  rig.from_client(close);
  rig.settle();
  CHECK(rig.unheard());
  ahead.threads->let_go();
  rig.until([&] { return rig.heard().size() == 1; });
  CHECK(rig.heard() == Messages{close});
  CHECK(rig.on_disk(0, Ahead::kLarge) == ahead.memory);
}

TEST_CASE("... and if the right goes meanwhile smbd does all of it, when the thread is done") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  rig.revoke();
  rig.settle();
  CHECK(rig.unheard());
  ahead.threads->let_go();
  rig.until([&] { return rig.heard().size() == 1; });
  CHECK(rig.heard() == Messages{smb2_test::write_request(
                           {.message_id = 5, .credit_charge = DirectIoRig::charge(Ahead::kLarge)},
                           {.offset = 0, .file = DirectIoRig::kFile, .data = ahead.memory})});
  CHECK(rig.client_side.complete == 0);
  CHECK(rig.on_disk(16, 10'000) == rig.part(16, 10'000));
}

TEST_CASE("... and nothing of it is written when the session ends before the thread comes to it") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  rig.client.reset();
  rig.server.reset();
  rig.exchange.reset();
  ahead.threads->let_go();
  while (rig.threads->under_way() != 0 || !ahead.threads->gone()) uv_run(&rig.its_loop(), UV_RUN_ONCE);
  CHECK(rig.on_disk(16, 10'000) == rig.part(16, 10'000));
}

TEST_CASE("no room among the threads: smbd does it") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  uint64_t id = 5;
  while (rig.threads->room()) {
    REQUIRE(id < 100);
    rig.from_client(waiting.slow(id++));
    rig.settle();
  }
  REQUIRE(rig.unheard());
  rig.from_client(waiting.slow(id));
  rig.settle();
  CHECK(rig.heard() == Messages{waiting.slow(id)});
}

TEST_CASE("the client or smbd goes while it waits for a thread: it is not done, and nobody is told") {
  bool begins = false;
  SUBCASE("the session") {}
  SUBCASE("the stream") { begins = true; }
  auto waiting = std::make_unique<Waiting>();
  if (!waiting->rig.waits()) return;
  if (begins) {
    waiting->rig.exchange->detached();
    waiting->threads->let_go();
    waiting->rig.until([&] { return waiting->rig.threads->under_way() == 0; });
    CHECK(waiting->rig.client_side.complete == 0);
    CHECK(waiting->rig.unheard());
    CHECK(waiting->rig.held() == 0);
    CHECK(waiting->rig.on_disk(0, 10'000) == waiting->rig.part(0, 10'000));
    return;
  }
  waiting->rig.client.reset();
  waiting->rig.server.reset();
  waiting->rig.exchange.reset();
  CHECK(waiting->rig.held() == 0);  // counted elsewhere
  waiting->threads->let_go();
  while (waiting->rig.threads->under_way() != 0 || !waiting->threads->gone())
    uv_run(&waiting->rig.its_loop(), UV_RUN_ONCE);
  CHECK(waiting->rig.on_disk(0, 10'000) == waiting->rig.part(0, 10'000));
}

TEST_CASE("what reads cannot find in memory, and writes on a file system that cannot say what would wait") {
  DirectIoRig rig(kDisk);
  rig.write_first(3);
  REQUIRE(::fsync(rig.named.fd.get()) == 0);
  REQUIRE(::posix_fadvise(rig.named.fd.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  Bytes into(900'000);
  rig.from_client(rig.read_into(4, 1'000, 900'000, {rig.expose(into, Access::remote_write)}));
  rig.until([&] { return rig.client_side.complete == 1; });
  CHECK(get(rig.answer(), 72, 4) == 900'000);
  CHECK(into == rig.part(1'000, 900'000));
  REQUIRE(::posix_fadvise(rig.named.fd.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  rig.from_client(rig.read_of(30, 2'000'000, 600'000));
  rig.until([&] { return rig.client_side.complete == 1; });
  const Bytes answer = rig.answer();
  CHECK(Bytes(answer.begin() + 80, answer.end()) == rig.part(2'000'000, 600'000));
  const Bytes data = pattern(900'000, 2);
  Bytes memory = data;
  rig.from_client(rig.write_from(50, 500, 900'000, {rig.expose(memory, Access::remote_read)}));
  rig.until([&] { return rig.client_side.complete == 1; });
  CHECK(get(rig.answer(), 68, 4) == 900'000);
  CHECK(rig.on_disk(500, 900'000) == data);
  CHECK(rig.unheard());
  CHECK(rig.counted().direct_reads == 2);
  CHECK(rig.counted().direct_writes == 1);
}
