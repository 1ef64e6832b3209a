// SPDX-License-Identifier: MIT
// Memory that another process has made: who may write it is asked for, and looked at.
#include "shm/shared_map.h"

#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <fstream>
#include <ios>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace shm = smbdirect::shm;
using shm::SharedMap;
using Writers = shm::SharedMap::Writers;

namespace {

constexpr size_t kBytes = 4096;

shm::UniqueFd memory(int seals, size_t bytes = kBytes) {
  shm::UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(fd.valid());
  REQUIRE(ftruncate(fd.get(), off_t(bytes)) == 0);
  REQUIRE(fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}
constexpr int kSize = F_SEAL_SHRINK | F_SEAL_GROW;

/// What may be done with the pages of a map: "rw-s".
std::string access_to(const SharedMap& map) {
  const auto at = reinterpret_cast<uintptr_t>(map.words().data());
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto begin = std::stoull(line, nullptr, 16);
    const auto end = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
    if (begin <= at && at < end) return line.substr(line.find(' ') + 1, 4);
  }
  return "";
}

}  // namespace

TEST_CASE("everybody's is written by all who have it, and each sees what the others write") {
  const auto fd = memory(kSize);
  auto one = SharedMap::open(fd.get(), kBytes, kBytes, Writers::everybody);
  auto other = SharedMap::open(fd.get(), kBytes, kBytes, Writers::everybody);
  const auto reader = SharedMap::open(fd.get(), kBytes, kBytes, Writers::its_maker);
  REQUIRE((one && other && reader));
  REQUIRE(one->writable().size() == kBytes / 8);
  one->writable()[5] = 7;
  CHECK(other->words()[5] == 7);
  other->writable()[511] = 8;
  CHECK(one->words()[511] == 8);
  CHECK(reader->words()[511] == 8);
  CHECK(one->fd() == -1);
}

TEST_CASE("others' is read only") {
  const auto fd = memory(kSize), another = memory(kSize);
  const auto its_makers = SharedMap::open(fd.get(), kBytes, kBytes, Writers::its_maker);
  const auto everybodys = SharedMap::open(another.get(), kBytes, kBytes, Writers::everybody);
  REQUIRE((its_makers && everybodys));
  CHECK(access_to(*its_makers) == "r--s");
  CHECK(access_to(*everybodys) == "rw-s");
}

TEST_CASE("what could lose its size under a reader, or cannot be written, is refused") {
  const auto refused = [](int seals, Writers writers, size_t bytes = kBytes) {
    const auto fd = memory(seals, bytes);
    return !SharedMap::open(fd.get(), kBytes, kBytes, writers).has_value();
  };
  for (const Writers writers : {Writers::sealed, Writers::its_maker, Writers::everybody}) {
    CHECK(refused(0, writers));
    CHECK(refused(F_SEAL_SHRINK, writers));
    CHECK(refused(F_SEAL_GROW, writers));
    CHECK(refused(kSize, writers, kBytes - 8));
    CHECK(refused(kSize, writers, kBytes + 8));
  }
  CHECK(refused(kSize, Writers::sealed));
  CHECK_FALSE(refused(kSize, Writers::its_maker));
  CHECK_FALSE(refused(kSize, Writers::everybody));
  // Sealed against writers: it is somebody else's.
  CHECK(refused(kSize | F_SEAL_FUTURE_WRITE, Writers::everybody));
  CHECK(refused(kSize | F_SEAL_WRITE, Writers::everybody));
  CHECK_FALSE(refused(kSize | F_SEAL_FUTURE_WRITE, Writers::its_maker));
  CHECK_FALSE(refused(kSize | F_SEAL_FUTURE_WRITE, Writers::sealed));
  CHECK_FALSE(SharedMap::open(-1, kBytes, kBytes, Writers::everybody).has_value());
}
