// SPDX-License-Identifier: MIT
#include "daemon/upstream/module_search.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <uv.h>

#include "daemon/os/own_directory.h"
#include "daemon/os/unix_socket.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

// An smbd with one client takes some 200 us, one with 16,000 open files 40 ms: a sixth of the loop's time
// while there is a search, and no more of it at once than the one that it is at.
constexpr uint64_t kAtOnceNs = 800'000;
constexpr uint64_t kRestTimes = 5;
constexpr size_t kNamesAtOnce = 128;  // most of which killed smbds may have left
constexpr size_t kAnswersAtOnce = 64;
constexpr uint64_t kPauseMs = 4;
constexpr size_t kMostProcesses = 16'384;

/// Who has a socket in there.
std::set<pid_t> processes_in(const std::string& directory) {
  std::set<pid_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    const auto process = shm::number_from_text<pid_t>(at->path().filename().string());
    if (process && *process > 0 && found.size() < kMostProcesses) found.insert(*process);
  }
  return found;
}

}  // namespace

ModuleSearch::ModuleSearch(shm::Loop& loop, const std::string& directory)
    : loop_(loop), directory_(directory), timer_(loop, [this] {
        runs_ = false;
        step();
      }) {}

uint64_t ModuleSearch::find(const TcpStream& wanted, Done done) {
  waiting_.emplace(++last_, Waiting{wanted, std::move(done), round_});
  run_again(0);
  return last_;
}

void ModuleSearch::run_again(uint64_t after_ms) {
  if (!runs_) timer_.start(after_ms);
  runs_ = true;
}

void ModuleSearch::step() {
  const uint64_t began = uv_hrtime();
  const auto rest_ms = [began] { return std::max(kPauseMs, kRestTimes * (uv_hrtime() - began) / 1'000'000); };
  if (!answer_known()) return run_again(rest_ms());
  if (!in_round_ && !waiting_.empty()) begin_round();
  for (size_t i = 0; i < kNamesAtOnce && !left_.empty(); ++i) {
    const pid_t process = left_.back();
    left_.pop_back();
    look_into(process);
    if (uv_hrtime() - began >= kAtOnceNs) break;
  }
  if (!answer_known()) return run_again(rest_ms());
  if (left_.empty()) end_round();
  if (!waiting_.empty()) return run_again(rest_ms());
  left_.clear();
  in_round_ = false;
}

void ModuleSearch::begin_round() {
  ++round_;
  in_round_ = true;
  not_seen_.clear();
  if (const auto ours = check_own_directory(directory_, "/upstream/area/directory"); !ours) {
    if (ours.error().system_errno != ENOENT)
      log_.write(log::Level::warning, directory_, loop_.now(), "no links to smbds' modules: %s",
                 ours.error().text().c_str());
    return answer_all(ours.error());
  }
  const std::set<pid_t> there = processes_in(directory_);
  std::vector<pid_t> gone;
  for (const auto& [process, streams] : seen_) {
    if (!there.contains(process)) gone.push_back(process);
  }
  for (const pid_t process : gone) forget(process);
  left_.clear();
  for (const bool is_new : {false, true}) {
    for (const pid_t process : there) {
      if (seen_.contains(process) != is_new) left_.push_back(process);
    }
  }
}

void ModuleSearch::end_round() {
  in_round_ = false;
  std::vector<uint64_t> not_found;
  for (const auto& [number, one] : waiting_) {
    if (one.since < round_) not_found.push_back(number);
  }
  const auto error = not_seen_.empty()
                         ? shm::fail("no process that has a socket in '" + directory_ +
                                         "' has the other end of the stream to smbd",
                                     ENOENT)
                         : shm::fail(not_seen_ + "; finding an smbd's module needs CAP_SYS_PTRACE", EPERM);
  for (const uint64_t number : not_found) answer(number, error);
}

void ModuleSearch::forget(pid_t process) {
  const auto seen = seen_.find(process);
  if (seen == seen_.end()) return;
  for (const TcpStream& stream : seen->second) {
    const auto known = known_.find(stream);
    if (known != known_.end() && known->second.process == process) known_.erase(known);
  }
  seen_.erase(seen);
}

void ModuleSearch::look_into(pid_t process) {
  forget(process);
  const auto streams = streams_of(process);
  if (!streams && streams.error().system_errno == ESRCH) return;  // a killed smbd has left its name
  ++looked_into_;
  if (!streams) {
    not_seen_ = streams.error().text();
    return;
  }
  std::vector<TcpStream>& seen = seen_[process];
  for (const HeldStream& held : *streams) {
    seen.push_back(held.stream);
    known_[held.stream] = {process, held.number};
  }
}

/// False: there are more than can be answered at once.
bool ModuleSearch::answer_known() {
  std::vector<uint64_t> found;
  for (const auto& [number, one] : waiting_) {
    if (!known_.contains(one.wanted)) continue;
    if (found.size() == kAnswersAtOnce) return answer_these(found), false;
    found.push_back(number);
  }
  answer_these(found);
  return true;
}

void ModuleSearch::answer_these(const std::vector<uint64_t>& found) {
  for (const uint64_t number : found) {
    const auto one = waiting_.find(number);
    if (one == waiting_.end()) continue;  // cancelled by what an answer before has caused
    const auto known = known_.find(one->second.wanted);
    if (known == known_.end()) continue;
    const Holder holder = known->second;
    if (!has_stream(holder.process, {one->second.wanted, holder.number})) {
      known_.erase(known);  // it has passed it on, or is gone: it is looked for
      continue;
    }
    answer(number, connect_to(holder, one->second.wanted));
  }
}

void ModuleSearch::answer(uint64_t number, shm::Result<shm::UniqueFd> result) {
  const auto found = waiting_.find(number);
  if (found == waiting_.end()) return;
  const Done done = std::move(found->second.done);
  waiting_.erase(found);
  done(std::move(result));
}

void ModuleSearch::answer_all(const shm::Error& error) {
  std::vector<uint64_t> numbers;
  for (const auto& [number, one] : waiting_) numbers.push_back(number);
  for (const uint64_t number : numbers) answer(number, std::unexpected(error));
}

shm::Result<shm::UniqueFd> ModuleSearch::connect_to(const Holder& holder, const TcpStream& stream) const {
  const std::string path = directory_ + "/" + std::to_string(holder.process);
  const std::string what = "the module at '" + path + "'";
  auto connected = connect_packets(path);
  if (!connected) {
    const int error = connected.error().system_errno;
    return shm::fail(what, error == ECONNREFUSED ? ENOENT : error);
  }
  shm::UniqueFd link = std::move(*connected);
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(link.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return shm::fail(what, errno);
  if (peer.pid != holder.process || (peer.uid != 0 && peer.uid != geteuid())) {
    return shm::fail(what + " is process " + std::to_string(peer.pid) + " of user " +
                         std::to_string(peer.uid) + ", not root's process of that number",
                     EPERM);
  }
  // Else the process that listens has only the number of the one that had it.
  if (!has_stream(holder.process, {stream, holder.number})) return shm::fail(what + " has ended", EAGAIN);
  return link;
}

}  // namespace smbdirect::daemon
