// SPDX-License-Identifier: MIT
// The command line of smbdirect-connect. One table makes the parser and --help, and the test that holds
// the manual page to it. Start-up code.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "protocol/smbdirect/engine.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "workers/connect/dialer.h"

namespace smbdirect::workers::connect {

struct Options {
  enum class Mode : uint8_t { serve, probe, help, version };
  enum class Stats : uint8_t { off, text, json };

  Mode mode = Mode::serve;
  std::optional<sockaddr_storage> listen;
  std::vector<sockaddr_storage> to;  // the server's addresses, in the order to try them
  std::optional<sockaddr_storage> source;
  FabricKind fabric = FabricKind::iwarp;
  bool rdma_io = false;
  uint32_t threshold = 4096;  // bytes; see ClientTranslator::Options
  fabric::iwarp::Options iwarp;
  protocol::smb_direct::Limits limits;
  uint32_t max_connections = 256;
  Stats stats = Stats::off;
  bool progress = false;
  bool exit_when_idle = false;
  shm::log::Level log_level = shm::log::Level::notice;

  /// Where and how to connect; `to` has one at least.
  [[nodiscard]] Target target() const;
};

/// One option as the table has it.
struct OptionRow {
  enum class Argument : uint8_t { none, required, optional };

  const char* name;  // without the leading "--"
  char letter;       // 0: long form only
  Argument argument;
  const char* argument_name;  // "ADDR:PORT"
  const char* help;           // '\n' where --help starts a new line
  /// Stores the option. The error is a sentence's end: "--threshold: <error>".
  shm::Result<> (*apply)(Options& options, const char* value);
};
[[nodiscard]] std::span<const OptionRow> option_table();

/// argv[0] is the program. Errors are ready to print. Re-entrant use from several threads is not possible
/// (getopt keeps its place in globals).
[[nodiscard]] shm::Result<Options> parse_options(int argc, char** argv);

[[nodiscard]] std::string help_text();

}  // namespace smbdirect::workers::connect
