// SPDX-License-Identifier: MIT
// READs and WRITEs that are done on the open file itself, on a file system that never blocks: what the client
// is answered, what the file has, and what smbd hears of it.
#include <csignal>
#include <sys/resource.h>

#include "direct_io_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;

namespace {

using Ids = std::vector<uint64_t>;

/// The data of an inline READ's answer.
Bytes data_of(const Bytes& answer) {
  REQUIRE(get(answer, 12, 2) == smb2_test::kRead);
  REQUIRE(get(answer, 8, 4) == 0);
  REQUIRE(get(answer, 66, 1) == 80);
  REQUIRE(get(answer, 68, 4) == answer.size() - 80);
  return {answer.begin() + 80, answer.end()};
}

}  // namespace

TEST_CASE("an inline READ is answered from the file, and smbd hears of its id before anything else") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, 1'000, 5'000));
  const Bytes answer = rig.answer();
  CHECK(data_of(answer) == rig.part(1'000, 5'000));
  CHECK(get(answer, 24, 8) == 3);
  CHECK(get(answer, 14, 2) == 1);  // credits
  CHECK((get(answer, 16, 4) & smb2_test::kResponse) != 0);
  CHECK(rig.smbd.heard.empty());
  CHECK(rig.counted().direct_reads == 1);
  CHECK(rig.counted().direct_read_bytes == 5'000);

  const Bytes other = rig.read_of(4, 0, 10, DirectIoRig::kOther);
  rig.from_client(other);
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 2);
  CHECK(get(rig.smbd.heard[0], 12, 2) == smb2_test::kEcho);
  CHECK(get(rig.smbd.heard[0], 24, 8) == 3);
  CHECK(rig.smbd.heard[1] == other);
  Bytes echoed = smb2_test::plain(smb2_test::kEcho, {.message_id = 3, .flags = smb2_test::kResponse});
  rig.smbd.answer(echoed);
  rig.smbd.answer(smb2_test::read_response({.message_id = 4}, pattern(10, 1)));
  CHECK(data_of(rig.answer()) == pattern(10, 1));  // and nothing of the ECHO
  CHECK(rig.held() == 0);
}

TEST_CASE("the worker's loop is told to stay awake after what was done here, and of nothing that smbd does") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, 0, 10, DirectIoRig::kOther));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  rig.smbd.answer(smb2_test::read_response({.message_id = 3}, pattern(10, 1)));
  CHECK(data_of(rig.answer()) == pattern(10, 1));
  CHECK(rig.expectations == 0);
  rig.from_client(rig.read_of(4, 0, 10));
  CHECK(data_of(rig.answer()) == rig.part(0, 10));
  CHECK(rig.expectations > 0);
}

TEST_CASE(
    "of many READs some are answered before all are looked at; of WRITEs the answers wait for each other") {
  DirectIoRig rig;
  rig.write_first(3);
  for (uint64_t id = 4; id < 12; ++id) rig.from_client(rig.read_of(id, 0, 10));
  rig.settle();
  CHECK(rig.client_side.complete == 8);
  CHECK(rig.server_end().rung_now == 2);
  for (uint64_t id = 12; id < 20; ++id) rig.from_client(rig.write_of(id, 0, pattern(8, 1)));
  rig.settle();
  CHECK(rig.client_side.complete == 16);
  CHECK(rig.server_end().rung_now == 2);
  CHECK(rig.unheard());
}

