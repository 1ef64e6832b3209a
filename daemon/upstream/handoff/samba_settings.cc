// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/samba_settings.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <sys/wait.h>

#include "daemon/os/run_program.h"

namespace smbdirect::daemon {
namespace {

constexpr uint32_t kDeadlineMs = 10'000;  // a registry configuration may be on a slow disk

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

shm::Result<std::string> ask(const Samba& samba, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "-s");
  if (!samba.smb_conf.empty()) arguments.push_back(samba.smb_conf);
  auto output = run_program(samba.testparm, arguments, kDeadlineMs);
  if (!output) {
    auto error = output.error();
    if (error.system_errno == ENOENT)
      error.what += " (testparm belongs to Samba; set /upstream/handoff/testparm to its path)";
    return std::unexpected(std::move(error));
  }
  if (!WIFEXITED(output->wait_status) || WEXITSTATUS(output->wait_status) != 0) {
    const std::string_view words = trimmed(output->err);
    return shm::fail("'" + samba.testparm + "' does not accept " +
                     (samba.smb_conf.empty() ? "smb.conf" : samba.smb_conf) + ": " +
                     std::string(words.substr(words.rfind('\n') == words.npos ? 0 : words.rfind('\n') + 1)));
  }
  return std::move(output->out);
}

}  // namespace

std::vector<std::string> sections_with_durable_handles(std::string_view testparm_output) {
  std::vector<std::string> sections;
  std::string_view section = "global";
  while (!testparm_output.empty()) {
    const std::string_view line = trimmed(testparm_output.substr(0, testparm_output.find('\n')));
    testparm_output.remove_prefix(std::min(testparm_output.find('\n'), testparm_output.size() - 1) + 1);
    if (line.starts_with('[') && line.ends_with(']')) section = line.substr(1, line.size() - 2);
    const size_t equals = line.find('=');
    if (equals == line.npos || !same_word(trimmed(line.substr(0, equals)), "durable handles")) continue;
    const std::string_view value = trimmed(line.substr(equals + 1));
    if (same_word(value, "yes") || same_word(value, "true") || value == "1") sections.emplace_back(section);
  }
  return sections;
}

shm::Result<std::string> Samba::pid_directory() const {
  auto output = ask(*this, {"--parameter-name=pid directory"});
  if (!output) return output;
  std::string directory(trimmed(*output));
  if (!directory.starts_with('/')) {
    return shm::fail("'" + testparm + "' names \"" + directory +
                     "\" as pid directory, which is not an absolute path; set "
                     "/upstream/handoff/pid_directory");
  }
  return directory;
}

shm::Result<> Samba::check_durable_handles() const {
  const auto output = ask(*this, {kNoDurableHandles});
  if (!output) return std::unexpected(output.error());
  std::string names;
  for (const std::string& section : sections_with_durable_handles(*output)) names += " [" + section + "]";
  if (names.empty()) return {};
  return shm::fail(
      "mode \"handoff\" cannot be used: \"durable handles\" is on in" + names +
      " of smb.conf, and an smbd that serves a single connection panics when a client leaves a durable "
      "handle behind; set it to \"no\" there, or use mode \"transparent\" or \"connect\"");
}

}  // namespace smbdirect::daemon
