// SPDX-License-Identifier: MIT
#include "workers/connect/options.h"

#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"

namespace smbdirect::workers::connect {

namespace {

smbdirect::shm::Result<Options> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "smbdirect-connect");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return parse_options(static_cast<int>(words.size()), argv.data());
}

std::string refusal(std::vector<std::string> words) {
  const auto parsed = parse(std::move(words));
  return parsed ? "accepted" : parsed.error().text();
}

/// `word` as a manual page's source writes it.
std::string in_roff(const std::string& word) {
  std::string out;
  for (const char c : word) out += c == '-' ? std::string("\\-") : std::string(1, c);
  return out;
}

std::string manual_page() {
  std::ifstream file(SMBDIRECT_CONNECT_MANUAL);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::vector<std::string> kServe = {"--listen", "0", "--to", "127.0.0.1:5445"};

std::vector<std::string> serve_with(std::vector<std::string> more) {
  more.insert(more.begin(), kServe.begin(), kServe.end());
  return more;
}

}  // namespace

TEST_CASE("defaults: loopback, the iWARP port, inline data, CRC on") {
  const auto options = parse({"--listen", "4450", "--to", "127.0.0.1"});
  REQUIRE(options);
  CHECK(options->mode == Options::Mode::serve);
  CHECK(shm::address_text(*options->listen) == "127.0.0.1:4450");
  CHECK(shm::address_text(options->to.front()) == "127.0.0.1:5445");
  CHECK_FALSE(options->source);
  CHECK(options->fabric == FabricKind::iwarp);
  CHECK_FALSE(options->rdma_io);
  CHECK(options->threshold == 4096);
  CHECK(options->iwarp.want_crc);
  CHECK(options->iwarp.mpa_revision == 2);
  CHECK(options->stats == Options::Stats::off);
}

TEST_CASE("the port follows the fabric, wherever on the line it stands, unless it is given") {
  const auto to = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"--probe"});
    return shm::address_text(parse(std::move(words))->to.front());
  };
  CHECK(to({"--to", "127.0.0.1", "--fabric", "iwarp"}) == "127.0.0.1:5445");
  CHECK(to({"--to", "127.0.0.1", "--fabric", "verbs"}) == "127.0.0.1:445");
  CHECK(to({"--fabric=verbs", "--to=::1"}) == "[::1]:445");
  CHECK(to({"--fabric=verbs", "--to=127.0.0.1:5445"}) == "127.0.0.1:5445");
}

TEST_CASE("what is asked for reaches the fabric") {
  const auto options =
      parse({"--probe", "--to=127.0.0.1", "--source=127.0.0.2", "--fabric=verbs", "--mpa=1"});
  REQUIRE(options);
  const Target target = options->target();
  CHECK(target.fabric == FabricKind::verbs);
  CHECK(shm::address_text(target.to.front()) == "127.0.0.1:445");
  CHECK(shm::address_text(*target.source) == "127.0.0.2:0");
  CHECK(target.iwarp.mpa_revision == 1);
  CHECK(target.verbs.max_receive_work > options->limits.receive_credit_max);
  CHECK(target.verbs.max_inbound_reads > 0);  // or the server could fetch nothing
}

TEST_CASE("every option reaches its place") {
  const auto options =
      parse({"--listen=[::1]:0", "--to=[::1]:445", "--source=::1", "--fabric=verbs", "--rdma-io",
             "--threshold=1", "--crc=off", "--mpa=1", "--max-send-size=1364", "--max-receive-size=128",
             "--max-fragmented-size=131072", "--max-read-write-size=1048576", "--credits=5",
             "--max-connections=3", "--stats=json", "--progress", "--exit-when-idle", "--log-level=debug"});
  REQUIRE_MESSAGE(options, options.error().text());
  CHECK(shm::address_text(*options->listen) == "[::1]:0");
  CHECK(shm::address_text(options->to.front()) == "[::1]:445");
  CHECK(shm::address_text(*options->source) == "[::1]:0");
  CHECK(options->fabric == FabricKind::verbs);
  CHECK(options->rdma_io);
  CHECK(options->threshold == 1);
  CHECK_FALSE(options->iwarp.want_crc);
  CHECK(options->iwarp.mpa_revision == 1);
  CHECK(options->limits.max_send_size == 1364);
  CHECK(options->limits.max_receive_size == 128);
  CHECK(options->limits.max_fragmented_size == 131072);
  CHECK(options->limits.max_read_write_size == 1048576);
  CHECK(options->limits.receive_credit_max == 5);
  CHECK(options->limits.receive_credit_initial == 5);
  CHECK(options->limits.send_credit_target == 5);
  CHECK(options->max_connections == 3);
  CHECK(options->stats == Options::Stats::json);
  CHECK(options->progress);
  CHECK(options->exit_when_idle);
  CHECK(options->log_level == smbdirect::shm::log::Level::debug);
}

