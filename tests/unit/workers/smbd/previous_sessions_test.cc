// SPDX-License-Identifier: MIT
// A client that comes again has smbd end the session that it had (MS-SMB2 2.2.5, PreviousSessionId): not
// before the WRITEs of it that are in threads have ended, and none begins meanwhile.
#include "direct_io_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

constexpr uint64_t kBefore = DirectRig::kSession;

Bytes log_on(uint64_t id, uint64_t previous) {
  Bytes bytes = smb2_test::plain(smb2_test::kSessionSetup, {.message_id = id}, 24);
  put(bytes, 80, previous, 8);
  return bytes;
}

/// A WRITE of the session, as request 4, that waits for a thread.
struct Waiting {
  Waiting() {
    rig.write_first(3);
    threads.emplace(rig.its_loop());
    rig.from_client(rig.write_of(4, 0, data));
    rig.settle();
  }
  ~Waiting() {
    threads->let_go();
    rig.until([&] { return threads->gone(); });
  }
  void some_time() {
    for (int ms = 0; ms < 20; ++ms) rig.wait(7);
  }

  Bytes data = pattern(10'000, 8);
  DirectIoRig rig{kDisk};
  std::optional<DirectIoRig::BusyThreads> threads;
};

/// smbd has this and nothing else.
void only(DirectIoRig& rig, const Bytes& request) {
  rig.settle();
  CHECK(rig.heard() == Messages{request});
  rig.smbd.heard.clear();
}

}  // namespace

TEST_CASE("the log-on that ends a session waits for its WRITEs, and nothing behind it does") {
  Waiting waiting;
  if (!waiting.rig.waits()) return;
  DirectIoRig& rig = waiting.rig;
  const Bytes setup = log_on(5, kBefore);
  rig.from_client(setup);
  waiting.some_time();
  CHECK(rig.unheard());
  const Bytes other = smb2_test::plain(smb2_test::kQueryInfo, {.message_id = 6}, 40);
  rig.from_client(other);
  only(rig, other);
  rig.from_client(log_on(7, kBefore + 1));  // of somebody whose session has nothing under way
  only(rig, log_on(7, kBefore + 1));
  const Bytes late = rig.write_of(8, 100, waiting.data);
  rig.from_client(late);
  only(rig, late);
  waiting.some_time();
  CHECK(rig.unheard());
  waiting.threads->let_go();
  rig.until([&] { return rig.client_side.complete == 1; });  // the WRITE
  CHECK(rig.on_disk(0, 10'000) == waiting.data);
  waiting.some_time();
  only(rig, setup);
  CHECK(rig.held() == 0);
}

TEST_CASE("a READ in a thread is not waited for, and one that names no session waits for nothing") {
  DirectIoRig rig(kDisk);
  Bytes setup;
  bool reads = false;
  SUBCASE("a READ") {
    setup = log_on(5, kBefore);
    reads = true;
  }
  SUBCASE("none") { setup = log_on(5, 0); }
  rig.write_first(3);
  DirectIoRig::BusyThreads busy(rig.its_loop());
  if (reads) {
    REQUIRE(::fsync(rig.named.fd.get()) == 0);
    REQUIRE(::posix_fadvise(rig.named.fd.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    rig.from_client(rig.read_of(4, 0, 10));
  } else {
    rig.from_client(rig.write_of(4, 0, pattern(10, 1)));
  }
  rig.settle();
  if (!rig.waits()) {
    busy.let_go();
    rig.until([&] { return busy.gone(); });
    return;
  }
  rig.from_client(setup);
  only(rig, setup);
  busy.let_go();
  rig.until([&] { return busy.gone() && rig.client_side.complete == 1; });
}

TEST_CASE("from then on until smbd has answered, for good or bad, the session's WRITEs are smbd's") {
  DirectIoRig rig;
  rig.write_first(3);
  rig.from_client(log_on(4, kBefore));
  only(rig, log_on(4, kBefore));
  const Bytes other = rig.write_of(5, 0, pattern(8, 5));
  rig.from_client(other);
  only(rig, other);
  rig.smbd.answer(smb2_test::write_response({.message_id = 5}, 8));
  CHECK(get(rig.answer(), 24, 8) == 5);
  rig.from_client(rig.read_of(6, 0, 8));  // reading harms nobody
  CHECK(get(rig.answer(), 24, 8) == 6);

  uint64_t status = 0;
  SUBCASE("with success") {}
  SUBCASE("with another step") { status = 0xC0000016; }
  SUBCASE("with a refusal") { status = 0xC000006D; }
  Bytes waits =
      smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 4, .flags = smb2_test::kResponse | 0x2}, 9);
  put(waits, 8, 0x103, 4);  // STATUS_PENDING is no answer
  put(waits, 32, 77, 8);
  put(waits, 40, kBefore + 99, 8);  // the new session
  put(waits, 64, 9, 2);
  rig.smbd.answer(waits);
  (void)rig.answer();
  const Bytes again = rig.write_of(7, 0, pattern(8, 7));
  rig.from_client(again);
  only(rig, again);
  rig.smbd.answer(smb2_test::write_response({.message_id = 7}, 8));
  (void)rig.answer();

  Bytes answer = waits;
  put(answer, 8, status, 4);
  rig.smbd.answer(answer);
  (void)rig.answer();
  CHECK(rig.directs.ending->empty());
  rig.from_client(rig.write_of(8, 0, pattern(8, 8)));
  CHECK(get(rig.answer(), 24, 8) == 8);
  CHECK(rig.unheard());
  CHECK(rig.on_disk(0, 8) == pattern(8, 8));
}

TEST_CASE("who names a session and goes holds up nobody any more") {
  bool waits = false;
  SUBCASE("while smbd has it") {}
  SUBCASE("while it waits") { waits = true; }
  std::optional<Waiting> waiting;
  std::optional<DirectIoRig> plain;
  if (waits) {
    waiting.emplace();
  } else {
    plain.emplace();
  }
  DirectIoRig& rig = waits ? waiting->rig : *plain;
  rig.from_client(log_on(5, kBefore));
  rig.settle();
  CHECK(rig.unheard() == waits);
  CHECK(rig.directs.ending->has(kBefore));
  rig.exchange->detached();
  CHECK(rig.held() == 0);
  rig.client.reset();
  rig.server.reset();
  rig.exchange.reset();
  CHECK(rig.directs.ending->empty());
  if (!waits) return;
  waiting->threads->let_go();
  while (rig.threads->under_way() != 0 || !waiting->threads->gone()) uv_run(&rig.its_loop(), UV_RUN_ONCE);
}
