// SPDX-License-Identifier: MIT
// Descriptors that a module might pass on as an open file.
#include "workers/smbd/granted_file.h"

#include <array>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "direct_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using smbdirect::workers::session_test::NamedFile;
namespace shm = smbdirect::shm;

TEST_CASE("a regular file is one, for what it is open for") {
  const NamedFile named;
  const auto rights = [&](int flags) {
    const auto granted = look_at_granted(named.open(flags).get());
    REQUIRE(granted);
    return std::array{granted->readable, granted->writable};
  };
  CHECK(rights(O_RDONLY) == std::array{true, false});
  CHECK(rights(O_WRONLY) == std::array{false, true});
  CHECK(rights(O_RDWR) == std::array{true, true});
}

TEST_CASE("what is none") {
  const NamedFile named;
  const auto refused = [](const shm::UniqueFd& fd) {
    REQUIRE(fd.valid());
    const auto granted = look_at_granted(fd.get());
    return granted ? std::string() : std::string(granted.error());
  };
  const auto opened = [](const char* path, int flags) {
    return shm::UniqueFd(::open(path, flags | O_CLOEXEC));
  };
  CHECK(refused(named.open(O_RDWR)).empty());
  CHECK(refused(named.open(O_PATH)) == "a path instead of an open file");
  CHECK(refused(named.open(O_RDWR | O_APPEND)) == "a file that is open for appending");
  CHECK(refused(opened("/tmp", O_RDONLY | O_DIRECTORY)) == "what is no regular file");
  CHECK(refused(opened("/dev/null", O_RDWR)) == "what is no regular file");
  const auto sockets = smbdirect::test::socket_pair();
  CHECK(refused(sockets.first) == "what is no regular file");
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const shm::UniqueFd reader(ends[0]), writer(ends[1]);
  CHECK(refused(reader) == "what is no regular file");
  CHECK(refused(shm::UniqueFd(memfd_create("file", MFD_CLOEXEC))) == "a file without a name");
  const shm::UniqueFd closed;
  CHECK_FALSE(look_at_granted(closed.get()));
}

TEST_CASE("a file in memory is told from one that a disk may have to bring") {
  const NamedFile memory("/dev/shm");
  const auto granted = look_at_granted(memory.fd.get());
  REQUIRE(granted);
  CHECK(granted->never_blocks);
  CHECK(granted->closes_at_once);
  const shm::UniqueFd system(::open("/proc/version", O_RDONLY | O_CLOEXEC));
  const auto other = look_at_granted(system.get());
  REQUIRE(other);
  CHECK_FALSE(other->never_blocks);
  CHECK_FALSE(other->closes_at_once);  // it has no flags of a disk's
}