TEST_CASE("--stats alone is a table; --probe needs no --listen; help wins over what is missing") {
  CHECK(parse(serve_with({"--stats"}))->stats == Options::Stats::text);
  CHECK(parse({"--probe", "--to", "127.0.0.1"})->mode == Options::Mode::probe);
  CHECK(parse({"-h"})->mode == Options::Mode::help);
  CHECK(parse({"--version"})->mode == Options::Mode::version);
}

TEST_CASE("a wrong command line is refused with the option, what is wrong and what is allowed") {
  CHECK(refusal({"--listen", "0"}).find("--to ADDR:PORT") != std::string::npos);
  CHECK(refusal({"--to", "127.0.0.1"}).find("--listen PORT") != std::string::npos);
  CHECK(refusal({"--listen", "127.0.0.1", "--to", "127.0.0.1"}).find("has no port") != std::string::npos);
  CHECK(refusal({"--listen", "70000", "--to", "127.0.0.1"}).find("0 to 65535") != std::string::npos);
  CHECK(refusal({"--listen", "[::1", "--to", "127.0.0.1"}).find("]") != std::string::npos);
  CHECK(refusal(serve_with({"--threshold", "4k"})).find("--threshold: \"4k\" is not a number") !=
        std::string::npos);
  CHECK(refusal(serve_with({"--threshold", "0"})).find("from 1 to") != std::string::npos);
  CHECK(refusal(serve_with({"--max-receive-size", "127"})).find("from 128 to") != std::string::npos);
  CHECK(refusal(serve_with({"--max-fragmented-size", "16777216"})).find("16777215") != std::string::npos);
  CHECK(refusal(serve_with({"--credits", "256"})).find("from 1 to 255") != std::string::npos);
  CHECK(refusal(serve_with({"--credits", "-1"})).find("not a number") != std::string::npos);
  CHECK(refusal(serve_with({"--mpa", "3"})).find("from 1 to 2") != std::string::npos);
  CHECK(refusal(serve_with({"--fabric", "roce"})).find("neither iwarp nor verbs") != std::string::npos);
  CHECK(refusal(serve_with({"--crc", "maybe"})).find("neither on nor off") != std::string::npos);
  CHECK(refusal(serve_with({"--stats=xml"})).find("neither text nor json") != std::string::npos);
  CHECK(refusal(serve_with({"--log-level", "loud"})).find("is not error") != std::string::npos);
  CHECK(refusal(serve_with({"--bogus"})).find("--bogus: unknown") != std::string::npos);
  CHECK(refusal(serve_with({"--threshold"})).find("argument is missing") != std::string::npos);
  CHECK(refusal(serve_with({"extra"})).find("extra: not expected") != std::string::npos);
  CHECK(refusal(serve_with({"--source", "::1"})).find("both") != std::string::npos);
}

TEST_CASE("the manual page and --help have every option") {
  const std::string manual = manual_page();
  REQUIRE(manual.size() > 1000);
  const std::string help = help_text();
  for (const OptionRow& row : option_table()) {
    CAPTURE(row.name);
    const std::string name = std::string("--") + row.name;
    CHECK(help.find(name) != std::string::npos);
    // As the tag of a paragraph of its own.
    const std::string tag = in_roff(name);
    bool tagged = false;
    for (size_t at = manual.find(".TP\n"); at != std::string::npos; at = manual.find(".TP\n", at + 1)) {
      const std::string line = manual.substr(at + 4, manual.find('\n', at + 4) - at - 4);
      const size_t found = line.find(tag);
      if (found == std::string::npos) continue;
      const char next = found + tag.size() < line.size() ? line[found + tag.size()] : ' ';
      tagged = tagged || (next != '\\' && std::isalnum(static_cast<unsigned char>(next)) == 0);
    }
    CHECK(tagged);
  }
}

TEST_CASE("--help fits a terminal") {
  const std::string help = help_text();
  size_t begin = 0;
  for (size_t end = help.find('\n'); end != std::string::npos; end = help.find('\n', begin)) {
    CAPTURE(help.substr(begin, end - begin));
    CHECK(end - begin <= 100);
    begin = end + 1;
  }
}

}  // namespace smbdirect::workers::connect
