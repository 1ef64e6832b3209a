// SPDX-License-Identifier: MIT
#include "daemon/control/event_report.h"

#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "shm/base/unique_fd.h"

using namespace smbdirect::daemon;  // NOLINT: a test of one program's parts
namespace shm = smbdirect::shm;
using json = nlohmann::ordered_json;

namespace {

shm::UniqueFd written(const std::string& text) {
  shm::UniqueFd fd(memfd_create("report", MFD_CLOEXEC));
  REQUIRE(write(fd.get(), text.data(), text.size()) == ssize_t(text.size()));
  return fd;
}

}  // namespace

TEST_CASE("a worker's report is put beside its own connections, and beside no other's") {
  const auto report_fd = written(
      R"({"connections":[{"number":1,"events":[{"ago_ms":3,"event":"sent","payload":80}]},{"number":2,"events":[]}]})");
  const json report = read_event_report(report_fd.get());
  REQUIRE(report.is_object());
  json connections = json::parse(
      R"([{"number":1,"worker":0},{"number":1,"worker":1},{"number":2,"worker":1},{"number":2,"worker":0}])");
  add_events(connections, 1, report);
  CHECK(connections[1]["events"][0]["payload"] == 80);
  CHECK(connections[2]["events"] == json::array());
  CHECK_FALSE(connections[0].contains("events"));
  CHECK_FALSE(connections[3].contains("events"));
}

TEST_CASE("what is no report is none, however deep or long it is") {
  const std::string deep = R"({"connections":[{"number":1,"events":)" + std::string(1'000'000, '[') +
                           std::string(1'000'000, ']') + "}]}";
  for (const std::string& text : {std::string(), std::string("{\"connections\":["), deep,
                                  std::string(R"({"connections":[{"number":1,"events":[{"a":{}}]}]})"),
                                  std::string(kMaxReportBytes + 1, ' ')}) {
    INFO(text.size());
    const auto report_fd = written(text);
    CHECK(read_event_report(report_fd.get()).is_discarded());
  }
  json connections = json::parse(R"([{"number":1,"worker":0}])");
  for (const char* odd : {"7", "{}", R"({"connections":7})", R"({"connections":[7,{"number":1}]})"}) {
    add_events(connections, 0, json::parse(odd));
    CHECK_FALSE(connections[0].contains("events"));
  }
}
