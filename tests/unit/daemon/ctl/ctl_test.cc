// SPDX-License-Identifier: MIT
// smbdirectctl's words: requests, tables, options, and that its manual has them all.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/build_paths.h"
#include "daemon/ctl/commands.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/render.h"
#include "shm/area_state.h"
#include "shm/base/guid.h"
#include "shm/direct_state.h"

using namespace smbdirect::daemon;  // NOLINT: a test of one program's parts
namespace shm = smbdirect::shm;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::expected<CtlOptions, std::string> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "smbdirectctl");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  return parse_ctl_options(int(words.size()), arguments.data());
}

}  // namespace

TEST_CASE("a request is read back as it was written") {
  for (const CtlRow& row : ctl_table()) {
    for (const bool events : {false, true}) {
      if (events && row.command != CtlCommand::connections) continue;
      const auto argument = row.argument.empty() ? std::nullopt : std::optional<std::string>("7");
      const auto request =
          parse_request(request_text({.command = row.command, .events = events, .argument = argument}));
      REQUIRE(request);
      CHECK(request->argument == argument);
      CHECK(request->command == row.command);
      CHECK(request->events == events);
    }
  }
  for (size_t i = 0; i < ctl_table().size(); ++i) CHECK(size_t(ctl_table()[i].command) == i);
}

TEST_CASE("what changes the pool is for root, and what only shows it is not") {
  // Each by its own name: who adds a command decides it.
  const std::set<std::string_view> shows{"status", "workers", "connections", "clients"};
  for (const CtlRow& row : ctl_table()) CHECK_MESSAGE(row.changes != shows.contains(row.name), row.name);
}

TEST_CASE("what is no request is told what it lacks") {
  const std::vector<std::pair<const char*, const char*>> wrong{
      {"", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{\"command\":", "not a JSON object"},
      {"{}", "has no \"command\""},
      {R"({"command": "stop"})",
       "unknown command; allowed: status, workers, connections, clients, resize, reload, drain, undrain, "
       "kick, leave, take, log-level"},
      {R"({"command": null})", "has the wrong type"},
      {R"({"command": "status", "extra": 1})", "is unknown"},
      {R"({"command": "connections", "events": "yes"})", "has the wrong type"},
      {R"({"command": "resize"})", "the command resize needs an argument, N"},
      {R"({"command": "resize", "argument": 4})", "has the wrong type"},
      {R"({"command": "reload", "argument": "4"})", "the command reload has no argument"},
      {R"({"command": "kick"})", "needs an argument, WHOSE"},
      {R"({"command": "clients", "events": true})", "is allowed only with the command \"connections\""},
  };
  for (const auto& [line, told] : wrong) {
    INFO(line);
    const auto request = parse_request(line);
    REQUIRE_FALSE(request);
    CHECK(has(request.error(), told));
  }
}

TEST_CASE("a table has a line for each, aligned, and a dash for what is not known") {
  const auto text =
      render({.command = CtlCommand::clients},
             R"({"clients":[{"guid":"a","state":"LIVE","addresses":["192.0.2.7","2001:db8::7"],"channels":2,
        "workers":[0,3],"smbd":[],"inline_in":1,"inline_out":22,"rdma_read":333,"rdma_write":null,
        "direct_in":4,"direct_out":5555555555,"direct":["revoked","used"]},
        {"guid":"bb"}]})",
             false);
  REQUIRE(text);
  CHECK(
      *text ==
      "CLIENT_GUID  STATE  ADDRESSES              CHANNELS  WORKERS  SMBD  INLINE_IN  INLINE_OUT  RDMA_READ  "
      "RDMA_WRITE  DIRECT_IN  DIRECT_OUT  DIRECT\n"
      "a            LIVE   192.0.2.7,2001:db8::7  2         0,3      -     1          22          333        "
      "-           4          5555555555  revoked,used\n"
      "bb           -      -                      -         -        -     -          -           -          "
      "-           -          -           -\n");
}

