// SPDX-License-Identifier: MIT
// Files whose close takes long: whoever lets go of them goes on, and they count until they are gone.
#include "workers/memory/file_closer.h"

#include <optional>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "slow_disk.h"
#include "tests/unit/unix_sockets.h"
#include "workers/memory/slab.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

namespace {

shm::UniqueFd file() { return shm::UniqueFd(::memfd_create("file", MFD_CLOEXEC)); }

struct Rig {
  ~Rig() { disk.let_go(); }
  [[nodiscard]] OpenFile open() {
    REQUIRE(descriptors.charge(1));
    return {*closer, file(), descriptors};
  }
  void until_gone(const Budget& budget) {
    for (int turns = 0; budget.used() > 0; ++turns) {
      REQUIRE(turns < 100'000);
      ::usleep(100);
      closer->reclaim();
    }
  }

  SlowDisk disk;
  Budget descriptors{1000}, mapped{1 << 30};
  std::optional<FileCloser> closer{std::in_place, [this](FileCloser::File& file) {
                                     disk.close();
                                     FileCloser::let_go(file);
                                   }};
};

}  // namespace

TEST_CASE("files are closed in a thread, one after the other, and count until they are") {
  Rig rig;
  REQUIRE(rig.closer->start());
  const size_t before = test::open_descriptors();
  for (int i = 0; i < 3; ++i) rig.open().reset();
  rig.disk.until_begun(1);
  CHECK(test::open_descriptors() == before + 3);
  rig.closer->reclaim();
  CHECK(rig.descriptors.used() == 3);
  rig.disk.let_go();
  rig.until_gone(rig.descriptors);
  CHECK(rig.disk.begun() == 3);
  CHECK(test::open_descriptors() == before);
  rig.open().reset();  // the thread rests by now, or soon
  rig.until_gone(rig.descriptors);
  CHECK(test::open_descriptors() == before);
  CHECK(rig.disk.by_loop() == 0);
}

TEST_CASE("so are windows, whoever has them last") {
  Rig rig;
  REQUIRE(rig.closer->start());
  const shm::UniqueFd fd = file();
  REQUIRE(::ftruncate(fd.get(), 1 << 20) == 0);
  SlabRef window = map_file(fd.get(), 0, 1 << 20, rig.mapped, *rig.closer);
  REQUIRE(window);
  SlabRef sent = window.share();
  window.reset();
  CHECK(rig.mapped.used() == 1 << 20);
  CHECK(sent.bytes()[12345] == std::byte{});
  std::byte* at = sent.bytes().data();
  sent.reset();
  rig.disk.until_begun(1);
  CHECK(::msync(at, 1 << 20, MS_ASYNC) == 0);  // there is memory
  CHECK_FALSE(map_file(fd.get(), 0, 1 << 30, rig.mapped, *rig.closer));
  rig.disk.let_go();
  rig.until_gone(rig.mapped);
  CHECK(::msync(at, 1 << 20, MS_ASYNC) != 0);
  CHECK(rig.disk.by_loop() == 0);
}

TEST_CASE("of those that were never taken some wait, and more are closed at once") {
  Rig rig;
  REQUIRE(rig.closer->start());
  const size_t before = test::open_descriptors();
  rig.closer->close({});
  for (int i = 0; i < 200; ++i) rig.closer->close(file());
  CHECK(test::open_descriptors() == before + 64);
  rig.disk.let_go();
  for (int turns = 0; test::open_descriptors() > before; ++turns) {
    REQUIRE(turns < 100'000);
    ::usleep(100);
  }
  CHECK(rig.disk.begun() == 64);
}

TEST_CASE("without a thread all is closed at once") {
  Rig rig;
  const size_t before = test::open_descriptors();
  OpenFile taken = rig.open();
  OpenFile moved = std::move(taken);
  CHECK(taken.get() < 0);
  CHECK(moved.get() >= 0);
  rig.closer->close(file());
  CHECK(test::open_descriptors() == before + 1);
  moved.reset();
  moved.reset();
  CHECK(rig.descriptors.used() == 0);
  CHECK(test::open_descriptors() == before);
}

TEST_CASE("at the end nothing is left") {
  Rig rig;
  REQUIRE(rig.closer->start());
  const size_t before = test::open_descriptors();
  std::vector<OpenFile> files;
  for (int i = 0; i < 3; ++i) files.push_back(rig.open());
  files.clear();
  rig.disk.until_begun(1);
  rig.closer->close(file());
  rig.disk.let_go();
  rig.closer.reset();
  CHECK(rig.descriptors.used() == 0);
  CHECK(test::open_descriptors() == before);
}
