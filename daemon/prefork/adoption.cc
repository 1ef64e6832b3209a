// SPDX-License-Identifier: MIT
#include "daemon/prefork/adoption.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "daemon/contract/contract.h"
#include "daemon/os/child_process.h"
#include "daemon/os/unix_socket.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint64_t kMostEpochs = 1'000'000;
constexpr int kBacklog = 128;  // daemons that came, and perhaps went, while the worker had its own

struct Name {
  pid_t pid = 0;
  uint64_t epoch = 0;
};

/// Of "PID.EPOCH".
std::optional<Name> name_of(std::string_view text) {
  Name name;
  const char* const end = text.data() + text.size();
  const auto pid = std::from_chars(text.data(), end, name.pid);
  if (pid.ec != std::errc{} || pid.ptr == end || *pid.ptr != '.') return std::nullopt;
  const auto epoch = std::from_chars(pid.ptr + 1, end, name.epoch);
  if (epoch.ec != std::errc{} || epoch.ptr != end) return std::nullopt;
  if (name.pid <= 0 || name.epoch > kMostEpochs) return std::nullopt;
  return name;
}

}  // namespace

Adoption::Adoption(shm::Loop& loop, const std::string& run_directory, Adopt adopt)
    : loop_(loop), directory_(run_directory + "/workers"), adopt_(std::move(adopt)) {}

void Adoption::not_adopted(pid_t worker, const std::string& why) {
  log::write(log::Level::warning,
             "a worker that a former daemon left (pid %d) ends when its last client has gone, and "
             "smbdirectctl does not "
             "show it until then: %s",
             int(worker), why.c_str());
}

/// With workers that are left it stays, as it is not empty.
Adoption::~Adoption() { rmdir(directory_.c_str()); }

shm::Result<> Adoption::find() {
  if (mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
    return shm::fail("directory '" + directory_ + "'", errno);
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    const auto name = name_of(entry.path().filename().string());
    if (!name) continue;
    epoch_ = std::max(epoch_, name->epoch + 1);
    if (const auto approached = approach(name->pid, entry.path().string()); !approached) {
      not_adopted(name->pid, approached.error().text());
    }
  }
  if (error) return shm::fail("directory '" + directory_ + "'", error.value());
  return {};
}

/// The process is looked at between the connection and its use: while the connection stands it is the worker.
shm::Result<> Adoption::approach(pid_t worker, const std::string& path) {
  auto control = connect_packets(path);
  if (!control) {
    if (control.error().system_errno != ECONNREFUSED) return std::unexpected(control.error());
    unlink(path.c_str());  // it has ended
    return {};
  }
  auto process = open_process(worker);
  if (!process) return {};  // ended in this moment
  waiting_.push_back({worker, path, std::move(*process), std::move(*control), {}});
  const auto at = std::prev(waiting_.end());
  auto answers = shm::ReadWatch::make(loop_, at->control.get(), [this, at] { answered(at); });
  if (!answers) {
    waiting_.erase(at);
    return std::unexpected(answers.error());
  }
  at->answers.emplace(std::move(*answers));
  at->answers->start();
  return {};
}

void Adoption::answered(std::list<Waiting>::iterator waiting) {
  const auto said = receive_message<FromWorker>(waiting->control.get());
  if (said && !*said) return;
  Waiting found = std::move(*waiting);
  found.answers.reset();
  waiting_.erase(waiting);
  if (!said && said.error().system_errno == ECONNRESET) return;  // it has ended
  if (!said || !std::holds_alternative<message::Left>((*said)->message)) {
    return not_adopted(found.pid,
                       "it is of another version: " + (said ? "unexpected message" : said.error().text()));
  }
  paths_[found.pid] = found.path;
  adopt_({.pid = found.pid, .process = std::move(found.process), .control = std::move(found.control)});
}

shm::Result<shm::UniqueFd> Adoption::socket_of(pid_t worker) {
  const std::string path = directory_ + "/" + std::to_string(worker) + "." + std::to_string(epoch_);
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  shm::UniqueFd fd = packet_socket();
  unlink(path.c_str());
  if (!fd.valid() || !bind_private(fd.get(), *address) || listen(fd.get(), kBacklog) != 0) {
    return shm::fail("socket '" + path + "'", errno);
  }
  paths_[worker] = path;
  return fd;
}

void Adoption::forget(pid_t worker) {
  const auto known = paths_.find(worker);
  if (known == paths_.end()) return;
  unlink(known->second.c_str());
  paths_.erase(known);
}

}  // namespace smbdirect::daemon
