// SPDX-License-Identifier: MIT
#include "daemon/os/pid_file.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>

#include <doctest/doctest.h>

using smbdirect::daemon::PidFile;

namespace {

struct Directory {
  std::string path = (std::filesystem::temp_directory_path() / "smbdirectd-pid-XXXXXX").string();
  Directory() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~Directory() { std::filesystem::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
};

std::string content(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a pid file names its process as long as it is held") {
  const Directory directory;
  const std::string file = directory.path + "/x.pid";
  {
    const auto held = PidFile::hold(file);
    REQUIRE(held);
    CHECK(content(file) == std::to_string(getpid()) + "\n");
    const std::string holder = "is held by process " + std::to_string(getpid()) + ":";
    const auto second = PidFile::hold(file);
    REQUIRE_FALSE(second);
    CHECK(second.error().what.find(holder) != std::string::npos);
    CHECK(content(file) == std::to_string(getpid()) + "\n");  // the loser has changed nothing
  }
  CHECK_FALSE(std::filesystem::exists(file));
}

TEST_CASE("a pid file goes to another process without being free in between") {
  const Directory directory;
  const std::string file = directory.path + "/x.pid";
  const std::string us = std::to_string(getpid()) + "\n";
  auto held = PidFile::hold(file);
  REQUIRE(held);
  {
    // One that is never named has no part in the file.
    const PidFile failed = PidFile::inherit(file, held->copy());
    CHECK_FALSE(PidFile::hold(file));
  }
  CHECK(content(file) == us);
  {
    PidFile heir = PidFile::inherit(file, held->copy());
    std::ofstream(file) << "1234567890123\n";  // whom it names in the test of one process
    REQUIRE(heir.name_us());
    CHECK(content(file) == us);
    held->let_go();
    CHECK_FALSE(PidFile::hold(file));
    {
      const PidFile former = std::move(*held);
    }
    CHECK(content(file) == us);
  }
  CHECK_FALSE(std::filesystem::exists(file));
}

TEST_CASE("what a crash left is taken over, whatever is in it") {
  const Directory directory;
  const std::string file = directory.path + "/x.pid";
  std::ofstream(file) << "1234567890123 and more\n";
  const auto held = PidFile::hold(file);
  REQUIRE(held);
  CHECK(content(file) == std::to_string(getpid()) + "\n");
}

TEST_CASE("a pid file that cannot be is told with its name; one of another's choice is not written to") {
  const Directory directory;
  const auto missing = PidFile::hold(directory.path + "/none/x.pid");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().text() == "pid file '" + directory.path + "/none/x.pid': No such file or directory");
  const std::string target = directory.path + "/target";
  std::ofstream(target) << "kept";
  std::filesystem::create_symlink(target, directory.path + "/link");
  CHECK_FALSE(PidFile::hold(directory.path + "/link"));
  CHECK(content(target) == "kept");
}

TEST_CASE("holding nothing removes nothing") {
  const PidFile none;
  std::optional<PidFile> moved;
  const Directory directory;
  auto held = PidFile::hold(directory.path + "/x.pid");
  REQUIRE(held);
  moved.emplace(std::move(*held));
  held = std::unexpected(smbdirect::shm::Error{"gone", 0});
  CHECK(std::filesystem::exists(directory.path + "/x.pid"));
}
