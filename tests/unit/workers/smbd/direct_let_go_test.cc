// SPDX-License-Identifier: MIT
// However a file of smbd's ends here, taken or not: the loop does not close it.
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "direct_rig.h"
#include "tests/unit/workers/memory/slow_disk.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

namespace {

/// Descriptors of that file, in this process.
size_t descriptors_of(const NamedFile& named) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    struct stat status{};
    if (::fstat(std::stoi(entry.path().filename()), &status) == 0 &&
        status.st_ino == test::inode(named.fd.get()))
      ++count;
  }
  return count;
}

struct Closing {
  /// The files that have come are with the closer, all but those that the test itself has.
  void check(size_t came) {
    CHECK(descriptors_of(*named) == 1 + came);
    until_gone(1);
    CHECK(disk.by_loop() == 0);
    CHECK(disk.begun() >= came);
  }
  /// Until so many are left; and nothing counts any more.
  void until_gone(size_t left) {
    disk.let_go();
    for (int turns = 0; descriptors_of(*named) > left || rig.descriptors.used() > 0; ++turns) {
      REQUIRE(turns < 100'000);
      ::usleep(100);
      rig.closer.reclaim();
    }
  }
  ~Closing() { disk.let_go(); }

  SlowDisk disk;
  DirectRig rig;
  NamedFile* named = &rig.named;

  Closing() {
    rig.closes = [this] { disk.close(); };
    REQUIRE(rig.closer.start());
    rig.attach();
  }
};

}  // namespace

TEST_CASE("a file that was used") {
  Closing closing;
  DirectRig& rig = closing.rig;
  rig.grant_file(0, 1);
  rig.grant_file(1, 2);
  auto under_way = rig.files.find(DirectRig::request(1));
  REQUIRE(under_way != nullptr);
  bool ends = false;
  SUBCASE("is closed") {
    rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0));
    rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 1));
  }
  SUBCASE("goes with its link") {
    rig.module.reset();
    rig.wait(0);
    ends = true;
  }
  SUBCASE("goes with what no module would say") {
    rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 5));
    ends = true;
  }
  CHECK(ends == !rig.link.up());
  CHECK(rig.files.open_files() == 0);
  CHECK(descriptors_of(rig.named) == 3);
  under_way.reset();
  closing.check(2);
}

TEST_CASE("a file that is not taken") {
  Closing closing;
  DirectRig& rig = closing.rig;
  rig.set(0, DirectRig::kBoth);
  const shm::UniqueFd file(rig.named.open(O_RDWR));
  const auto grant = [&](uint32_t slot, uint8_t id) { rig.say(DirectRig::grant(slot, id), {file.get()}); };
  size_t taken = 0;
  SUBCASE("there is no place for it") {
    rig.descriptors.set_limit(0);
    grant(0, 1);
    CHECK(rig.shown() == shm::DirectState::ready);
  }
  SUBCASE("it is appended to") {
    const shm::UniqueFd appends(rig.named.open(O_RDWR | O_APPEND));
    rig.say(DirectRig::grant(0, 1), {appends.get()});
  }
  SUBCASE("it has no slot") { grant(DirectRig::kSlots, 1); }
  SUBCASE("its slot is another's") {
    grant(0, 1);
    grant(0, 2);
    taken = 1;
  }
  SUBCASE("it was granted before") {
    grant(0, 1);
    grant(1, 1);
    taken = 1;
  }
  SUBCASE("it comes with what has none") {
    rig.say(DirectRig::packet(SMBDIRECT_LINK_TREE, 5, "share"), {file.get()});
  }
  SUBCASE("it comes as a table") {
    rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {file.get()});
  }
  CHECK(rig.files.open_files() == 0);
  closing.disk.until_begun(1);
  CHECK(descriptors_of(rig.named) == 3 + taken);
  closing.until_gone(2);
  CHECK(closing.disk.by_loop() == 0);
}

TEST_CASE("files that the link brings after what ends it") {
  Closing closing;
  DirectRig& rig = closing.rig;
  const auto send = [&](const Bytes& bytes, const std::vector<int>& along) {
    REQUIRE(test::send_with(rig.module.get(), bytes, along) == ssize_t(bytes.size()));
  };
  send(DirectRig::about(SMBDIRECT_LINK_CLOSED, 5), {});
  for (uint32_t slot = 0; slot < 3; ++slot)
    send(DirectRig::grant(slot, uint8_t(slot + 1)), {rig.named.fd.get()});
  rig.wait(0);
  CHECK_FALSE(rig.link.up());
  closing.check(3);
}

TEST_CASE("a file that waits counts: none is taken in its place") {
  Closing closing;
  DirectRig& rig = closing.rig;
  rig.descriptors.set_limit(1);
  rig.grant_file(0, 1);
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0));
  closing.disk.until_begun(1);
  rig.grant_file(0, 2, 2);
  CHECK(rig.files.find(DirectRig::request(2)) == nullptr);
  CHECK(rig.shown() == shm::DirectState::full);
  closing.until_gone(1);
  rig.grant_file(1, 3);
  CHECK(rig.files.find(DirectRig::request(3)) != nullptr);
}
