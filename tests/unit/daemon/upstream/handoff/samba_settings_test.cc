// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/samba_settings.h"

#include <doctest/doctest.h>

using namespace smbdirect::daemon;
using Names = std::vector<std::string>;

TEST_CASE("sections with durable handles are found in testparm's output") {
  CHECK(sections_with_durable_handles("").empty());
  CHECK(sections_with_durable_handles("# Global parameters\n[global]\n\tserver string = durable handles\n\n\n"
                                      "[a]\n\tpath = /srv/a\n\tdurable handles = No\n")
            .empty());
  CHECK(sections_with_durable_handles("[global]\n\tdurable handles = Yes\n[homes]\n\tpath = /x\n"
                                      "[two words]\n\tDurable Handles=true\n[c]\n\tdurable handles = 1") ==
        Names{"global", "two words", "c"});
  CHECK(sections_with_durable_handles("durable handles = yes") == Names{"global"});
}

TEST_CASE("settings come from testparm, and its refusal is told") {
  Samba samba{.testparm = "/bin/echo", .smb_conf = "/etc/x.conf"};
  // echo repeats its arguments: not what a pid directory looks like.
  const auto directory = samba.pid_directory();
  REQUIRE_FALSE(directory);
  CHECK(directory.error().text().contains("\"-s --parameter-name=pid directory /etc/x.conf\""));

  samba.testparm = "/bin/false";
  CHECK(samba.check_durable_handles().error().text().contains("does not accept /etc/x.conf"));
  samba.testparm = "/nonexistent/testparm";
  CHECK(samba.check_durable_handles().error().text().contains("set /upstream/handoff/testparm"));
}
