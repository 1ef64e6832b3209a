// SPDX-License-Identifier: MIT
#include "daemon/os/sd_notify.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::daemon::SdNotify;
using smbdirect::shm::UniqueFd;

namespace {

/// systemd's end, at an abstract name of this process.
struct Receiver {
  std::string name = "@smbdirectd-test-" + std::to_string(getpid());
  UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  Receiver() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
    const auto length = socklen_t(offsetof(sockaddr_un, sun_path) + name.size());
    REQUIRE(bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0);
  }
  std::string next() {
    std::array<char, 512> text{};
    const ssize_t got = recv(socket.get(), text.data(), text.size(), 0);
    return got < 0 ? "nothing" : std::string(text.data(), size_t(got));
  }
};

size_t descriptors() {
  const auto list = std::filesystem::directory_iterator("/proc/self/fd");
  return size_t(std::distance(begin(list), end(list)));
}

}  // namespace

TEST_CASE("systemd hears of readiness, status and the end") {
  Receiver systemd;
  SdNotify notify(systemd.name.c_str());
  notify.status("1 of 2");
  CHECK(systemd.next() == "STATUS=1 of 2");
  notify.status("1 of 2");
  CHECK(systemd.next() == "nothing");  // no news
  notify.ready("listening");
  CHECK(systemd.next() == "READY=1\nSTATUS=listening");
  notify.stopping("bye");
  CHECK(systemd.next() == "STOPPING=1\nSTATUS=bye");
}

TEST_CASE("systemd hears of another process from the former one, which says nothing more") {
  Receiver systemd;
  SdNotify former(systemd.name.c_str());
  SdNotify heir(systemd.name.c_str());
  heir.quiet(true);
  heir.status("1 of 2");
  heir.alive();
  CHECK(systemd.next() == "nothing");
  former.handed_over(4711);
  CHECK(systemd.next() == "MAINPID=4711");
  former.alive();
  former.stopping("bye");
  CHECK(systemd.next() == "nothing");
  heir.quiet(false);
  heir.status("1 of 2");  // it was not told before
  CHECK(systemd.next() == "STATUS=1 of 2");
}

TEST_CASE("systemd hears that the loop runs, as often as it asked for") {
  using smbdirect::daemon::watchdog_interval_ms;
  Receiver systemd;
  SdNotify notify(systemd.name.c_str());
  notify.alive();
  CHECK(systemd.next() == "WATCHDOG=1");
  constexpr pid_t kSelf = 4711;
  CHECK(watchdog_interval_ms("30000000", nullptr, kSelf) == 15'000);
  CHECK(watchdog_interval_ms("30000000", "4711", kSelf) == 15'000);
  CHECK(watchdog_interval_ms("1", nullptr, kSelf) == 1);  // never as fast as it can
  CHECK(watchdog_interval_ms("30000000", "4712", kSelf) == 0);
  CHECK(watchdog_interval_ms("30000000", "x", kSelf) == 0);
  for (const char* none :
       {static_cast<const char*>(nullptr), "", "0", "-1", "x", "30s", "99999999999999999999"})
    CHECK(watchdog_interval_ms(none, nullptr, kSelf) == 0);
}

TEST_CASE("without a usable address nobody is told: there is no socket to tell by") {
  const std::string too_long = "/" + std::string(200, 'x');
  for (const char* address :
       {static_cast<const char*>(nullptr), "", "/", "@", "relative", "vsock:2:1", too_long.c_str()}) {
    CAPTURE(address);
    const size_t before = descriptors();
    SdNotify notify(address);
    notify.ready("x");
    CHECK(descriptors() == before);
  }
}

TEST_CASE("one who listens no more is not waited for, and his successor hears what comes then") {
  std::optional<Receiver> systemd(std::in_place);
  SdNotify notify(systemd->name.c_str());
  systemd.reset();
  notify.ready("lost");
  systemd.emplace();
  notify.stopping("heard");
  CHECK(systemd->next() == "STOPPING=1\nSTATUS=heard");
}
