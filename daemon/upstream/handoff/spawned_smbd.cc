// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/spawned_smbd.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "daemon/os/child_process.h"
#include "daemon/upstream/handoff/samba_settings.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr int kReadsPerWake = 16;  // of up to 4 KiB; then the loop's other work has its turn

}  // namespace

std::vector<std::string> SmbdCommand::arguments() const {
  // -i: one connection, no helpers beside it, and the log to stdout.
  std::vector<std::string> words{"-i", kNoDurableHandles, "--option=pid directory=" + pid_directory};
  if (!smb_conf.empty()) words.insert(words.end(), {"-s", smb_conf});
  return words;
}

SpawnedSmbd::SpawnedSmbd(std::string client, std::function<void()> ended)
    : client_(std::move(client)), ended_(std::move(ended)) {}

shm::Result<std::unique_ptr<SpawnedSmbd>> SpawnedSmbd::start(shm::Loop& loop, const SmbdCommand& command,
                                                             shm::UniqueFd stream, std::string client,
                                                             std::function<void()> ended) {
  std::unique_ptr<SpawnedSmbd> spawned(new SpawnedSmbd(std::move(client), std::move(ended)));
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return shm::fail("start " + command.program + ": pipe", errno);
  spawned->output_ = shm::UniqueFd(ends[0]);
  const shm::UniqueFd output(ends[1]);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  const auto pid = start_child({.program = command.program,
                                .arguments = command.arguments(),
                                .descriptors = {stream.get(), output.get(), output.get()}});
  if (!pid) return std::unexpected(pid.error());
  spawned->pid_ = *pid;
  spawned->name_ = "smbd -i (pid " + std::to_string(*pid) + ", client " + spawned->client_ + ")";
  if (auto watched = spawned->watch(loop); !watched) return std::unexpected(watched.error());
  log::write(log::Level::debug, "%s started", spawned->name_.c_str());
  return spawned;
}

shm::Result<> SpawnedSmbd::watch(shm::Loop& loop) {
  auto pidfd = open_process(pid_);
  if (!pidfd) return std::unexpected(pidfd.error());
  process_ = std::move(*pidfd);
  auto process = shm::ReadWatch::make(loop, process_.get(), [this] { process_ended(); });
  if (!process) return std::unexpected(process.error());
  auto output = shm::ReadWatch::make(loop, output_.get(), [this] { read_output(); });
  if (!output) return std::unexpected(output.error());
  process_watch_ = std::move(*process);
  process_watch_->start();
  output_watch_ = std::move(*output);
  output_watch_->start();
  return {};
}

SpawnedSmbd::~SpawnedSmbd() {
  if (pid_ < 0) return;
  signal(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void SpawnedSmbd::signal(int number) {
  if (pid_ > 0) kill(-pid_, number);  // its session is its own; not reaped yet, so the number is still its
}

bool SpawnedSmbd::try_reap() {
  if (pid_ < 0) return true;
  siginfo_t info{};
  if (waitid(P_PIDFD, id_t(process_.get()), &info, WEXITED | WNOHANG) == 0) {
    if (info.si_pid == 0) return false;  // it runs
  } else if (errno != ECHILD) {
    return false;
  }
  pid_ = -1;
  return true;
}

void SpawnedSmbd::read_output() {
  const auto to_log = [this](std::string_view line) {
    log::write(log::Level::info, "%s: %.*s", name_.c_str(), int(line.size()), line.data());
  };
  for (int i = 0; i < kReadsPerWake; ++i) {
    std::array<char, 4096> buffer;
    const ssize_t got = read(output_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      lines_.flush(to_log);
      output_watch_.reset();
      return;
    }
    lines_.add(std::string_view(buffer.data(), size_t(got)), to_log);
  }
}

void SpawnedSmbd::process_ended() {
  if (!try_reap()) return;
  process_watch_.reset();
  // The rest of what it said. What it has started may hold the pipe open; that is not waited for.
  if (output_watch_) read_output();
  log::write(log::Level::debug, "%s ended", name_.c_str());
  const auto ended = std::move(ended_);  // may destroy this
  ended();
}

}  // namespace smbdirect::daemon
