// SPDX-License-Identifier: MIT
#include "daemon/os/run_program.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/os/child_process.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostBytes = 16 << 20;  // of an smb.conf with thousands of shares

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return left < 0 ? 0 : int(left);
}

/// Reads both to their ends. False when time is over or a program says too much.
bool read_both(std::array<shm::UniqueFd, 2>& pipes, std::array<std::string*, 2> texts,
               Clock::time_point end) {
  while (pipes[0].valid() || pipes[1].valid()) {
    std::array<pollfd, 2> polled{
        {{pipes[0].get(), POLLIN, 0}, {pipes[1].get(), POLLIN, 0}}};  // -1 is ignored
    const int ready = poll(polled.data(), polled.size(), milliseconds_until(end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    for (size_t i = 0; i < pipes.size(); ++i) {
      if (polled[i].revents == 0) continue;
      std::array<char, 65536> buffer;
      const ssize_t got = read(pipes[i].get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        pipes[i].reset();
        continue;
      }
      texts[i]->append(buffer.data(), size_t(got));
      if (texts[i]->size() > kMostBytes) return false;
    }
  }
  return true;
}

}  // namespace

shm::Result<ProgramOutput> run_program(const std::string& program, const std::vector<std::string>& arguments,
                                       uint32_t deadline_ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(deadline_ms);
  std::array<shm::UniqueFd, 2> readers;
  std::array<shm::UniqueFd, 2> writers;
  for (size_t i = 0; i < readers.size(); ++i) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return shm::fail("run '" + program + "': pipe", errno);
    readers[i] = shm::UniqueFd(ends[0]);
    writers[i] = shm::UniqueFd(ends[1]);
  }
  const auto pid = start_child({.program = program,
                                .arguments = arguments,
                                .descriptors = {ChildRequest::kNull, writers[0].get(), writers[1].get()}});
  if (!pid) return std::unexpected(pid.error());
  for (auto& writer : writers) writer.reset();

  ProgramOutput output;
  const bool ended = read_both(readers, {&output.out, &output.err}, end);
  if (!ended) kill(-*pid, SIGKILL);  // its session is its own
  while (waitpid(*pid, &output.wait_status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return shm::fail("run '" + program + "'", ETIMEDOUT);
  return output;
}

}  // namespace smbdirect::daemon
