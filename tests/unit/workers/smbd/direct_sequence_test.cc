// SPDX-License-Identifier: MIT
// A client that has lost a channel counts its ChannelSequence on (MS-SMB2 3.3.5.2.10): what another channel
// has brought before that is not done here any more, and who has counted on waits for what was under way.
#include "direct_io_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

Bytes with_sequence(Bytes request, uint16_t sequence) {
  put(request, 8, sequence, 2);
  return request;
}

/// smbd has the request, and nothing else, and answers it.
void smbd_does(DirectIoRig& rig, const Bytes& request, uint64_t id) {
  REQUIRE(rig.heard().size() == 1);
  CHECK(get(rig.heard()[0], 24, 8) == id);
  CHECK(get(rig.heard()[0], 8, 2) == get(request, 8, 2));
  rig.smbd.heard.clear();
  rig.smbd.answer(smb2_test::write_response({.message_id = id}, 8));
  CHECK(get(rig.answer(), 24, 8) == id);
}

constexpr uint32_t kOtherRow = 7;

}  // namespace

TEST_CASE("who counts on shows smbd one request, which those behind it do not overtake, and goes on here") {
  DirectIoRig rig;
  rig.write_first(3);
  const Bytes first = with_sequence(rig.write_of(4, 100, pattern(8, 4)), 1);
  rig.from_client(first);
  rig.settle();
  REQUIRE(rig.heard().size() == 1);
  CHECK(DirectRig::sequence_in(rig.use.get(), 1) == 1);
  rig.from_client(with_sequence(rig.read_of(5, 0, 10), 1));  // before its answer
  rig.settle();
  REQUIRE(rig.heard().size() == 2);
  rig.smbd.answer(smb2_test::read_response({.message_id = 5}, pattern(10, 5)));
  CHECK(get(rig.answer(), 24, 8) == 5);
  rig.smbd.heard.resize(rig.smbd.heard.size() - 1);
  smbd_does(rig, first, 4);
  rig.from_client(with_sequence(rig.write_of(6, 200, pattern(8, 6)), 1));
  CHECK(get(rig.answer(), 8, 4) == 0);
  CHECK(rig.unheard());
  CHECK(rig.on_disk(200, 8) == pattern(8, 6));
  const Bytes stale = rig.write_of(7, 200, pattern(8, 7));
  rig.from_client(stale);
  rig.settle();
  REQUIRE(rig.heard().size() == 1);  // it refuses it
  CHECK(rig.on_disk(200, 8) == pattern(8, 6));
}

TEST_CASE("an RDMA channel WRITE that counts on is smbd's, and holds up what else is done on the file") {
  DirectIoRig rig;
  rig.write_first(3);
  Bytes data = pattern(100'000, 1);
  const auto memory = rig.expose(data, Access::remote_read);
  const Bytes request = with_sequence(rig.write_from(4, 0, 100'000, {memory}), 1);
  rig.from_client(request);
  rig.settle();
  REQUIRE(rig.heard().size() == 1);
  CHECK(rig.heard()[0].size() > 100'000);
  rig.from_client(with_sequence(rig.read_of(5, 0, 10), 1));
  rig.settle();
  CHECK(rig.heard().size() == 2);
  CHECK(rig.counted().direct_reads == 0);
}

TEST_CASE("who counts on waits for the WRITEs that other channels have under way, and others do not") {
  DirectIoRig rig;
  rig.write_first(3);
  DirectRig::set_mark(rig.use.get(), 1, kOtherRow, 1, 0);
  rig.from_client(rig.write_of(4, 300, pattern(8, 4)));
  CHECK(get(rig.answer(), 8, 4) == 0);
  const Bytes request = with_sequence(rig.write_of(6, 100, pattern(8, 6)), 1);
  rig.from_client(request);
  for (int ms = 0; ms < 20; ++ms) rig.wait(1);
  CHECK(rig.unheard());
  DirectRig::set_mark(rig.use.get(), 1, kOtherRow, 0, 0);
  rig.wait(1);
  smbd_does(rig, request, 6);
  CHECK(rig.held() == 0);
}

TEST_CASE("what came by a channel that is lost is smbd's, at once and from a thread") {
  SUBCASE("at once") {
    DirectIoRig rig;
    rig.write_first(3);
    DirectRig::set_sequence(rig.use.get(), 1, 1);
    rig.from_client(rig.write_of(4, 300, pattern(8, 4)));
    rig.settle();
    CHECK(rig.heard().size() == 1);
    CHECK(rig.on_disk(300, 8) == rig.part(300, 8));
  }
  SUBCASE("from a thread") {
    DirectIoRig rig(kDisk);
    rig.write_first(3);
    DirectIoRig::BusyThreads busy(rig.its_loop());
    rig.from_client(rig.write_of(4, 300, pattern(8, 4)));
    rig.settle();
    const bool waits = rig.waits();
    CHECK(rig.unheard());
    DirectRig::set_sequence(rig.use.get(), 1, 1);
    busy.let_go();
    rig.until([&] { return busy.gone(); });
    if (!waits) return;
    rig.until([&] { return !rig.heard().empty(); });
    CHECK(rig.on_disk(300, 8) == rig.part(300, 8));
  }
}
