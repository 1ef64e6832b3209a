// SPDX-License-Identifier: MIT
// The doctor's words and what it reads them from.
#include "daemon/ctl/doctor/doctor.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/ctl/doctor/examination.h"
#include "daemon/ctl/doctor/smb2_negotiate.h"
#include "tests/unit/daemon/ctl/doctor/fake_host.h"

using namespace smbdirect::daemon;          // NOLINT: a test of one program's parts
using namespace smbdirect::daemon::doctor;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("exit status, text and JSON agree") {
  FakeHost host;
  CHECK(diagnose(host, kOptions, false).healthy);
  host.smbd_error = ECONNREFUSED;
  host.set_conf("server signing", "required");
  const Diagnosis told = diagnose(host, kOptions, false);
  CHECK_FALSE(told.healthy);
  CHECK(has(told.text, "\nFAILED   smbd           smbd does not answer at 192.0.2.10:445"));
  CHECK(has(told.text, "\nwarning  signing        "));
  CHECK(has(told.text, "\nnot healthy: 1 failed, "));
  const auto json = nlohmann::json::parse(diagnose(host, kOptions, true).text, nullptr, false);
  REQUIRE(json.contains("doctor"));
  size_t failures = 0;
  for (const auto& one : json["doctor"]) {
    CHECK(one.size() == 4);
    const auto state = one.value("state", "");
    failures += state == "failed" ? 1 : 0;
    CHECK(one.value("fix", "").empty() == (state == "ok" || state == "skipped"));
    CHECK_FALSE(one.value("what", "").empty());
  }
  CHECK(failures == 1);
  for (const CheckRow& row : check_table()) {
    const auto named = [&](const auto& one) { return one.value("name", "") == row.name; };
    CHECK(std::any_of(json["doctor"].begin(), json["doctor"].end(), named));
  }
}

TEST_CASE("what another program says moves no cursor of the administrator's") {
  FakeHost host;
  host.probe_trouble = "no\x1b[31m way\nfix\x07\n";
  host.shares = "[\x1b]0;t]\n\tserver smb encrypt = required\n";
  for (const bool json : {false, true}) {
    for (const char c : diagnose(host, kOptions, json).text) CHECK((c == '\n' || (c >= 0x20 && c < 0x7f)));
  }
}

TEST_CASE("the lines for smb.conf announce the listeners' interfaces and keep the others") {
  FakeHost host;
  host.set_conf("interfaces", "eth0 eth7;speed=5");
  DoctorOptions options = kOptions;
  options.smb_conf = true;
  const Diagnosis told = diagnose(host, options, false);
  CHECK(told.healthy);
  CHECK(has(told.text, "\nserver multi channel support = yes\n"));
  CHECK(has(
      told.text,
      "\ninterfaces = \"eth0;capability=RSS,capability=RDMA,speed=25000000000\" \"eth7;speed=5\" \"lo\"\n"));
  host.files["/sys/class/net/eth0/speed"] = "-1\n";
  CHECK(has(diagnose(host, options, false).text, "supposed for eth0"));
  // Nothing that weakens a host is to be pasted by accident.
  CHECK_FALSE(has(told.text, "\nserver signing"));
  CHECK_FALSE(has(told.text, "\nserver smb encrypt"));
  host.files.clear();
  CHECK_FALSE(diagnose(host, options, false).healthy);
}

TEST_CASE("what the pool does not admit is not tried") {
  FakeHost host;
  host.files["/etc/smbdirectd/pool.json"] =
      R"({"listeners": [{"address": "192.0.2.10", "port": 5445}], "upstream": {"mode": "connect", "address": "127.0.0.1", "allow": ["198.51.100.0/24"]}})";
  const Diagnosis told = diagnose(host, kOptions, true);
  CHECK(host.ran.empty());
  CHECK(has(told.text, "this host is no client of the pool's"));
}

TEST_CASE("a listener's own fabric and address are tried") {
  FakeHost host;
  host.use_verbs();
  CHECK(diagnose(host, kOptions, false).healthy);
  CHECK(host.ran == std::vector<std::string>{"--probe", "--fabric", "verbs", "--to", "192.0.2.10:445"});
}