TEST_CASE("names and values, and events") {
  const auto status =
      render({.command = CtlCommand::status}, R"({"status":{"pid":7,"phase":"serving"}})", false);
  REQUIRE(status);
  CHECK(*status == "pid    7\nphase  serving\n");
  const auto connections = render(
      {.command = CtlCommand::connections, .events = true},
      R"({"connections":[{"number":1,"events":[{"ago_ms":12,"event":"sent","payload":80,"send_credits":31},7]}]})",
      false);
  REQUIRE(connections);
  CHECK(has(*connections, "\n    12 ms ago sent payload=80 send_credits=31\n"));
}

TEST_CASE("a sentence, with what the daemon answered") {
  const auto left =
      render({.command = CtlCommand::leave}, R"({"leave":{"address":"192.0.2.1","connections":2}})", false);
  REQUIRE(left);
  CHECK(*left ==
        "2 connections to 192.0.2.1 were ended; new ones are refused until smbdirectctl take 192.0.2.1\n");
  const auto nothing = render({.command = CtlCommand::leave}, R"({"leave":{"address":"\u001b"}})", false);
  REQUIRE(nothing);
  CHECK(nothing->starts_with("- connections to ? were ended; "));
}

TEST_CASE("below the connections stands what their areas' states mean, each once") {
  const auto text = render(
      {.command = CtlCommand::connections},
      R"({"connections":[{"number":1,"area":"off","area_reason":"it is off"},{"number":2,"area":"used","area_reason":null,
        "area_in":5},{"number":3,"area":null},{"number":4,"area":"off","area_reason":"it is off"},
        {"number":5,"area":"lost","area_reason":"it is lost"}]})",
      false);
  REQUIRE(text);
  CHECK(text->ends_with("\n\nAREA off: it is off\nAREA lost: it is lost\n"));
  CHECK_FALSE(has(
      *render({.command = CtlCommand::connections}, R"({"connections":[{"area":"used"}]})", false), "\n\n"));
}

TEST_CASE("what a worker writes moves no cursor of the administrator's, in text or in JSON") {
  const std::string answer =
      "{\"connections\":[{\"number\":1,\"events\":[{\"ago_ms\":1,\"event\":\"\\u001b]0;"
      "title\\u0007\\n\\u009b31m\\u202e\","
      "\"k\\u001b[2J\":\"\\u007f\"}]}]}";
  for (const bool as_json : {false, true}) {
    const auto text = render({.command = CtlCommand::connections, .events = true}, answer, as_json);
    REQUIRE(text);
    for (const char c : *text) {
      if (c != '\n') CHECK((c >= 0x20 && c < 0x7f));
    }
  }
  const auto error = render({.command = CtlCommand::status}, R"({"error":"\u001b[31m"})", false);
  REQUIRE_FALSE(error);
  CHECK(error.error() == "?[31m");
}

TEST_CASE("an answer that makes no sense is an error, the daemon's own too") {
  for (const char* answer : {"", "7", "{}", R"({"clients":7})", R"({"clients":[7]})", R"({"status":[]})"}) {
    CHECK_FALSE(render({.command = CtlCommand::clients}, answer, false));
  }
  const auto refused = render({.command = CtlCommand::status}, R"({"error":"not you"})", false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error() == "not you");
}

TEST_CASE("the command line") {
  const auto all = parse({"--socket", "/x", "--json", "connections", "--events"});
  REQUIRE(all);
  CHECK(all->socket == "/x");
  CHECK(all->json);
  CHECK(all->request.events);
  CHECK(all->request.command == CtlCommand::connections);
  CHECK_FALSE(all->own);
  const auto doctor = parse({"doctor", "--configfile", "/p", "--connect", "/c", "--all", "-s", "/x"});
  REQUIRE(doctor);
  CHECK(doctor->own == OwnCommand::doctor);
  CHECK(doctor->doctor.config_file == "/p");
  CHECK(doctor->doctor.connect_program == "/c");
  CHECK(doctor->doctor.socket == "/x");
  CHECK(doctor->doctor.all);
  CHECK_FALSE(doctor->doctor.smb_conf);
  CHECK(parse({"doctor", "--smb-conf"})->doctor.smb_conf);
  CHECK(parse({"doctor"})->doctor.config_file == kDefaultConfigFile);
  CHECK(parse({"doctor"})->doctor.socket.empty());
  CHECK(parse({"--help"})->help);
  CHECK(parse({"-V"})->version);
  CHECK(parse({"connections", "--ev"})->request.events);
  CHECK(parse({"doctor", "--events"})
            .error()
            .starts_with("--events is allowed only with the command connections; "));
  CHECK(parse({"top", "--once"})->once);
  CHECK(parse({"top"})->own == OwnCommand::top);
  CHECK(parse({"top", "--json"})->json);
  CHECK(parse({"metrics", "--json"})->own == OwnCommand::metrics);
  CHECK(parse({"drain", "7"})->request.argument == "7");
  CHECK_FALSE(parse({"drain"})->request.argument);
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{},
                                             {"fly"},
                                             {"status", "more"},
                                             {"status", "--events"},
                                             {"--nothing"},
                                             {"--socket"},
                                             {"doctor", "--events"},
                                             {"doctor", "x"},
                                             {"status", "--all"},
                                             {"resize"},
                                             {"status", "--once"},
                                             {"metrics", "more"},
                                             {"resize", "x"},
                                             {"resize", "1", "2"},
                                             {"status", "--configfile", "/p"},
                                             {"doctor", "--json", "--smb-conf"}}) {
    CHECK_FALSE(parse(wrong));
  }
}

