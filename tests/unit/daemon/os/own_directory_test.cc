// SPDX-License-Identifier: MIT
#include "daemon/os/own_directory.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::daemon::check_own_directory;
using smbdirect::daemon::own_directory;
namespace fs = std::filesystem;

namespace {

struct Place {
  std::string path = (fs::temp_directory_path() / "smbdirectd-own-XXXXXX").string();
  Place() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~Place() { fs::remove_all(path); }
};

void refused(const std::string& path, const std::string& says) {
  const auto owned = own_directory(path);
  REQUIRE_FALSE(owned);
  CHECK(owned.error().system_errno == EPERM);
  CHECK_MESSAGE(owned.error().what.find(says) != std::string::npos, owned.error().what);
}

}  // namespace

TEST_CASE("it is made with its parents, for us to write and for nobody else, whatever the umask says") {
  const Place place;
  const mode_t before = umask(0);
  CHECK(own_directory(place.path + "/a/b"));
  umask(before);
  for (const char* part : {"/a", "/a/b"}) {
    struct stat status{};
    REQUIRE(stat((place.path + part).c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0755);
  }
  CHECK(own_directory(place.path + "/a/b/"));  // it is there
  REQUIRE(chmod((place.path + "/a/b").c_str(), 0700) == 0);
  CHECK(own_directory(place.path + "/a/b"));
}

TEST_CASE("one may be made for nobody else to look into, and looked at without being made") {
  const Place place;
  const std::string closed = place.path + "/a/closed";
  CHECK(check_own_directory(closed, "/key").error().system_errno == ENOENT);
  CHECK(own_directory(closed, "/key", 0700));
  CHECK(check_own_directory(closed, "/key"));
  struct stat status{};
  REQUIRE(stat(closed.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0700);
  REQUIRE(stat((place.path + "/a").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);
  REQUIRE(chmod(closed.c_str(), 0777) == 0);
  const auto refused_one = check_own_directory(closed, "/key");
  REQUIRE_FALSE(refused_one);
  CHECK(refused_one.error().system_errno == EPERM);
  CHECK(refused_one.error().what.find("set /key to a directory") != std::string::npos);
}

TEST_CASE("what others may write is refused") {
  const Place place;
  const std::string own = place.path + "/own";
  REQUIRE(own_directory(own));
  SUBCASE("everybody") {
    REQUIRE(chmod(own.c_str(), 0777) == 0);
    refused(own, "mode 0777");
    REQUIRE(chmod(own.c_str(), 01777) == 0);  // sockets could be put there before ours
    refused(own, "mode 1777");
  }
  SUBCASE("a group") {
    if (geteuid() == 0) REQUIRE(chown(own.c_str(), 0, 65534) == 0);
    REQUIRE(chmod(own.c_str(), 0775) == 0);
    refused(own, "mode 0775");
  }
  SUBCASE("by way of a parent") {
    REQUIRE(chmod(place.path.c_str(), 0777) == 0);
    refused(own, "lies in '" + place.path + "'");
    REQUIRE(chmod(place.path.c_str(), 01777) == 0);  // as /tmp
    CHECK(own_directory(own));
  }
  SUBCASE("by way of a parent behind a link") {
    const std::string open = place.path + "/open";
    REQUIRE(own_directory(open + "/own"));
    REQUIRE(chmod(open.c_str(), 0777) == 0);
    fs::create_symlink(open, place.path + "/link");
    refused(place.path + "/link/own", "lies in '" + fs::canonical(open).string() + "'");
  }
}

TEST_CASE("what is another user's, a link, or no directory is refused") {
  const Place place;
  const std::string own = place.path + "/own";
  REQUIRE(own_directory(own));
  fs::create_directory_symlink(own, place.path + "/link");
  refused(place.path + "/link", "is a symbolic link");
  CHECK(own_directory(place.path + "/link/below"));  // the link is ours
  std::ofstream(place.path + "/file") << "x";
  CHECK(own_directory(place.path + "/file").error().system_errno == ENOTDIR);
  CHECK_FALSE(own_directory(place.path + "/file/below"));
  CHECK(own_directory("/proc/none").error().system_errno != EPERM);
  if (geteuid() != 0) {
    MESSAGE("not tried: only root can give a directory to another user");
    return;
  }
  REQUIRE(chown(own.c_str(), 12345, 0) == 0);
  refused(own, "belongs to user 12345");
  REQUIRE(lchown((place.path + "/link").c_str(), 12345, 0) == 0);
  refused(place.path + "/link/below", "a symbolic link of user 12345");
}
