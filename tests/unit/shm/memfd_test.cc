// SPDX-License-Identifier: MIT
#include "shm/memfd.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace shm = smbdirect::shm;

TEST_CASE("a sealed text arrives whole and cannot be changed") {
  const std::string text(100'000, 'z');
  const auto fd = shm::make_sealed_text("test", text);
  REQUIRE(fd);
  CHECK(shm::read_sealed_text(fd->get(), 200'000) == text);
  CHECK(shm::read_sealed_text(fd->get(), 200'000) == text);  // reading moves nothing
  CHECK(write(fd->get(), "x", 1) < 0);
  CHECK(errno == EPERM);
  CHECK(ftruncate(fd->get(), 1) < 0);
  CHECK(fcntl(fd->get(), F_ADD_SEALS, F_SEAL_WRITE) < 0);
  CHECK((fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
  std::array<char, 4> plain{};
  CHECK(read(fd->get(), plain.data(), plain.size()) == 4);  // one who just reads begins at the start
}

TEST_CASE("what is not a sealed memfd of sane size is refused") {
  const auto large = shm::make_sealed_text("test", "0123456789");
  REQUIRE(large);
  CHECK(shm::read_sealed_text(large->get(), 9).error().system_errno == EFBIG);
  CHECK(shm::read_sealed_text(large->get(), 10).has_value());
  const shm::UniqueFd unsealed(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(shm::read_sealed_text(unsealed.get(), 10).error().what.find("not sealed") != std::string::npos);
  CHECK_FALSE(shm::read_sealed_text(-1, 10));
  const shm::UniqueFd other(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(shm::read_sealed_text(other.get(), 10));
  const auto empty = shm::make_sealed_text("test", "");
  REQUIRE(empty);
  CHECK(shm::read_sealed_text(empty->get(), 10) == "");
}
