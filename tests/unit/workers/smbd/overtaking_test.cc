// SPDX-License-Identifier: MIT
// What may go to smbd before an RDMA-channel WRITE that waits for its data, and what may not.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using fabric::Access;
using smb2_test::pattern;
using Ids = std::vector<uint64_t>;

namespace {

constexpr uint64_t kFile = 0x77, kOther = 0x88;

Bytes echo(uint64_t id) { return smb2_test::plain(smb2_test::kEcho, {.message_id = id}); }
Bytes read_of(uint64_t id, uint64_t file) {
  return smb2_test::read_request({.message_id = id}, {.length = 4096, .file = file});
}
Bytes write_of(uint64_t id, uint64_t file, size_t size) {
  return smb2_test::write_request({.message_id = id},
                                  {.file = file, .data = pattern(size, static_cast<uint32_t>(id))});
}

/// An RDMA-channel WRITE on kFile, as request 2, waits for RDMA READs that are under way.
struct Waiting {
  Waiting() : rig(many_credits()) {
    rig.open();
    rig.server_stands = true;
    rig.from_client(
        smb2_test::write_request({.message_id = 2}, {.length = static_cast<uint32_t>(memory.size()),
                                                     .file = kFile,
                                                     .channel = 1,
                                                     .memory = {rig.expose(memory, Access::remote_read)}}));
    rig.settle();
    REQUIRE(rig.server_end().work().size() >= 3);
    REQUIRE(rig.smbd.part().empty());
  }
  /// While the server's end stands it grants nothing.
  static SmbdExchangeRig::Setup many_credits() {
    SmbdExchangeRig::Setup setup;
    setup.limits.receive_credit_initial = 255;
    return setup;
  }
  Ids after(const Bytes& request) {
    rig.from_client(request);
    rig.settle();
    return rig.smbd.ids();
  }
  /// The data comes.
  const Messages& finish() {
    rig.server_stands = false;
    rig.settle();
    return rig.smbd.heard;
  }

  Bytes memory = pattern(600'000, 1);
  Bytes written = smb2_test::write_request({.message_id = 2}, {.file = kFile, .data = memory});
  SmbdExchangeRig rig;
};

}  // namespace

TEST_CASE(
    "an ECHO, and plain READs and WRITEs on other files, pass an RDMA-channel WRITE that waits for data") {
  Waiting waiting;
  const Bytes large = write_of(5, kOther, 400'000);  // cut through, as ever
  CHECK(waiting.after(echo(3)) == Ids{3});
  CHECK(waiting.after(read_of(4, kOther)) == Ids{3, 4});
  CHECK(waiting.after(large) == Ids{3, 4, 5});
  CHECK(waiting.finish() == Messages{echo(3), read_of(4, kOther), large, waiting.written});
}

TEST_CASE("nothing on the same file passes") {
  Waiting waiting;
  CHECK(waiting.after(read_of(3, kFile)).empty());
  CHECK(waiting.after(write_of(4, kFile, 1'000)).empty());
  CHECK(waiting.finish() == Messages{waiting.written, read_of(3, kFile), write_of(4, kFile, 1'000)});
}

TEST_CASE("other commands do not pass, nor does what follows them, be it an ECHO") {
  Waiting waiting;
  Bytes blocks;
  SUBCASE("CLOSE") { blocks = smb2_test::plain(smb2_test::kClose, {.message_id = 3}, 24); }
  SUBCASE("a related READ") {
    blocks = smb2_test::read_request({.message_id = 3, .flags = smb2_test::kRelated},
                                     {.length = 10, .file = UINT64_MAX});
  }
  SUBCASE("a compound") { blocks = smb2_test::chain({read_of(3, kOther), read_of(4, kOther)}); }
  SUBCASE("one that is encrypted") {
    blocks = pattern(1'000, 3);
    smb2_test::put(blocks, 0, 0x424D53FD, 4);
  }
  CHECK(waiting.after(blocks).empty());
  CHECK(waiting.after(echo(5)).empty());
  CHECK(waiting.finish() == Messages{waiting.written, blocks, echo(5)});
}

TEST_CASE("what is too large to be kept waits where it is, and all behind it") {
  Waiting waiting;
  const Bytes large = write_of(3, kFile, 300'000);
  CHECK(waiting.after(large).empty());
  CHECK(waiting.rig.exchange->stalled());
  CHECK(waiting.after(echo(4)).empty());
  CHECK(waiting.finish() == Messages{waiting.written, large, echo(4)});
  CHECK_FALSE(waiting.rig.exchange->stalled());
  CHECK(waiting.rig.copied() < 1'000);  // it was cut through all the same
}

TEST_CASE("of two that wait, what is on the file of either passes neither") {
  Waiting waiting;
  Bytes other = pattern(10, 1);
  const Bytes second = smb2_test::write_request({.message_id = 3},
                                                {.length = 10,
                                                 .file = kOther,
                                                 .channel = 1,
                                                 .memory = {waiting.rig.expose(other, Access::remote_read)}});
  CHECK(waiting.after(second).empty());
  CHECK(waiting.after(read_of(4, 0x99)) == Ids{4});
  CHECK(waiting.after(read_of(5, kOther)) == Ids{4});
  CHECK(waiting.after(read_of(6, 0x99)) == Ids{4});  // behind one that may not be passed
  (void)waiting.finish();
  CHECK(waiting.rig.smbd.ids() == Ids{4, 2, 3, 5, 6});
}

TEST_CASE("nothing goes into the middle of a WRITE whose data has begun to come") {
  Waiting waiting;
  SmbdExchangeRig& rig = waiting.rig;
  // The first of its RDMA READs, and no more.
  REQUIRE(rig.server_end().step());
  rig.settle();
  const size_t part = rig.smbd.part().size();
  REQUIRE(part > 100'000);
  CHECK(rig.exchange->unfinished());
  CHECK(waiting.after(echo(3)).empty());
  CHECK(waiting.after(read_of(4, kOther)).empty());
  CHECK(rig.smbd.part().size() == part);
  CHECK(waiting.finish() == Messages{waiting.written, echo(3), read_of(4, kOther)});
}

TEST_CASE("a WRITE's data that comes in the middle of another request waits for its end") {
  Waiting waiting;
  SmbdExchangeRig& rig = waiting.rig;
  const Bytes passes = write_of(3, kOther, 100'000);
  rig.begin(passes.size());
  rig.append(std::span(passes).first(50'000));
  rig.settle();
  REQUIRE(rig.smbd.part().size() > 40'000);
  rig.server_stands = false;
  rig.settle();
  CHECK(rig.smbd.part().size() < 50'100);
  rig.wait(1'000);
  CHECK(rig.smbd.part().size() < 50'100);
  rig.append(std::span(passes).subspan(50'000));
  rig.settle();
  CHECK(rig.smbd.heard == Messages{passes, waiting.written});
}
