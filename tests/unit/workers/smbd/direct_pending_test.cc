// SPDX-License-Identifier: MIT
// A WRITE that takes its time in a thread: its client is told so, and other files of its are gone on with.
#include <sys/stat.h>

#include "direct_waiting.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

constexpr uint32_t kPending = 0x103, kAsync = 0x3;

/// The next answer to the client.
Bytes next(DirectIoRig& rig) {
  rig.until([&] { return rig.client_side.complete > 0; });
  return rig.answer();
}

void check_async(const Bytes& answer, uint32_t status) {
  CHECK(get(answer, 8, 4) == status);
  CHECK((get(answer, 16, 4) & kAsync) == kAsync);
  CHECK(get(answer, 24, 8) == 4);
  CHECK(get(answer, 32, 8) == 4);
}

}  // namespace

TEST_CASE("a WRITE that has been in a thread for a second: the client hears that it takes time, once") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  rig.wait(900);
  CHECK(rig.client_side.complete == 0);
  rig.wait(200);
  const Bytes interim = next(rig);
  check_async(interim, kPending);
  CHECK(interim.size() == 73);
  CHECK(get(interim, 14, 2) == 0);  // its credits come with the end
  rig.wait(5'000);
  CHECK(rig.client_side.complete == 0);
  waiting.threads->let_go();
  const Bytes answer = next(rig);
  check_async(answer, 0);
  CHECK(get(answer, 14, 2) > 0);
  CHECK(get(answer, 68, 4) == 10'000);
  CHECK(rig.unheard());
  CHECK(rig.held() == 0);
}

TEST_CASE("... and should smbd have to do it, its answer is as the client was told") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  rig.wait(1'100);
  check_async(next(rig), kPending);
  rig.revoke();
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 1; });
  Bytes answer = smb2_test::write_response({.message_id = 4}, 10'000);
  put(answer, 14, 7, 2);
  SUBCASE("at once") { rig.smbd.answer(answer); }
  SUBCASE("with an error") {
    answer = smb2_test::error_response(smb2_test::kWrite, {.message_id = 4, .status = 0xC000007F});
    rig.smbd.answer(answer);
  }
  SUBCASE("a byte at a time") {
    rig.smbd.at_a_time = 1;
    rig.smbd.answer(answer);
  }
  SUBCASE("after an interim response of its own") {
    Bytes own = smb2_test::interim_response(smb2_test::kWrite, {.message_id = 4});
    put(own, 32, 4, 8);
    rig.smbd.answer(own);
    check_async(next(rig), kPending);
    put(answer, 16, get(answer, 16, 4) | 2, 4);
    put(answer, 32, 4, 8);
    rig.smbd.answer(answer);
  }
  const Bytes passed = next(rig);
  check_async(passed, uint32_t(get(answer, 8, 4)));
  put(answer, 16, get(answer, 16, 4) | 2, 4);
  put(answer, 32, 4, 8);
  CHECK(passed == answer);
  CHECK(rig.held() == 0);
}

TEST_CASE("what waits for a file that hangs lets what is of others pass, but comes after what hangs") {
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  const Bytes flush = DirectIoRig::about_file(7, 5);
  rig.from_client(flush);
  const Bytes other = smb2_test::plain(smb2_test::kCreate, {.message_id = 6}, 57);
  rig.from_client(other);
  rig.settle();
  CHECK(rig.unheard());
  rig.wait(250);
  CHECK(rig.heard() == Messages{other});
  rig.smbd.heard.clear();
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == 1; });
  CHECK(rig.heard() == Messages{flush});
  CHECK(rig.on_disk(0, 10'000) == waiting.data);
}

TEST_CASE(
    "what is behind a WRITE that hangs with part of its data goes on, but what is about its file does not") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  const Bytes flush = DirectIoRig::about_file(7, 6);
  rig.from_client(flush);
  const Bytes other = smb2_test::plain(smb2_test::kCreate, {.message_id = 7}, 57);
  rig.from_client(other);
  rig.wait(150);
  CHECK(rig.unheard());
  rig.wait(100);
  CHECK(rig.heard() == Messages{other});
  const Bytes next_one = smb2_test::plain(smb2_test::kQueryInfo, {.message_id = 8}, 40);
  rig.from_client(next_one);
  rig.settle();
  CHECK(rig.heard() == Messages{other, next_one});
  rig.smbd.heard.clear();
  bool refused = false;
  SUBCASE("all of it is done") {}
  SUBCASE("smbd has to do it") {
    refused = true;
    rig.revoke();
  }
  ahead.threads->let_go();
  if (refused) {
    rig.until([&] { return rig.heard().size() == 2; });
    CHECK(rig.heard() == Messages{smb2_test::write_request(
                                      {.message_id = 5, .credit_charge = DirectIoRig::charge(Ahead::kLarge)},
                                      {.offset = 0, .file = DirectIoRig::kFile, .data = ahead.memory}),
                                  flush});
    CHECK(rig.client_side.complete == 0);
    return;
  }
  rig.until([&] { return rig.heard().size() == 1; });
  CHECK(rig.heard() == Messages{flush});
  rig.until([&] { return rig.client_side.complete == 1; });
  const Bytes answer = rig.answer();
  CHECK(get(answer, 24, 8) == 5);
  CHECK(get(answer, 68, 4) == Ahead::kLarge);
  CHECK(rig.on_disk(0, Ahead::kLarge) == ahead.memory);
  CHECK(rig.held() == 0);
}

