// SPDX-License-Identifier: MIT
#include "daemon/os/own_address.h"

#include <doctest/doctest.h>

using smbdirect::daemon::is_own_address;
namespace shm = smbdirect::shm;

TEST_CASE("loopback is this host's, what is for documents is not") {
  const auto own = [](const char* text) {
    return is_own_address(shm::host_of(*shm::address_from_text(text, 445)));
  };
  CHECK(own("127.0.0.1"));
  CHECK(own("127.9.9.9"));
  CHECK_FALSE(own("192.0.2.77"));
  CHECK_FALSE(own("2001:db8::77"));
}
