// SPDX-License-Identifier: MIT
// What can be asked at the control socket, and how it is shown: the one table behind the daemon's answers,
// the client's tables and help text, and the test of the manual page. Constant data; any process.
//
// On the wire: one line of JSON, {"command": "clients"}, is answered with one line of JSON, an object with
// the command's member, or {"error": "why"}. {"command": "resize", "argument": "8"} has an argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace smbdirect::daemon {

inline constexpr size_t kMaxRequestBytes = 4096;
inline constexpr std::string_view kControlSocket = "control";  // below /run_directory
[[nodiscard]] inline std::string control_path(const std::string& run_directory) {
  return run_directory + "/" + std::string(kControlSocket);
}

struct CtlColumn {
  std::string_view title;
  std::string_view member;    // of each row
  std::string_view reason{};  // likewise: what explains its value, told once below the table
};

enum class CtlCommand : uint8_t {
  status,
  workers,
  connections,
  clients,
  resize,
  reload,
  drain,
  undrain,
  kick,
  leave,
  take,
  log_level,
  upgrade,
};

struct CtlRow {
  CtlCommand command;
  std::string_view name;
  std::string_view help;
  std::span<const CtlColumn> columns;  // none: names and values beneath each other
  std::string_view
      argument{};        // what its argument is called, "[SLOT]" if it may be left out; none: it has none
  bool number = false;   // that is what the argument is
  bool changes = false;  // the pool or what it does: not for those who may only ask (daemon/control/rights.h)
  std::string_view sentence{};  // with members of the answer in braces, said in place of names and values
  std::string_view nothing{};   // said instead of a table without rows
  int patience_s = 5;           // how long smbdirectctl waits for the answer
};
[[nodiscard]] std::span<const CtlRow> ctl_table();
[[nodiscard]] constexpr bool may_be_left_out(std::string_view argument) { return argument.starts_with('['); }

/// What smbdirectctl makes by itself, of answers to questions above or without asking.
enum class OwnCommand : uint8_t { top, metrics, doctor };

struct OwnRow {
  OwnCommand command;
  std::string_view name;
  std::string_view help;
  bool asks = false;  // a running daemon
};
[[nodiscard]] std::span<const OwnRow> own_table();

struct CtlRequest {
  CtlCommand command{};
  bool events = false;  // of connections: with their recent events
  std::optional<std::string> argument{};
};
/// The error is a sentence for a person.
[[nodiscard]] std::expected<CtlRequest, std::string> parse_request(std::string_view line);
[[nodiscard]] std::string request_text(const CtlRequest& request);

}  // namespace smbdirect::daemon