TEST_CASE("... its client hears that it takes time, once") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  rig.from_client(smb2_test::plain(smb2_test::kQueryInfo, {.message_id = 8}, 40));
  rig.wait(1'500);
  CHECK(get(next(rig), 8, 4) == kPending);
  CHECK(rig.heard().size() == 1);
  rig.smbd.heard.clear();
  ahead.threads->let_go();
  const Bytes answer = next(rig);
  CHECK(get(answer, 8, 4) == 0);
  CHECK(get(answer, 32, 8) == 5);
  CHECK(get(answer, 68, 4) == Ahead::kLarge);
  CHECK(rig.on_disk(0, Ahead::kLarge) == ahead.memory);
}

TEST_CASE("... and a second one of that file as well") {
  Ahead ahead;
  DirectIoRig& rig = ahead.rig;
  if (!rig.waits()) return;
  Bytes memory = pattern(Ahead::kLarge, 4);
  rig.wait(500);
  rig.from_client(rig.write_from(50, 0, Ahead::kLarge, {rig.expose(memory, Access::remote_read)}));
  rig.settle();
  const Bytes other = smb2_test::plain(smb2_test::kCreate, {.message_id = 90}, 57);
  rig.from_client(other);
  rig.settle();
  CHECK(rig.heard() == Messages{other});
  rig.smbd.heard.clear();
  ahead.threads->let_go();
  rig.until([&] { return rig.client_side.complete == 2; });
  CHECK(rig.unheard());
}

TEST_CASE("so many may step aside, and no more") {
  constexpr uint64_t kMost = 64;
  Waiting waiting;
  DirectIoRig& rig = waiting.rig;
  if (!rig.waits()) return;
  rig.wait(250);
  Messages flushes;
  uint64_t id = 5;
  const auto flush = [&] {
    flushes.push_back(DirectIoRig::about_file(7, id++));
    rig.from_client(flushes.back());
    rig.settle();
  };
  const auto other = [&] {
    const Bytes create = smb2_test::plain(smb2_test::kCreate, {.message_id = id++}, 57);
    rig.from_client(create);
    rig.settle();
    return create;
  };
  for (uint64_t i = 0; i < kMost; ++i) flush();
  CHECK(rig.unheard());
  CHECK(rig.heard().empty());
  const Bytes passes = other();
  CHECK(rig.heard() == Messages{passes});
  rig.smbd.heard.clear();
  flush();
  const Bytes stays = other();
  CHECK(rig.unheard());
  waiting.threads->let_go();
  rig.until([&] { return rig.heard().size() == kMost + 2; });
  flushes.push_back(stays);
  CHECK(rig.heard() == flushes);
  CHECK(rig.on_disk(0, 10'000) == waiting.data);
}

namespace {

/// A READ, as request 4, that waits for a thread.
struct Reading {
  Reading() {
    REQUIRE(::fsync(rig.named.fd.get()) == 0);
    REQUIRE(::posix_fadvise(rig.named.fd.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    threads.emplace(rig.its_loop());
    rig.from_client(asked);
    rig.settle();
  }
  ~Reading() { let_go(); }
  void let_go() {
    threads->let_go();
    rig.until([&] { return threads->gone() && rig.threads->under_way() == 0; });
  }
  [[nodiscard]] size_t descriptors() const {
    struct stat of{};
    REQUIRE(::fstat(rig.named.fd.get(), &of) == 0);
    size_t count = 0;
    for (int fd = 0; fd < 1024; ++fd) {
      struct stat here{};
      if (::fstat(fd, &here) == 0 && here.st_dev == of.st_dev && here.st_ino == of.st_ino) ++count;
    }
    return count;
  }

  DirectIoRig rig{kDisk};
  Bytes asked = rig.read_of(4, 0, 10'000);
  std::optional<DirectIoRig::BusyThreads> threads;
};

}  // namespace

TEST_CASE("a compound closes a file while a thread is about to read it: its descriptor stays for that") {
  Reading reading;
  DirectIoRig& rig = reading.rig;
  if (!rig.waits()) return;
  const size_t open = reading.descriptors();
  const Bytes closes =
      smb2_test::chain({DirectIoRig::about_file(7, 5), DirectIoRig::about_file(smb2_test::kClose, 6)});
  rig.from_client(closes);
  rig.settle();
  CHECK(rig.unheard());
  rig.wait(250);
  CHECK(rig.heard() == Messages{closes});
  ::usleep(100'000);
  CHECK(reading.descriptors() == open);
  reading.let_go();
  rig.until([&] { return rig.heard().size() == 2; });
  CHECK(rig.heard() == Messages{closes, reading.asked});
}

TEST_CASE("what a READ finds in a file that another channel closes meanwhile may be somebody else's") {
  Reading reading;
  DirectIoRig& rig = reading.rig;
  if (!rig.waits()) return;
  bool closes = false;
  SUBCASE("it is closed") { closes = true; }
  SUBCASE("it is not") {}
  const auto other = DirectUse::open(rig.use.get(), 7, {});
  REQUIRE(other);
  if (closes) (*other)->close(1, 1);
  reading.let_go();
  rig.until([&] { return !rig.heard().empty() || rig.client_side.complete == 1; });
  if (closes) {
    CHECK(rig.heard() == Messages{reading.asked});
    CHECK(rig.client_side.complete == 0);
  } else {
    const Bytes answer = rig.answer();
    CHECK(Bytes(answer.begin() + 80, answer.end()) == rig.part(0, 10'000));
  }
}
