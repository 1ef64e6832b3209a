// SPDX-License-Identifier: MIT
#include "daemon/os/sd_notify.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <sys/socket.h>
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

TEST_CASE("without a usable address nobody is told") {
  for (const char* address : {static_cast<const char*>(nullptr), "", "/", "@", "relative", "vsock:2:1"}) {
    SdNotify notify(address);
    notify.ready("x");
  }
  SdNotify too_long(("/" + std::string(200, 'x')).c_str());
  too_long.ready("x");
  SdNotify gone("/nonexistent/notify");
  gone.ready("x");
}
