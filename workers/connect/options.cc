// SPDX-License-Identifier: MIT
#include "workers/connect/options.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <string_view>
#include <vector>

#include "shm/base/socket_address.h"
#include "workers/connect/address.h"

namespace smbdirect::workers::connect {

namespace {

using Argument = OptionRow::Argument;

constexpr uint32_t kMaxMessage = 1u << 20;
constexpr uint32_t kMaxReadWrite = 8u << 20;
// The length word in front of a message on the TCP side has 24 bits.
constexpr uint32_t kMaxFragmented = (1u << 24) - 1;

shm::Result<uint32_t> number(const char* value, uint32_t least, uint32_t most) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long parsed = std::strtoull(value, &end, 10);
  if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || parsed < least || parsed > most) {
    return shm::fail("\"" + std::string(value) + "\" is not a number from " + std::to_string(least) + " to " +
                     std::to_string(most));
  }
  return static_cast<uint32_t>(parsed);
}

template <class Target>
shm::Result<> store_number(Target& target, const char* value, uint32_t least, uint32_t most) {
  const auto parsed = number(value, least, most);
  if (!parsed) return std::unexpected(parsed.error());
  target = static_cast<Target>(*parsed);
  return {};
}

shm::Result<> store_address(std::optional<sockaddr_storage>& target, const char* value,
                            const AddressDefaults& defaults) {
  const auto parsed = parse_address(value, defaults);
  if (!parsed) return std::unexpected(parsed.error());
  target = *parsed;
  return {};
}

shm::Result<> store_addresses(std::vector<sockaddr_storage>& target, const char* value,
                              const AddressDefaults& defaults) {
  auto parsed = parse_addresses(value, defaults);
  if (!parsed) return std::unexpected(parsed.error());
  target = std::move(*parsed);
  return {};
}

shm::Result<> set_fabric(Options& o, const char* value) {
  const auto kind = fabric_from_name(value);
  if (!kind) return shm::fail("\"" + std::string(value) + "\" is neither iwarp nor verbs");
  o.fabric = *kind;
  return {};
}

shm::Result<> set_crc(Options& o, const char* value) {
  const std::string_view word = value;
  if (word != "on" && word != "off") return shm::fail("\"" + std::string(word) + "\" is neither on nor off");
  o.iwarp.want_crc = word == "on";
  return {};
}

shm::Result<> set_credits(Options& o, const char* value) {
  const auto parsed = number(value, 1, 255);
  if (!parsed) return std::unexpected(parsed.error());
  const auto credits = static_cast<uint16_t>(*parsed);
  // One more receive than is granted must be possible (MS-SMBD 3.1.5.9).
  o.limits.receive_credit_max = std::max<uint16_t>(2, credits);
  o.limits.send_credit_target = credits;
  o.limits.receive_credit_initial = std::min(o.limits.receive_credit_initial, credits);
  return {};
}

shm::Result<> set_stats(Options& o, const char* value) {
  const std::string_view word = value == nullptr ? "text" : value;
  if (word != "text" && word != "json") {
    return shm::fail("\"" + std::string(word) + "\" is neither text nor json");
  }
  o.stats = word == "json" ? Options::Stats::json : Options::Stats::text;
  return {};
}

shm::Result<> set_log_level(Options& o, const char* value) {
  const auto level = shm::log::level_from_name(value);
  if (!level) {
    return shm::fail("\"" + std::string(value) + "\" is not error, warning, notice, info or debug");
  }
  o.log_level = *level;
  return {};
}

template <auto Member, auto Value>
shm::Result<> set_to(Options& o, const char*) {
  o.*Member = Value;
  return {};
}

