// SPDX-License-Identifier: MIT
// READs whose data is sent from the page cache itself, and WRITEs that are written while they are fetched:
// when that is done, what waits for it, and what becomes of it when it cannot go on.
#include <sys/stat.h>

#include "direct_io_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

constexpr uint32_t kSlab = ExchangeHost::kSlab;

class SentRig final {
 public:
  explicit SentRig(const char* directory = kMemory) : rig(directory) { rig.server_end().send_files(); }

  /// A READ by an RDMA channel, and what the client has then.
  Bytes read(uint64_t id, uint64_t offset, uint32_t length) {
    Bytes into(length);
    rig.from_client(rig.read_into(id, offset, length, {rig.expose(into, Access::remote_write)}));
    const Bytes answer = rig.answer();
    REQUIRE(get(answer, 8, 4) == 0);
    into.resize(get(answer, 72, 4));
    return into;
  }
  [[nodiscard]] uint64_t sent() const { return rig.counted().direct_uncopied_bytes; }

  DirectIoRig rig;
};

}  // namespace

TEST_CASE("a large READ by an RDMA channel is sent from the file itself, and takes no memory") {
  SentRig test;
  DirectIoRig& rig = test.rig;
  CHECK(test.read(3, 1'000, 400'000) == rig.part(1'000, 400'000));
  CHECK(test.sent() == 400'000);
  CHECK(rig.mapped.used() == FileViews::kWindow);
  CHECK(rig.counted().direct_reads == 1);
  CHECK(rig.counted().direct_read_bytes == 400'000);

  rig.server_stands = true;
  Bytes into(2'000'000);
  rig.from_client(rig.read_into(20, 0, 2'000'000, {rig.expose(into, Access::remote_write)}));
  rig.settle();
  CHECK(rig.held() <= 2 * uint64_t{kSlab});  // the request, and the answer's header
  rig.server_stands = false;
  (void)rig.answer();
  CHECK(into == rig.part(0, 2'000'000));
  CHECK(test.sent() == 2'400'000);

  rig.exchange->tidy();  // it was used since the last time: there was none
  CHECK(rig.mapped.used() == FileViews::kWindow);
  rig.exchange->tidy();
  CHECK(rig.mapped.used() == 0);
  CHECK(test.read(60, 5, 100'000) == rig.part(5, 100'000));
  CHECK(test.sent() == 2'500'000);
}

TEST_CASE("over the end of a window, into the next") {
  SentRig test;
  const Bytes more = pattern(FileViews::kWindow + 1'000'000, 7);
  REQUIRE(::pwrite(test.rig.named.fd.get(), more.data(), more.size(), 0) == ssize_t(more.size()));
  const auto from = FileViews::kWindow - 300'001;
  CHECK(test.read(3, from, 700'000) == Bytes(more.begin() + from, more.begin() + from + 700'000));
  CHECK(test.sent() == 700'000);
  CHECK(test.rig.mapped.used() == 2 * uint64_t{FileViews::kWindow});
}

TEST_CASE("what is read into memory of ours as always") {
  SUBCASE("little") {
    SentRig test;
    CHECK(test.read(3, 9, 65'535) == test.rig.part(9, 65'535));
    CHECK(test.sent() == 0);
  }
  SUBCASE("over the end of the file") {
    SentRig test;
    CHECK(test.read(3, DirectIoRig::kFileBytes - 100'000, 100'001) ==
          test.rig.part(DirectIoRig::kFileBytes - 100'000, 100'000));
    CHECK(test.sent() == 0);
    CHECK(test.read(10, DirectIoRig::kFileBytes - 100'000, 100'000) ==
          test.rig.part(DirectIoRig::kFileBytes - 100'000, 100'000));
    CHECK(test.sent() == 100'000);
  }
  SUBCASE("a file with holes: they would be filled") {
    SentRig test;
    REQUIRE(::ftruncate(test.rig.named.fd.get(), DirectIoRig::kFileBytes + (1 << 20)) == 0);
    struct stat before{}, after{};
    REQUIRE(::fstat(test.rig.named.fd.get(), &before) == 0);
    Bytes expected = test.rig.part(DirectIoRig::kFileBytes - 100'000, 100'000);
    expected.resize(300'000);
    CHECK(test.read(3, DirectIoRig::kFileBytes - 100'000, 300'000) == expected);
    REQUIRE(::fstat(test.rig.named.fd.get(), &after) == 0);
    CHECK(after.st_blocks == before.st_blocks);
    CHECK(test.sent() == 0);
  }
  SUBCASE("a file that other clients may have, and one of them may shorten") {
    SentRig test;
    test.rig.revoke(SMBDIRECT_RIGHT_READ);
    CHECK(test.read(3, 9, 400'000) == test.rig.part(9, 400'000));
    CHECK(test.rig.counted().direct_reads == 1);
    CHECK(test.sent() == 0);
  }
  SUBCASE("a file system that may block") {
    SentRig test(kDisk);
    CHECK(test.read(3, 9, 400'000) == test.rig.part(9, 400'000));
    CHECK(test.sent() == 0);
  }
  SUBCASE("a fabric that would look at it") {
    DirectIoRig rig;
    Bytes into(400'000);
    rig.from_client(rig.read_into(3, 9, 400'000, {rig.expose(into, Access::remote_write)}));
    (void)rig.answer();
    CHECK(into == rig.part(9, 400'000));
    CHECK(rig.counted().direct_uncopied_bytes == 0);
  }
  SUBCASE("no room for one more window") {
    SentRig test;
    test.rig.mapped.set_limit(FileViews::kWindow - 1);
    CHECK(test.read(3, 9, 400'000) == test.rig.part(9, 400'000));
    CHECK(test.sent() == 0);
  }
}

TEST_CASE("a right that is gone: nothing of the file is sent") {
  SentRig test;
  test.rig.set(0);
  Bytes into(400'000);
  test.rig.from_client(test.rig.read_into(3, 9, 400'000, {test.rig.expose(into, Access::remote_write)}));
  test.rig.settle();
  CHECK(test.rig.heard().size() == 1);
  CHECK(into == Bytes(400'000));
  CHECK(test.sent() == 0);
}

TEST_CASE("what may shorten a file waits until nothing is sent from files any more") {
  SentRig test;
  DirectIoRig& rig = test.rig;
  Bytes request;
  bool waits = true;
  SUBCASE("SET_INFO") { request = DirectIoRig::about_file(17, 9, 40, 80); }
  SUBCASE("SET_INFO of another open file, which may be the same one") {
    request = smb2_test::plain(17, {.message_id = 9}, 40);
  }
  SUBCASE("CREATE") { request = smb2_test::plain(smb2_test::kCreate, {.message_id = 9}, 57); }
  SUBCASE("a compound") {
    request = smb2_test::chain({smb2_test::plain(smb2_test::kClose, {.message_id = 9}, 24),
                                smb2_test::plain(smb2_test::kClose, {.message_id = 10}, 24)});
  }
  SUBCASE("not an ECHO") {
    request = smb2_test::plain(smb2_test::kEcho, {.message_id = 9}, 4);
    waits = false;
  }
  rig.server_stands = true;
  Bytes into(300'000);
  rig.from_client(rig.read_into(3, 0, 300'000, {rig.expose(into, Access::remote_write)}));
  rig.from_client(request);
  rig.settle();
  CHECK(test.sent() == 300'000);
  CHECK((rig.smbd.heard.empty() || rig.smbd.heard.back() != request) == waits);
  rig.server_stands = false;
  rig.settle();
  REQUIRE(!rig.smbd.heard.empty());
  CHECK(rig.smbd.heard.back() == request);
  CHECK(into == rig.part(0, 300'000));
}

TEST_CASE("a file that is closed while it is sent stays mapped until then") {
  SentRig test;
  DirectIoRig& rig = test.rig;
  rig.server_stands = true;
  Bytes into(300'000);
  rig.from_client(rig.read_into(3, 0, 300'000, {rig.expose(into, Access::remote_write)}));
  rig.settle();
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 1));
  CHECK(rig.exchange->direct_files() == 0);
  CHECK(rig.mapped.used() == FileViews::kWindow);
  rig.server_stands = false;
  (void)rig.answer();
  CHECK(into == rig.part(0, 300'000));
  CHECK(rig.mapped.used() == 0);
}

TEST_CASE("a WRITE is written as it comes, and smbd does all of it when that ends") {
  DirectIoRig rig;
  rig.write_first(3);
  constexpr uint32_t kLength = 3 * kSlab + 1'000;
  Bytes memory = pattern(kLength, 5);
  const auto first = ptrdiff_t{kSlab};
  rig.server_stands = true;
  rig.from_client(rig.write_from(4, 77, kLength, {rig.expose(memory, Access::remote_read)}));
  rig.settle();
  CHECK(rig.on_disk(77, kLength) == rig.part(77, kLength));
  while (rig.server_end().traffic().read_bytes < kSlab) REQUIRE(rig.server_end().step());
  CHECK(rig.on_disk(77, kSlab) == Bytes(memory.begin(), memory.begin() + first));
  CHECK(rig.on_disk(77 + kSlab, kSlab) == rig.part(77 + kSlab, kSlab));
  SUBCASE("and goes on to its end") {
    rig.server_stands = false;
    CHECK(get(rig.answer(), 68, 4) == kLength);
    CHECK(rig.unheard());
    CHECK(rig.counted().direct_write_bytes == kLength);
  }
  SUBCASE("the right is gone") {
    rig.revoke(SMBDIRECT_RIGHT_READ);
    rig.server_stands = false;
    rig.settle();
    CHECK(rig.on_disk(77 + kSlab, kSlab) == rig.part(77 + kSlab, kSlab));
    CHECK(rig.heard() ==
          Messages{smb2_test::write_request({.message_id = 4, .credit_charge = DirectIoRig::charge(kLength)},
                                            {.offset = 77, .file = DirectIoRig::kFile, .data = memory})});
    return;
  }
  CHECK(rig.on_disk(77, kLength) == memory);
  CHECK(rig.held() == 0);
}
