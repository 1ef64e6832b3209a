// SPDX-License-Identifier: MIT
#include "options.h"

#include <array>
#include <csignal>
#include <string_view>
#include <utility>

namespace smbdirect::tests::peer {
namespace {

constexpr std::array<std::pair<std::string_view, Label>, 4> kLabels{{
    {"started", Label::started},
    {"opened", Label::opened},
    {"attached", Label::attached},
    {"exported", Label::exported},
}};

Outcome<> set(Options& options, std::string_view name, const char* value) {
  if (name == "--control") {
    options.control = value;
  } else if (name == "--adopt") {
    options.adopt = value;
  } else if (name == "--pass-to") {
    options.pass_to = value;
  } else if (name == "--smbd") {
    auto smbd = parse_smbd(value);
    if (!smbd) return std::unexpected(std::move(smbd.error()));
    options.smbd = *smbd;
  } else if (name == "--stop-at") {
    for (const auto& [text, label] : kLabels) {
      if (text == value) options.stop_at = label;
    }
    if (!options.stop_at) return std::unexpected(std::string("no such place to stop at: ") + value);
  } else {
    return std::unexpected("unknown option " + std::string(name));
  }
  return {};
}

}  // namespace

Outcome<Options> parse_options(std::span<char* const> words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view name = words[i];
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (i + 1 == words.size()) return std::unexpected("a value must follow " + std::string(name));
    if (auto done = set(options, name, words[++i]); !done) return std::unexpected(std::move(done.error()));
  }
  if (options.control.empty() == options.adopt.empty()) {
    return std::unexpected("one of --control and --adopt is wanted");
  }
  if (options.smbd.length == 0) return std::unexpected("--smbd is wanted");
  return options;
}

void stop_if_at(const Options& options, Label label) {
  if (options.stop_at == label) (void)::raise(SIGSTOP);
}

}  // namespace smbdirect::tests::peer
