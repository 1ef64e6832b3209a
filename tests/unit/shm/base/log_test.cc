// SPDX-License-Identifier: MIT
#include "shm/base/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <regex>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace log = smbdirect::shm::log;

namespace {

/// What `action` writes to standard error, which is a pipe meanwhile. Less than a pipe holds.
std::string captured(const std::function<void()>& action) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
  close(ends[1]);
  action();
  dup2(saved, STDERR_FILENO);  // closes the pipe's last writer
  close(saved);
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), size_t(got));
  }
  close(ends[0]);
  return text;
}

std::string stderr_stream_name() {
  struct stat status{};
  fstat(STDERR_FILENO, &status);
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

}  // namespace

TEST_CASE("levels have names both ways") {
  for (const auto level :
       {log::Level::error, log::Level::warning, log::Level::notice, log::Level::info, log::Level::debug}) {
    CHECK(log::level_from_name(log::level_name(level)) == level);
  }
  CHECK_FALSE(log::level_from_name("Info"));
  CHECK_FALSE(log::level_from_name(""));
}

TEST_CASE("a plain line has a time stamp, the tag, the process and the level") {
  const std::string line = captured([] {
    unsetenv("JOURNAL_STREAM");
    log::configure(log::Level::info, "worker 2");
    log::write(log::Level::warning, "%d of %s", 3, "four");
  });
  const std::regex form(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} worker 2\[\d+\] warning: 3 of four\n)");
  CHECK_MESSAGE(std::regex_match(line, form), line);
}

TEST_CASE("the journal gets priorities, if it reads our standard error") {
  const std::string line = captured([] {
    setenv("JOURNAL_STREAM", stderr_stream_name().c_str(), 1);
    log::configure(log::Level::debug, "smbdirectd");
    log::write(log::Level::error, "a");
    log::write(log::Level::warning, "b");
    log::write(log::Level::notice, "c");
    log::write(log::Level::info, "d");
    log::write(log::Level::debug, "e");
  });
  CHECK(line == "<3>smbdirectd: a\n<4>smbdirectd: b\n<5>smbdirectd: c\n<6>smbdirectd: d\n<7>smbdirectd: e\n");
  for (const char* stale : {"1:1", "x", "", ":", "8:", ":9", "99999999999999999999:1"}) {
    const std::string plain = captured([&] {
      setenv("JOURNAL_STREAM", stale, 1);
      log::configure(log::Level::debug, "smbdirectd");
      log::write(log::Level::error, "a");
    });
    CHECK_MESSAGE(plain.starts_with("2"), stale);
  }
  unsetenv("JOURNAL_STREAM");
}

TEST_CASE("what is less important than the level is not written") {
  const std::string text = captured([] {
    log::configure(log::Level::notice, "t");
    log::write(log::Level::info, "hidden");
    log::write(log::Level::notice, "shown");
  });
  CHECK(text.find("hidden") == std::string::npos);
  CHECK(text.find("shown") != std::string::npos);
  CHECK(log::enabled(log::Level::error));
  CHECK_FALSE(log::enabled(log::Level::debug));
}