TEST_CASE("a READ of more than a slab, inline and by an RDMA channel in several pieces") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, 77, 700'000));
  CHECK(data_of(rig.answer()) == rig.part(77, 700'000));
  uint64_t id = 20;
  for (const uint32_t channel : {1u, 2u}) {
    Bytes small(10), large(900'000);
    const std::vector memory{rig.expose(small, Access::remote_write),
                             rig.expose(large, Access::remote_write)};
    rig.from_client(rig.read_into(id, 5'000, 900'010, memory, channel));
    rig.settle();
    CHECK(rig.client_side.invalidated.size() == (channel == 2 ? 1 : 0));
    const Bytes answer = rig.answer();
    CHECK(answer.size() == 80);
    CHECK(get(answer, 72, 4) == 900'010);
    CHECK(get(answer, 68, 4) == 0);
    CHECK(smb2_test::operator+(small, large) == rig.part(5'000, 900'010));
    id += 20;
  }
  CHECK(rig.unheard());
  CHECK(rig.counted().direct_reads == 3);
  CHECK(rig.held() == 0);
}

TEST_CASE("the first WRITE is smbd's, the next ones are done here: inline, and by an RDMA channel") {
  DirectIoRig rig;
  rig.write_first(3);
  const Bytes inline_data = pattern(5'000, 70), large = pattern(800'000, 71);
  rig.from_client(rig.write_of(4, 2'999'000, inline_data));
  Bytes answer = rig.answer();
  CHECK(get(answer, 12, 2) == smb2_test::kWrite);
  CHECK(get(answer, 8, 4) == 0);
  CHECK(get(answer, 68, 4) == 5'000);
  CHECK(rig.on_disk(2'999'000, 6'000) == inline_data);
  Bytes memory = large;
  rig.from_client(rig.write_from(5, 123, 800'000, {rig.expose(memory, Access::remote_read)}));
  answer = rig.answer();
  CHECK(get(answer, 68, 4) == 800'000);
  CHECK(rig.on_disk(123, 800'000) == large);
  CHECK(rig.unheard());
  CHECK(rig.counted().direct_writes == 2);
  CHECK(rig.counted().direct_write_bytes == 805'000);
  CHECK(rig.held() == 0);
}

TEST_CASE("a WRITE that smbd refuses is no first one") {
  DirectIoRig rig;
  for (const uint64_t id : {3u, 4u}) {
    rig.from_client(rig.write_of(id, 0, pattern(10, 1)));
    rig.settle();
    REQUIRE(rig.heard().size() == 1);
    rig.smbd.heard.clear();
    rig.smbd.answer(smb2_test::error_response(smb2_test::kWrite, {.message_id = id, .status = 0xC000007F}));
    CHECK(get(rig.answer(), 8, 4) == 0xC000007F);
  }
}

TEST_CASE("the end of the file: what is there is answered, and smbd says that there is nothing") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, DirectIoRig::kFileBytes - 100, 4'096));
  CHECK(data_of(rig.answer()) == rig.part(DirectIoRig::kFileBytes - 100, 100));
  Bytes into(400'000);
  rig.from_client(
      rig.read_into(4, DirectIoRig::kFileBytes - 300'000, 400'000, {rig.expose(into, Access::remote_write)}));
  CHECK(get(rig.answer(), 72, 4) == 300'000);
  CHECK(Bytes(into.begin(), into.begin() + 300'000) == rig.part(DirectIoRig::kFileBytes - 300'000, 300'000));
  CHECK(rig.unheard());

  const Bytes beyond = rig.read_of(20, DirectIoRig::kFileBytes, 10);
  Bytes too_few = rig.read_of(21, DirectIoRig::kFileBytes - 10, 100);
  put(too_few, 96, 11, 4);
  rig.from_client(beyond);
  rig.from_client(too_few);
  rig.settle();
  CHECK(rig.heard() == Messages{beyond, too_few});
  CHECK(rig.client_side.complete == 0);
}

TEST_CASE("a right that is gone, or goes while the data is fetched: it is smbd's request") {
  DirectIoRig rig;
  rig.write_first(3);
  Bytes memory = pattern(600'000, 5);
  rig.server_stands = true;
  rig.from_client(rig.write_from(4, 0, 600'000, {rig.expose(memory, Access::remote_read)}));
  rig.settle();
  rig.revoke(SMBDIRECT_RIGHT_READ);
  rig.server_stands = false;
  rig.settle();
  const Bytes written = smb2_test::write_request({.message_id = 4, .credit_charge = 10},
                                                 {.offset = 0, .file = DirectIoRig::kFile, .data = memory});
  CHECK(rig.heard() == Messages{written});
  CHECK(rig.on_disk(0, 600'000) == rig.part(0, 600'000));
  rig.smbd.heard.clear();
  rig.from_client(rig.read_of(20, 0, 10));
  CHECK(data_of(rig.answer()) == rig.part(0, 10));  // that one is still there
  rig.set(0);                                       // nobody has said so yet
  const Bytes read = rig.read_of(21, 0, 10);
  rig.from_client(read);
  rig.settle();
  CHECK(rig.heard() == Messages{read});
  rig.set(DirectIoRig::kBoth);
  rig.from_client(rig.read_of(22, 5, 10));
  CHECK(data_of(rig.answer()) == rig.part(5, 10));
}

TEST_CASE("nothing overtakes what smbd has of the same file, or may have") {
  DirectIoRig rig;
  Bytes request;
  bool blocks = true;
  SUBCASE("FLUSH") { request = DirectIoRig::about_file(7, 3); }
  SUBCASE("CLOSE") { request = DirectIoRig::about_file(smb2_test::kClose, 3); }
  SUBCASE("LOCK") { request = DirectIoRig::about_file(smb2_test::kLock, 3, 48); }
  SUBCASE("IOCTL") { request = DirectIoRig::about_file(smb2_test::kIoctl, 3, 57); }
  SUBCASE("SET_INFO") { request = DirectIoRig::about_file(17, 3, 40, 80); }
  SUBCASE("a compound") {
    request = smb2_test::chain({smb2_test::plain(smb2_test::kClose, {.message_id = 3}, 24),
                                smb2_test::plain(smb2_test::kClose, {.message_id = 4}, 24)});
  }
  SUBCASE("TREE_DISCONNECT") { request = smb2_test::plain(4, {.message_id = 3}); }
  SUBCASE("another file's CLOSE, which does not count") {
    request = smb2_test::plain(smb2_test::kClose, {.message_id = 3}, 24);
    blocks = false;
  }
  rig.from_client(request);
  rig.settle();
  REQUIRE(rig.heard() == Messages{request});
  rig.smbd.heard.clear();
  const Bytes read = rig.read_of(5, 0, 100);
  rig.from_client(read);
  rig.settle();
  CHECK(rig.heard() == (blocks ? Messages{read} : Messages{}));
  CHECK(rig.client_side.complete == (blocks ? 0 : 1));
}

TEST_CASE("an answer of ours waits for the end of one of smbd's that is being passed on") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, 0, 100'000, DirectIoRig::kOther));
  rig.settle();
  const Bytes theirs = smb2_test::read_response({.message_id = 3}, pattern(100'000, 3));
  const Bytes framed_theirs = framed(theirs);
  rig.smbd.say(std::span(framed_theirs).first(60'000));
  rig.settle();
  Bytes into(100);
  rig.from_client(rig.read_of(5, 50, 200));
  rig.from_client(rig.read_into(6, 60, 100, {rig.expose(into, Access::remote_write)}));
  rig.settle();
  CHECK(rig.client_side.complete == 0);
  CHECK(into == rig.part(60, 100));  // that needs no message
  rig.smbd.say(std::span(framed_theirs).subspan(60'000));
  rig.settle();
  REQUIRE(rig.client_side.complete == 3);
  CHECK(rig.client_side.messages[0] == theirs);
  CHECK(data_of(rig.client_side.messages[1]) == rig.part(50, 200));
  CHECK(get(rig.client_side.messages[2], 24, 8) == 6);
  CHECK(rig.held() == 0);
}

TEST_CASE("now and then one goes to smbd, which ends sessions") {
  DirectIoRig rig;
  rig.from_client(rig.read_of(3, 0, 100));
  (void)rig.answer();
  rig.wait(2'500);
  const Bytes second = rig.read_of(4, 0, 100);
  rig.from_client(second);
  rig.settle();
  CHECK(rig.heard() == Messages{second});
  rig.from_client(rig.read_of(5, 0, 100));
  (void)rig.answer();
}

TEST_CASE("many answers: smbd hears of their ids in time, and its answers to that are nobody's") {
  DirectIoRig rig;
  uint64_t id = 3;
  size_t echoes = 0;
  for (int round = 0; round < 2'000; ++round) {
    rig.from_client(rig.read_of(id++, 0, 100));
    (void)rig.answer();
    for (const Bytes& echo : std::exchange(rig.smbd.heard, {})) {
      REQUIRE(get(echo, 12, 2) == smb2_test::kEcho);
      ++echoes;
      Bytes answer =
          smb2_test::plain(smb2_test::kEcho, {.message_id = get(echo, 24, 8), .flags = smb2_test::kResponse});
      put(answer, 14, get(echo, 6, 2) + get(echo, 14, 2) - 1, 2);  // as smbd grants them
      rig.smbd.answer(answer);
    }
  }
  rig.settle();
  CHECK(echoes > 3);
  CHECK(rig.client_side.complete == 0);
  CHECK(rig.unheard());
}

TEST_CASE("what is written in part, and fails: smbd does all of it, and has the words") {
  DirectIoRig rig;
  rig.write_first(3);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit limited = before;
  limited.rlim_cur = DirectIoRig::kFileBytes + 5'000;
  const auto handled = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limited) == 0);
  const Bytes data = pattern(20'000, 4);
  const Bytes request = rig.write_of(4, DirectIoRig::kFileBytes, data);
  rig.from_client(request);
  rig.settle();
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handled);
  CHECK(rig.heard() == Messages{request});
  CHECK(rig.client_side.complete == 0);
  CHECK(rig.on_disk(DirectIoRig::kFileBytes, 20'000) == Bytes(data.begin(), data.begin() + 5'000));
}

TEST_CASE("no memory for all data of a WRITE: it goes to smbd, piece by piece") {
  DirectIoRig rig(kMemory, SmbdExchangeRig::limited_to(1 << 20));
  rig.write_first(3);
  constexpr uint32_t kLarge = 5 << 20;
  Bytes memory = pattern(kLarge, 6);
  rig.from_client(rig.write_from(4, 0, kLarge, {rig.expose(memory, Access::remote_read)}));
  rig.settle();
  for (int i = 0; i < 100 && rig.heard().empty(); ++i) rig.wait(20);
  const Bytes written = smb2_test::write_request({.message_id = 4, .credit_charge = 80},
                                                 {.offset = 0, .file = DirectIoRig::kFile, .data = memory});
  CHECK(rig.heard() == Messages{written});
  CHECK(rig.counted().direct_writes == 0);
  CHECK(rig.held() == 0);
}

TEST_CASE("no memory for what a READ finds: smbd reads it") {
  DirectIoRig rig;
  Bytes into(2'000'000);
  const Bytes request = rig.read_into(3, 0, 2'000'000, {rig.expose(into, Access::remote_write)});
  rig.payload.set_limit(rig.held() + 3 * ExchangeHost::kSlab);
  rig.server_stands = true;  // what was read is not sent, and holds its memory
  rig.from_client(request);
  rig.settle();
  REQUIRE(rig.heard().size() == 1);
  CHECK(get(rig.heard()[0], 24, 8) == 3);
  CHECK(get(rig.heard()[0], 68, 4) == 2'000'000);
  CHECK(rig.counted().direct_reads == 0);
  rig.server_stands = false;
  rig.settle();
  rig.payload.set_limit(ExchangeHost::kPlenty);
  rig.smbd.answer(smb2_test::read_response({.message_id = 3}, rig.part(0, 2'000'000)));
  CHECK(get(rig.answer(), 72, 4) == 2'000'000);
  CHECK(into == rig.part(0, 2'000'000));
}

TEST_CASE("smbd's end, and its module's: nothing more is done here") {
  DirectIoRig rig;
  const Bytes read = rig.read_of(3, 0, 100);
  SUBCASE("the module's") {
    rig.module.reset();
    rig.wait(0);
    rig.from_client(read);
    rig.settle();
    CHECK(rig.heard() == Messages{read});
  }
  SUBCASE("smbd's") {
    rig.smbd.close();
    rig.settle();
    REQUIRE(rig.state == Exchange::State::end);
    rig.upstream.reset();
    rig.from_client(read);
    rig.settle();
  }
  SUBCASE("the stream's, by us") {
    rig.exchange->detached();
    rig.from_client(read);
    rig.settle();
  }
  CHECK(rig.client_side.complete == 0);
  CHECK(rig.counted().direct_reads == 0);
}

TEST_CASE("smbd's process has died, and neither its stream nor its link has ended yet: nothing is done") {
  DirectIoRig rig;
  rig.write_first(3);
  rig.smbd_dies();
  const Bytes write = rig.write_of(4, 0, pattern(10'000, 4)), read = rig.read_of(5, 0, 100);
  rig.from_client(write);
  rig.from_client(read);
  rig.settle();
  CHECK(rig.heard() == Messages{write, read});
  CHECK(rig.on_disk(0, 10'000) == rig.part(0, 10'000));
  CHECK(rig.client_side.complete == 0);
}