// clang-format off
constexpr OptionRow kTable[] = {
    {"listen", 0, Argument::required, "[ADDR:]PORT",
     "TCP address for SMB clients to connect to; loopback unless ADDR\nis given; port 0 is any free port",
     [](Options& o, const char* v) { return store_address(o.listen, v, {.host = "127.0.0.1", .lone_number_is_port = true}); }},
    {"to", 0, Argument::required, "ADDR[:PORT]",
     "the SMB Direct server (default port 5445 on iwarp, 445 on verbs);\nevery address of a name is tried",
     [](Options& o, const char* v) { return store_addresses(o.to, v, {.port = "0"}); }},
    {"source", 0, Argument::required, "ADDR[:PORT]",
     "local address of the connections to the server",
     [](Options& o, const char* v) { return store_address(o.source, v, {.port = "0"}); }},
    {"fabric", 0, Argument::required, "iwarp|verbs",
     "how to reach the server: iWARP in userspace over TCP, or an RDMA\ndevice of this machine (iwarp)", set_fabric},
    {"rdma-io", 0, Argument::none, nullptr,
     "move the data of unsigned, unencrypted READ and WRITE by RDMA",
     set_to<&Options::rdma_io, true>},
    {"threshold", 0, Argument::required, "BYTES",
     "smallest READ and WRITE that --rdma-io moves by RDMA (4096)",
     [](Options& o, const char* v) { return store_number(o.threshold, v, 1, kMaxReadWrite); }},
    {"crc", 0, Argument::required, "on|off",
     "ask for CRC32C on the iWARP connection (on)", set_crc},
    {"mpa", 0, Argument::required, "1|2",
     "revision of the iWARP set-up (2)",
     [](Options& o, const char* v) { return store_number(o.iwarp.mpa_revision, v, 1, 2); }},
    {"max-send-size", 0, Argument::required, "BYTES",
     "largest SMB Direct message to send (8192)",
     [](Options& o, const char* v) { return store_number(o.limits.max_send_size, v, 128, kMaxMessage); }},
    {"max-receive-size", 0, Argument::required, "BYTES",
     "largest SMB Direct message to receive (8192)",
     [](Options& o, const char* v) { return store_number(o.limits.max_receive_size, v, 128, kMaxMessage); }},
    {"max-fragmented-size", 0, Argument::required, "BYTES",
     "largest SMB2 response that may come in fragments (8519680)",
     [](Options& o, const char* v) { return store_number(o.limits.max_fragmented_size, v, 131072, kMaxFragmented); }},
    {"max-read-write-size", 0, Argument::required, "BYTES",
     "largest READ and WRITE that --rdma-io moves by RDMA (8388608)",
     [](Options& o, const char* v) { return store_number(o.limits.max_read_write_size, v, 4096, kMaxReadWrite); }},
    {"credits", 0, Argument::required, "N",
     "most messages in flight in each direction (255)", set_credits},
    {"max-connections", 0, Argument::required, "N",
     "SMB clients served at once (256)",
     [](Options& o, const char* v) { return store_number(o.max_connections, v, 1, 65536); }},
    {"probe", 0, Argument::none, nullptr,
     "connect to the server, print what was agreed, and exit with\n0 when SMB Direct works, 1 when it does not",
     set_to<&Options::mode, Options::Mode::probe>},
    {"stats", 0, Argument::optional, "text|json",
     "at the end print on standard output what was moved and how", set_stats},
    {"progress", 0, Argument::none, nullptr,
     "print a line on standard error each second while data moves",
     set_to<&Options::progress, true>},
    {"exit-when-idle", 0, Argument::none, nullptr,
     "end when the last client has gone",
     set_to<&Options::exit_when_idle, true>},
    {"log-level", 0, Argument::required, "LEVEL",
     "error, warning, notice, info or debug (notice)", set_log_level},
    {"version", 'V', Argument::none, nullptr,
     "print the version and exit",
     set_to<&Options::mode, Options::Mode::version>},
    {"help", 'h', Argument::none, nullptr,
     "print this and exit",
     set_to<&Options::mode, Options::Mode::help>},
};
// clang-format on

constexpr int kFirstValue = 256;  // of long options; below are letters
constexpr char kSeeHelp[] = "; smbdirect-connect --help lists the options";

std::string written(const OptionRow& row) {
  std::string out = row.letter != 0 ? std::string("-") + row.letter + ", --" : std::string("    --");
  out += row.name;
  if (row.argument == Argument::required) out += std::string(" ") + row.argument_name;
  if (row.argument == Argument::optional) out += std::string("[=") + row.argument_name + "]";
  return out;
}