TEST_CASE("a line stays one line, whatever is quoted in it, and of bounded length") {
  const std::string text = captured([] {
    log::configure(log::Level::info, "t");
    log::write(log::Level::info, "a\nforged\x1b[31m\rline\x7f");
    log::write(log::Level::info, "%s", std::string(10'000, 'x').c_str());
    log::write(log::Level::info, "%s", "");
  });
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
  CHECK(text.find("a?forged?[31m?line?\n") != std::string::npos);
  CHECK(text.find("xxx...\n") != std::string::npos);
  CHECK(text.find('\n', text.find("xxx")) - text.find("xxx") < 4096);
}

TEST_CASE(
    "a reader that does not read stops nobody; what it missed is counted, and told when it reads again") {
  std::array<int, 2> ends{};
  const auto say = [] { log::write(log::Level::debug, "%s", std::string(1000, 'x').c_str()); };
  bool stream = true;
  SUBCASE("a pipe") { REQUIRE(pipe(ends.data()) == 0); }
  SUBCASE("a socket, as the journal's") { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0); }
  SUBCASE("a pipe that was not ours when the log was set up") {
    REQUIRE(pipe(ends.data()) == 0);
    stream = false;
  }
  const int saved = dup(STDERR_FILENO);
  if (!stream) log::configure(log::Level::debug, "t");
  REQUIRE(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
  if (stream) log::configure(log::Level::debug, "t");
  for (int i = 0; i < 3'000; ++i) say();
  std::string text(8 << 20, 0);
  REQUIRE(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
  const auto read_all = [&] {
    std::string all;
    for (ssize_t got = 0; (got = read(ends[0], text.data(), text.size())) > 0;)
      all.append(text, 0, size_t(got));
    return all;
  };
  const std::string first = read_all();
  say();
  say();
  const std::string second = read_all();
  dup2(saved, STDERR_FILENO);
  close(saved);
  close(ends[0]);
  CHECK((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);  // others have it too
  close(ends[1]);
  const auto lines = std::count(first.begin(), first.end(), '\n');
  CHECK(lines < 3'000);
  CHECK(first.ends_with('\n'));  // no half of a line
  CHECK(second.find("[" + std::to_string(3'000 - lines) + " lines before this one were dropped") !=
        std::string::npos);
  CHECK(std::count(second.begin(), second.end(), '[') ==
        3);  // told once; each line has its process in brackets
}

TEST_CASE("lines without end are held back, and counted") {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
  log::configure(log::Level::debug, "t");
  for (uint64_t i = 0; i < 100 * log::kBurst; ++i) log::write(log::Level::warning, "flood");
  log::write(log::Level::error, "another level");
  log::write(log::Level::debug, "what was asked for");
  const auto size = lseek(fileno(file), 0, SEEK_CUR);
  usleep(20'000);
  log::write(log::Level::warning, "later");
  std::string text(size_t(size) + 1000, 0);
  text.resize(size_t(pread(fileno(file), text.data(), text.size(), 0)));
  dup2(saved, STDERR_FILENO);
  close(saved);
  std::fclose(file);
  CHECK(std::count(text.begin(), text.end(), '\n') < long(20 * log::kBurst));
  CHECK(text.find("another level") != std::string::npos);
  CHECK(text.find("what was asked for") != std::string::npos);
  CHECK(text.find(" lines of this level were held back") != std::string::npos);
}

TEST_CASE("errno survives a line") {
  (void)captured([] {
    errno = ENOENT;
    log::write(log::Level::error, "x");
    CHECK(errno == ENOENT);
  });
}

TEST_CASE("one line passes per key and interval, and says how many were held back") {
  log::RateLimit limit(1000, 8);
  CHECK(limit.pass("a", 5000) == 0);
  CHECK_FALSE(limit.pass("a", 5000));
  CHECK_FALSE(limit.pass("a", 5999));
  CHECK(limit.pass("b", 5999) == 0);
  CHECK(limit.pass("a", 6000) == 2);
  CHECK_FALSE(limit.pass("a", 6999));
  CHECK(limit.pass("a", 9000) == 1);
  CHECK(limit.pass("a", 10000) == 0);
}

TEST_CASE("the oldest keys are forgotten beyond the bound") {
  log::RateLimit limit(1000, 2);
  CHECK(limit.pass("a", 1) == 0);
  CHECK(limit.pass("b", 2) == 0);
  CHECK(limit.pass("c", 3) == 0);   // forgets a
  CHECK_FALSE(limit.pass("b", 4));  // still known
  CHECK(limit.pass("a", 5) == 0);   // forgets b, the oldest that passed
  CHECK_FALSE(limit.pass("c", 6));
  CHECK(limit.pass("b", 7) == 0);
}
