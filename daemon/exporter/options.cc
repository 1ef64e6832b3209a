// SPDX-License-Identifier: MIT
#include "daemon/exporter/options.h"

#include <algorithm>
#include <array>

#include "daemon/os/scan_options.h"
#include "shm/base/number.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon::exporter {
namespace {

constexpr std::string_view kTaken{};
constexpr const char* kHint = "; \"smbdirect-exporter --help\" lists the options";

std::string_view take_socket(Options& options, const char* path) {
  options.socket = path;
  return options.socket.empty() ? std::string_view("a path") : kTaken;
}

/// Only what is one address: the HTTP server would take lists and more.
std::string_view take_listen(Options& options, const char* text) {
  constexpr std::string_view kAllowed = "ADDRESS:PORT or [ADDRESS]:PORT with a numeric address";
  const std::string_view all = text;
  const size_t colon = all.rfind(':');
  if (colon == std::string_view::npos) return kAllowed;
  std::string_view host = all.substr(0, colon);
  const auto port = shm::number_from_text<uint16_t>(all.substr(colon + 1));
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = port ? shm::address_from_text(host, *port) : std::nullopt;
  if (!address || bracketed != (address->ss_family == AF_INET6)) return kAllowed;
  options.listen = shm::address_text(*address);
  return kTaken;
}

constexpr std::array kOptions{
    OptionRow{'s', "socket", "PATH", "ask at this control socket", take_socket},
    OptionRow{'\0', "listen", "ADDRESS:PORT", "serve http://ADDRESS:PORT/metrics", take_listen},
    OptionRow{'V', "version", "", "print the version and exit",
              [](Options& o, const char*) {
                o.version = true;
                return kTaken;
              }},
    OptionRow{'h', "help", "", "print this text and exit",
              [](Options& o, const char*) {
                o.help = true;
                return kTaken;
              }},
};

}  // namespace

std::span<const OptionRow> option_table() { return kOptions; }

std::expected<Options, std::string> parse_options(int argc, char* const* argv) {
  const auto scanned = scan_options(argc, argv, option_table(), kHint);
  if (!scanned) return std::unexpected(scanned.error());
  Options options;
  for (const auto& [row, argument] : scanned->given) {
    if (const std::string_view allowed = row->take(options, argument); !allowed.empty()) {
      return std::unexpected("--" + std::string(row->name) + " is \"" + argument +
                             "\"; allowed: " + std::string(allowed) + kHint);
    }
  }
  if (scanned->rest < argc)
    return std::unexpected("unexpected argument " + std::string(argv[scanned->rest]) + kHint);
  return options;
}

std::string help_text() {
  std::string text =
      "usage: smbdirect-exporter [OPTION]...\n\nServes smbdirectd's metrics to Prometheus. Options:\n";
  for (const OptionRow& row : kOptions) {
    std::string left = row.letter == '\0' ? "      " : std::string{' ', ' ', '-', row.letter, ',', ' '};
    left += "--" + std::string(row.name);
    if (!row.argument.empty()) left += " " + std::string(row.argument);
    left.resize(std::max<size_t>(left.size() + 1, 29), ' ');
    text += left + std::string(row.help) + "\n";
  }
  return text + "\nIt asks at " + Options{}.socket + " and listens on " + Options{}.listen +
         " unless the options say\notherwise. See smbdirect-exporter(8).\n";
}

}  // namespace smbdirect::daemon::exporter