TEST_CASE("interfaces stand for addresses as Samba takes them") {
  const Host::Address four{FakeHost::host("192.0.2.10"), "eth0"};
  const Host::Address six{FakeHost::host("2001:db8::10"), "ib0"};
  for (const char* name : {"eth0", "eth*", "192.0.2.10", "192.0.2.99/24", "192.0.2.0/255.255.255.0"}) {
    CHECK(AnnouncedInterface{.name = name}.covers(four));
    CHECK_FALSE(AnnouncedInterface{.name = name}.covers(six));
  }
  for (const char* name : {"ib?", "2001:db8::/64", "2001:db8::10"}) {
    CHECK(AnnouncedInterface{.name = name}.covers(six));
    CHECK_FALSE(AnnouncedInterface{.name = name}.covers(four));
  }
  for (const char* name : {"", "eth", "192.0.2.11", "198.51.100.0/24", "192.0.2.128/25"})
    CHECK_FALSE(AnnouncedInterface{.name = name}.covers(four));
}

TEST_CASE("smbd's ports, as every release of Samba writes them") {
  const auto ports = [](const std::string& line) {
    return SmbConf::parse("[global]\n\t" + line + "\n").ports();
  };
  CHECK(ports("smb ports = 445 139") == std::vector<uint16_t>{445, 139});
  CHECK(ports("server smb transports = tcp, nbt") == std::vector<uint16_t>{445, 139});
  CHECK(ports("server smb transports = +quic, 4450, tcp:4451") == std::vector<uint16_t>{4450, 4451});
  CHECK(ports("").empty());
}

TEST_CASE("a NEGOTIATE is a whole one, and only a response to it is taken") {
  std::array<std::byte, 16> guid{};
  guid.fill(std::byte{7});
  std::array<std::byte, 32> salt{};
  salt.fill(std::byte{9});
  const auto request = negotiate_request(guid, salt);
  REQUIRE(request.size() == 4 + 112 + 8 + 6 + 32);
  CHECK(request[4 + 64 + 28] == std::byte{112});
  CHECK(request.back() == std::byte{9});
  CHECK(request[3] == std::byte(request.size() - 4));
  CHECK(request[4 + 64 + 12] == std::byte{7});
  CHECK_FALSE(parse_negotiated(request));  // it is a request
  FakeHost host;
  auto response = *host.exchange({}, {});
  const auto said = parse_negotiated(response);
  REQUIRE(said);
  CHECK(said->dialect == 0x0302);
  CHECK(said->multi_channel);
  CHECK_FALSE(said->signing_required);
  for (size_t size = 0; size < response.size(); ++size)
    CHECK_FALSE(parse_negotiated(std::span(response).first(size)));
}

TEST_CASE("a listener on every address of a family is in the way of one on any of it") {
  const TcpListener four{.host = FakeHost::host("0.0.0.0"), .port = 445}, six{.host = {}, .port = 445};
  CHECK(is_wildcard(four.host));
  CHECK(is_wildcard(six.host));
  CHECK(collides(six, FakeHost::host("2001:db8::1"), 445));
  CHECK(collides(four, FakeHost::host("192.0.2.10"), 445));
  CHECK_FALSE(collides(six, FakeHost::host("192.0.2.10"), 445));
  CHECK_FALSE(collides(four, FakeHost::host("192.0.2.10"), 5445));
}

TEST_CASE("the manual has every check") {
  std::ifstream in(std::string(std::getenv("SOURCE_ROOT")) + "/docs/smbdirectctl.8");
  std::string page{std::istreambuf_iterator<char>(in), {}};
  for (size_t at = page.find("\\-"); at != page.npos; at = page.find("\\-", at)) page.replace(at, 2, "-");
  for (const CheckRow& row : check_table()) {
    INFO(row.name);
    CHECK(has(page, "\n.B " + std::string(row.name) + "\n"));
  }
}