TEST_CASE("help and manual have every command and option") {
  std::ifstream in(std::string(std::getenv("SOURCE_ROOT")) + "/docs/smbdirectctl.8");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  for (const CtlRow& row : ctl_table()) {
    const std::string macro = row.argument.empty() ? "\n.B " : "\n.BI ";
    CHECK(has(page, macro + std::string(row.name) + (row.argument.empty() ? "\n" : " \" ")));
    CHECK(has(ctl_help_text(), "  " + std::string(row.name) + " "));
  }
  for (const OwnRow& row : own_table()) {
    CHECK(has(page, "\n.B " + std::string(row.name) + "\n"));
    CHECK(has(ctl_help_text(), "  " + std::string(row.name) + " "));
  }
  for (const CtlOptionRow& row : ctl_option_table()) {
    std::string name = "\\-\\-";
    for (const char c : row.name) name += c == '-' ? "\\-" : std::string(1, c);
    INFO(name);
    CHECK(has(page, name));
    if (row.letter != '\0') CHECK(has(page, std::string("\\-") + row.letter + " "));
    CHECK(has(ctl_help_text(), " --" + std::string(row.name) + " "));
  }
}

TEST_CASE("the manual has every state of an area and of direct I/O") {
  std::ifstream in(std::string(std::getenv("SOURCE_ROOT")) + "/docs/smbdirectctl.8");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  const size_t second = page.find("\n.SH DIRECT I/O\n");
  REQUIRE(second != std::string::npos);
  const auto check = [](const std::string& section, const auto& rows) {
    for (const auto& row : rows) {
      std::string name;
      for (const char c : row.name) name += c == '-' ? "\\-" : std::string(1, c);
      if (!name.empty()) CHECK_MESSAGE(has(section, "\n.B " + name + "\n"), row.name);
    }
  };
  check(page.substr(0, second), shm::kAreaStates);
  check(page.substr(second), shm::kDirectStates);
}

TEST_CASE("a GUID is written as Windows writes it") {
  shm::Guid guid{};
  for (size_t i = 0; i < guid.bytes.size(); ++i) guid.bytes[i] = std::byte(i * 0x11);
  CHECK(shm::guid_text(guid) == "33221100-5544-7766-8899-aabbccddeeff");
}
