// SPDX-License-Identifier: MIT
#include "shm/area.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace shm = smbdirect::shm;

TEST_CASE("an area has its size for good, belongs to no program that is started, and begins with zeros") {
  constexpr size_t kBytes = 3u << 20;
  const auto area = shm::make_area(kBytes);
  REQUIRE(area);
  struct stat status{};
  REQUIRE(fstat(area->get(), &status) == 0);
  CHECK(size_t(status.st_size) == kBytes);
  CHECK(status.st_blocks == 0);  // no page was touched
  CHECK((fcntl(area->get(), F_GETFD) & FD_CLOEXEC) != 0);
  for (const off_t other : {off_t(0), off_t(kBytes - 1), off_t(kBytes + 1)}) {
    CHECK(ftruncate(area->get(), other) < 0);
    CHECK(errno == EPERM);
  }
  CHECK(fcntl(area->get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0);  // nobody takes writing away either
  CHECK(fcntl(area->get(), F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

TEST_CASE("what one maps and writes the other sees, and each page is there to the last byte") {
  constexpr size_t kBytes = 64 * 1024;
  const auto area = shm::make_area(kBytes);
  REQUIRE(area);
  const auto map = [&] {
    return static_cast<unsigned char*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, area->get(), 0));
  };
  unsigned char* ours = map();
  unsigned char* theirs = map();
  REQUIRE(ours != MAP_FAILED);
  REQUIRE(theirs != MAP_FAILED);
  CHECK(theirs[kBytes - 1] == 0);
  ours[kBytes - 1] = 7;
  CHECK(theirs[kBytes - 1] == 7);
  munmap(ours, kBytes);
  munmap(theirs, kBytes);
}

TEST_CASE("an area of a size that no file has is an error") { CHECK_FALSE(shm::make_area(size_t(1) << 63)); }

TEST_CASE("huge pages are there one after the other and for good, or none is") {
  CHECK_FALSE(shm::HugeArea::begin(4096));  // no huge page is so small
  constexpr size_t kBytes = 4u << 20;
  auto area = shm::HugeArea::begin(kBytes);
  if (!area) {  // as on most systems: none are set aside
    CHECK(area.error().system_errno != 0);
    return;
  }
  for (const bool all : {false, true}) {
    const auto done = area->step();
    REQUIRE(done);
    CHECK(*done == all);
  }
  const shm::UniqueFd fd = area->take();
  struct stat status{};
  REQUIRE(fstat(fd.get(), &status) == 0);
  CHECK(size_t(status.st_size) == kBytes);
  CHECK(size_t(status.st_blocks) * 512 == kBytes);
  CHECK(ftruncate(fd.get(), 0) < 0);
  CHECK(errno == EPERM);
  CHECK(fcntl(fd.get(), F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}
