// SPDX-License-Identifier: MIT
#include "daemon/upstream/module_requests.h"

#include <cerrno>
#include <filesystem>
#include <string>

#include "daemon/os/own_address.h"
#include "daemon/os/own_directory.h"
#include "daemon/os/process_streams.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr const char* kKey = "/upstream/area/directory";

// A worker that is told of all its clients' shares at once, as after a restart of smbd, and then of some.
constexpr uint64_t kAtOnce = 4096;
constexpr uint64_t kPerSecond = 200;

/// What the buckets know a worker by.
shm::Host bucket_of(size_t slot) {
  shm::Host host{};
  host[0] = uint8_t(slot);
  host[1] = uint8_t(slot >> 8);
  return host;
}

}  // namespace

ModuleRequests::ModuleRequests(shm::Loop& loop, const PoolConfig& config, const ConnectionTable& table,
                               Tell tell)
    : loop_(loop),
      config_(config),
      table_(table),
      tell_(std::move(tell)),
      search_(loop, config.module_directory),
      rate_(kAtOnce, kPerSecond) {}

bool ModuleRequests::in_use() const {
  return (config_.worker.module_area || config_.worker.direct) &&
         config_.upstream_mode != UpstreamMode::native;
}

void ModuleRequests::open() const {
  constexpr mode_t kOursAlone = 0700;
  const std::filesystem::path directory(config_.module_directory);
  if (!in_use() || directory.parent_path() != std::filesystem::path(config_.run_directory)) return;
  if (const auto owned = own_directory(directory, kKey, kOursAlone); !owned) {
    log::write(log::Level::warning, "smbds' modules will not be found: %s", owned.error().text().c_str());
  }
}

void ModuleRequests::wanted(size_t slot, shm::ConnectionId connection, shm::UniqueFd stream) {
  const Key key{slot, connection};
  ++asked_;
  // A worker is not trusted: it can ask for its own connections only, and waits for the answer.
  if (table_.addresses(connection, slot) == nullptr)
    return refuse(key, {"its worker asked for a connection that is not its own", EPERM});
  if (!in_use())
    return refuse(key, {"/upstream/area/enabled and /upstream/direct/enabled are false", ENOENT});
  if (asked_for_.contains(key)) return refuse(key, {"its worker has not waited for the answer", EAGAIN});
  if (!rate_.take(bucket_of(slot), loop_.now()))
    return refuse(key, {"its worker asks too often for links", EAGAIN});
  if (!stream.valid()) return refuse(key, {"the copy of its stream to smbd", EMFILE});
  const auto ours = tcp_stream(stream.get());
  if (!ours) return refuse(key, {"its worker sent no TCP stream, or smbd has closed it", ENOTCONN});
  asked_for_[key] =
      search_.find(ours->other_end(), [this, key, smbd = ours->remote](shm::Result<shm::UniqueFd> link) {
        answer(key, smbd, std::move(link));
      });
}

void ModuleRequests::answer(const Key& key, const shm::Host& smbd, shm::Result<shm::UniqueFd> link) {
  asked_for_.erase(key);
  // Only where nobody was found: a process of this host may be in another network namespace.
  if (!link && link.error().system_errno == ENOENT && !is_own_address(smbd))
    return refuse(key, {"smbd's address " + shm::host_text(smbd) + " is none of this host's", EHOSTUNREACH});
  if (!link) return refuse(key, link.error());
  ++linked_;
  tell(key.first, message::Module{{key.second}, {}}, link->get());
}

void ModuleRequests::refuse(const Key& key, const shm::Error& why) {
  const auto [slot, connection] = key;
  const int error = why.system_errno == 0 ? EIO : why.system_errno;
  // Where smbd has no module, or has just closed the connection, nothing is wrong.
  const bool ordinary = error == ENOENT || error == EHOSTUNREACH || error == ENOTCONN;
  const auto level = ordinary ? log::Level::debug : log::Level::warning;
  log_.write(level, std::to_string(slot) + "/" + std::to_string(error), loop_.now(),
             "worker %zu: no link to smbd's module for connection %s: %s", slot,
             shm::connection_text(connection).c_str(), why.text().c_str());
  tell(slot, message::NoModule{{connection}, {uint32_t(error)}}, -1);
}

void ModuleRequests::tell(size_t slot, const FromSupervisor& message, int descriptor) {
  const auto told = tell_(slot, message, descriptor);
  if (told) return;
  log_.write(log::Level::warning, "worker " + std::to_string(slot), loop_.now(), "worker %zu: %s", slot,
             told.error().text().c_str());
}

void ModuleRequests::forget(size_t slot, shm::ConnectionId connection) {
  const auto found = asked_for_.find({slot, connection});
  if (found == asked_for_.end()) return;
  search_.cancel(found->second);
  asked_for_.erase(found);
}

void ModuleRequests::forget_worker(size_t slot) {
  std::erase_if(asked_for_, [&](const auto& entry) {
    if (entry.first.first != slot) return false;
    search_.cancel(entry.second);
    return true;
  });
}

void ModuleRequests::close() {
  for (const auto& [key, number] : asked_for_) search_.cancel(number);
  asked_for_.clear();
}

shm::Totals ModuleRequests::totals() const {
  return {{"modules_asked", asked_}, {"modules_linked", linked_}};
}

}  // namespace smbdirect::daemon
