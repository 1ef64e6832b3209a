// SPDX-License-Identifier: MIT
#include "daemon/clients/server_processes.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sstream>
#include <string>
#include <unistd.h>

#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {
namespace {

constexpr int kMostGenerations = 16;  // from a main process to one that serves

/// Of /proc/PID. ENOENT: hidden or gone.
shm::Result<std::string> read_of(pid_t pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const shm::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(4096, '\0');
  const ssize_t got = fd.valid() ? read(fd.get(), text.data(), text.size()) : -1;
  if (got < 0) return shm::fail("process " + std::to_string(pid), errno == ESRCH ? ENOENT : errno);
  text.resize(size_t(got));
  return text;
}

}  // namespace

shm::Result<std::optional<ProcessFacts>> look_at_process(pid_t pid) {
  const auto stat = read_of(pid, "stat");
  const auto status = stat ? read_of(pid, "status") : stat;
  // Hidden is not gone: the unit's ProtectProc shows a process by its user of the moment.
  if (!status && status.error().system_errno == ENOENT) {
    if (kill(pid, 0) != 0 && errno == ESRCH) return std::nullopt;
    return ProcessFacts{};
  }
  if (!status) return std::unexpected(status.error());
  ProcessFacts facts;
  // The second field is a name in brackets, which may hold anything; in the other file it is escaped.
  std::istringstream fields(stat->substr(stat->rfind(')') + 1));
  std::string state, field;
  fields >> state >> facts.parent;
  for (int i = 5; i <= 21; ++i) fields >> field;
  fields >> facts.start_time;
  const size_t user = status->find("\nUid:");
  if (!fields || user == std::string::npos) return shm::fail("process " + std::to_string(pid), EPROTO);
  facts.user = uid_t(std::strtoul(status->c_str() + user + 5, nullptr, 10));
  if (state == "Z" || state == "X") return std::nullopt;
  return facts;
}

const char* ServerProcesses::objection_to(pid_t pid) const {
  if (is_ours(pid)) return "it is a process of smbdirectd itself";
  if (main == 0) return "no main process of the server is registered";
  const auto facts_of = [this](pid_t one) -> std::optional<ProcessFacts> {
    const auto facts = look ? look(one) : look_at_process(one);
    return facts && *facts ? **facts : std::optional<ProcessFacts>{};
  };
  const auto facts = facts_of(pid);
  if (!facts) return "there is no such process";
  // Where processes of other users are hidden, one that is hidden is not a worker's, and more cannot be said.
  if (facts->start_time == 0) return nullptr;
  auto above = facts;
  pid_t one = pid;
  for (int i = 0; i < kMostGenerations && one != main && above && above->parent > 1; ++i) {
    one = above->parent;
    if (is_ours(one)) return "it is a descendant of smbdirectd, not of the server's main process";
    above = facts_of(one);
  }
  if (one == main) return nullptr;
  // One whose parent has ended, or that was handed the channel.
  const auto of_main = facts_of(main);
  if (of_main && of_main->start_time != 0 && facts->user == of_main->user) return nullptr;
  return "it is not a descendant of the server's main process and does not run as its user";
}

}  // namespace smbdirect::daemon
