// SPDX-License-Identifier: MIT
// reference-peer's command line. Read once, before anything else happens; every process of it has a copy.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "handles.h"
#include "smbd_stream.h"

namespace smbdirect::tests::peer {

/// Where a child stops itself, so that a test finds it there.
enum class Label : uint8_t { started, opened, attached, exported };

struct Options {
  std::string control;  // the daemon's control socket: this is a main process...
  std::string adopt;    // ... or a directory: this one serves what is passed to it
  std::string pass_to;  // a directory: children pass their channel on to its --adopt
  SmbdAddress smbd;
  std::optional<Label> stop_at;
  bool verbose = false;
};

inline constexpr const char* kUsage =
    "usage: reference-peer (--control PATH | --adopt DIR) --smbd HOST:PORT [--verbose]\n"
    "                      [--pass-to DIR] [--stop-at started|opened|attached|exported]\n";

/// The error is what is wrong with it.
[[nodiscard]] Outcome<Options> parse_options(std::span<char* const> words);

/// SIGSTOP to itself, when that was asked for.
void stop_if_at(const Options& options, Label label);

}  // namespace smbdirect::tests::peer