/// Once all is known that a default depends on.
void settle(Options& o) {
  for (sockaddr_storage& to : o.to) {
    if (shm::port_of(to) == 0) shm::set_port(to, fabric_row(o.fabric).port);
  }
  // Of a name's addresses those that --source can reach.
  const auto reached = [&](const sockaddr_storage& to) { return to.ss_family == o.source->ss_family; };
  if (o.source && std::ranges::any_of(o.to, reached))
    std::erase_if(o.to, [&](const auto& to) { return !reached(to); });
}

shm::Result<> check(const Options& o) {
  if (o.mode == Options::Mode::help || o.mode == Options::Mode::version) return {};
  if (o.to.empty())
    return shm::fail("--to ADDR:PORT, the SMB Direct server, is missing" + std::string(kSeeHelp));
  if (o.mode == Options::Mode::serve && !o.listen) {
    return shm::fail("--listen PORT, for the SMB clients, is missing" + std::string(kSeeHelp));
  }
  if (o.source && o.source->ss_family != o.to.front().ss_family) {
    return shm::fail("--source and --to must both be IPv4 or both be IPv6 addresses");
  }
  return {};
}

}  // namespace

Target Options::target() const {
  Target target{.fabric = fabric, .to = to, .source = source, .iwarp = iwarp};
  // A receive more than is granted, and room for the messages and READ requests that the credits allow.
  target.verbs.max_receive_work =
      std::max<uint32_t>(target.verbs.max_receive_work, limits.receive_credit_max + 1u);
  return target;
}

std::span<const OptionRow> option_table() { return kTable; }

shm::Result<Options> parse_options(int argc, char** argv) {
  std::vector<option> long_options;
  std::string letters = ":";
  for (const OptionRow& row : kTable) {
    const int has_argument = row.argument == Argument::none       ? no_argument
                             : row.argument == Argument::required ? required_argument
                                                                  : optional_argument;
    const int value = kFirstValue + static_cast<int>(&row - kTable);
    long_options.push_back({row.name, has_argument, nullptr, value});
    if (row.letter != 0) letters += row.letter;
  }
  long_options.push_back({});

  Options options;
  optind = 0;  // begin anew, forgetting what an earlier call left
  opterr = 0;
  for (;;) {
    const int value = ::getopt_long(argc, argv, letters.c_str(), long_options.data(), nullptr);
    if (value == -1) break;
    const OptionRow* row = nullptr;
    for (const OptionRow& candidate : kTable) {
      const bool by_name = value == kFirstValue + (&candidate - kTable);
      if (by_name || (candidate.letter != 0 && value == candidate.letter)) row = &candidate;
    }
    if (row == nullptr) {
      const std::string word = argv[optind - 1];
      return shm::fail(word +
                       (value == ':' ? ": its argument is missing" : ": unknown, incomplete or misused") +
                       kSeeHelp);
    }
    if (const auto applied = row->apply(options, optarg); !applied) {
      return shm::fail(std::string("--") + row->name + ": " + applied.error().text());
    }
    if (options.mode == Options::Mode::help || options.mode == Options::Mode::version) return options;
  }
  if (optind < argc) return shm::fail(std::string(argv[optind]) + ": not expected here" + kSeeHelp);
  settle(options);
  if (const auto sound = check(options); !sound) return std::unexpected(sound.error());
  return options;
}

std::string help_text() {
  std::string out =
      "Usage: smbdirect-connect --listen [ADDR:]PORT --to ADDR[:PORT] [OPTION]...\n"
      "       smbdirect-connect --probe --to ADDR[:PORT] [OPTION]...\n"
      "Carries SMB clients' TCP connections to an SMB Direct server.\n\n";
  constexpr size_t kColumn = 34;
  for (const OptionRow& row : kTable) {
    std::string line = "  " + written(row);
    if (line.size() + 1 > kColumn) {
      out += line + "\n";
      line.clear();
    }
    line.resize(kColumn, ' ');
    for (const char* c = row.help; *c != '\0'; ++c) {
      line += *c;
      if (*c == '\n') line.append(kColumn, ' ');
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace smbdirect::workers::connect
