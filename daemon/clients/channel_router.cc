// SPDX-License-Identifier: MIT
#include "daemon/clients/channel_router.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

#include "daemon/clients/server_processes.h"
#include "daemon/os/unix_socket.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;
namespace proxy = protocol::proxy;

constexpr int kListenBacklog = 64;

/// "channel-SLOT.PID": of the daemon, for two may be here while one takes over from the other.
constexpr std::string_view kListenerName = "channel-";

/// Those of daemons that were killed.
void remove_listeners_of_the_dead(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    const auto pid = shm::number_from_text<pid_t>(std::string_view(name).substr(name.rfind('.') + 1));
    if (name.starts_with(kListenerName) && pid && *pid > 0 && kill(*pid, 0) != 0 && errno == ESRCH)
      std::filesystem::remove(entry.path(), error);
  }
}

bool is_channel(const shm::UniqueFd& fd) {
  int domain = 0;
  int type = 0;
  socklen_t length = sizeof(int);
  return getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX &&
         getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

}  // namespace

ChannelRouter::ChannelRouter(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers,
                             const ConnectionTable& table)
    : loop_(loop), config_(config), workers_(workers), table_(table) {}

const char* ChannelRouter::objection_to(pid_t process) const {
  const ServerProcesses server{.main = main_pid(),
                               .is_ours =
                                   [this](pid_t one) {
                                     return one == getpid() || workers_.any([&](const WorkerSlot& worker) {
                                       return worker.pid() == one;
                                     });
                                   },
                               .look = {}};
  return server.objection_to(process);
}

std::string ChannelRouter::listener_path(size_t slot) const {
  return config_.run_directory + "/" + std::string(kListenerName) + std::to_string(slot) + "." +
         std::to_string(getpid());
}

void ChannelRouter::tell(size_t slot, const FromSupervisor& message, int descriptor) {
  const auto sent = workers_[slot].send(message, descriptor);
  if (sent) return;
  log_.write(log::Level::warning, "worker " + std::to_string(slot), loop_.now(), "worker %zu: %s", slot,
             sent.error().text().c_str());
}

// --- the server's main process ---

void ChannelRouter::registered(shm::UniqueFd socket) {
  if (main_) {
    log_.write(log::Level::warning, "another", loop_.now(),
               "process %d cannot register as the server's main process: process %d is registered already",
               int(ServerRegistration::pid_of(socket)), int(main_->pid()));
    return ServerRegistration::refuse(socket, EBUSY);
  }
  auto main = ServerRegistration::adopt(
      loop_, std::move(socket), [this](uint64_t number, int error) { failed(number, error); },
      [this](const std::string& why) { gone(why); });
  if (!main) {
    log_.write(log::Level::warning, "registering", loop_.now(), "a main process cannot register: %s",
               main.error().text().c_str());
    return;
  }
  main_ = std::move(*main);
  log_.write(log::Level::notice, "registered", loop_.now(),
             "process %d has registered as the server's main process", int(main_->pid()));
}

void ChannelRouter::gone(const std::string& why) {
  log_.write(log::Level::warning, "gone", loop_.now(),
             "the server's main process %d is no longer registered: %s; clients that no process serves "
             "are turned away until a main process registers",
             int(main_->pid()), why.c_str());
  main_.reset();
}

std::pair<shm::UniqueFd, uint64_t> ChannelRouter::hand_over() {
  if (!main_) return {};
  std::pair handed(main_->copy(), next_);
  main_.reset();  // where it cannot be handed over, the process sees the end and registers anew
  return handed;
}

void ChannelRouter::inherit(shm::UniqueFd socket, uint64_t next_request) {
  if (!socket.valid() || main_) return;
  next_ = std::max(next_, next_request);
  auto main = ServerRegistration::inherit(
      loop_, std::move(socket), [this](uint64_t number, int error) { failed(number, error); },
      [this](const std::string& why) { gone(why); });
  if (main) main_ = std::move(*main);
}

void ChannelRouter::failed(uint64_t number, int error) {
  const auto found = std::ranges::find_if(asked_, [&](const auto& entry) { return entry.second == number; });
  if (found == asked_.end()) return;
  found->second = 0;  // said once
  refuse(found->first, std::string("the server's main process could not start one: ") + std::strerror(error),
         error);
}

// --- workers ---

void ChannelRouter::worker_ready(size_t slot) {
  if (clients_ == nullptr) return;
  tell(slot, message::Registry{}, clients_->registry_fd());
  const auto listener = listen_in_place(listener_path(slot), kListenBacklog);
  if (!listener) {
    log_.write(log::Level::error, "listener " + std::to_string(slot), loop_.now(),
               "worker %zu cannot listen for server processes, so its clients are turned away: %s", slot,
               listener.error().text().c_str());
    return;
  }
  tell(slot, message::PeerListener{}, listener->get());
}

void ChannelRouter::answer(size_t slot, shm::ConnectionId connection, ClaimOutcome outcome) {
  if (outcome == ClaimOutcome::owner) passes_.try_emplace({slot, connection});
  tell(slot, message::Claimed{{connection}, {outcome}});
}

void ChannelRouter::wanted(size_t slot, shm::ConnectionId connection, const proxy::Cookie& cookie) {
  const Key key{slot, connection};
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  if (clients_ == nullptr || addresses == nullptr || asked_.contains(key)) {
    return refuse(key, "its worker asked for a connection that is not its own, or asked twice", EPERM);
  }
  if (!main_) {
    return refuse(key,
                  "no main process of a server is registered; is the server running, and does it use this "
                  "daemon's control socket?",
                  ENOTCONN);
  }
  proxy::Start start{
      .cookie = cookie,
      .client_guid = {},
      .client = proxy::address_of_host(shm::host_of(addresses->peer), shm::port_of(addresses->peer)),
      .socket = listener_path(slot)};
  if (const auto guid = clients_->guid_of(workers_.ref(slot), connection)) {
    start.client_guid = {guid->bytes};
  }
  const uint64_t number = next_++;
  if (const auto told = main_->start(number, start); !told) {
    return refuse(key, told.error().text(), EAGAIN);
  }
  asked_[key] = number;
  ++processes_asked_;
}

void ChannelRouter::refuse(const Key& key, const std::string& why, int error) {
  const auto [slot, connection] = key;
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  const std::string client = addresses == nullptr ? "?" : shm::host_text(shm::host_of(addresses->peer));
  log_.write(log::Level::warning, client + std::to_string(error), loop_.now(), "no server process for %s: %s",
             client.c_str(), why.c_str());
  tell(slot, message::NoSmbd{{connection}, {uint32_t(error == 0 ? ECONNREFUSED : error)}});
}

// --- channels on their way ---

void ChannelRouter::passed(size_t slot, shm::ConnectionId connection, shm::UniqueFd socket) {
  const Key key{slot, connection};
  const auto found = passes_.find(key);
  // One for each time that it was given a process.
  if (clients_ == nullptr || found == passes_.end() || found->second.socket.valid()) return;
  Pass& pass = found->second;
  const auto guid = clients_->guid_of(workers_.ref(slot), connection);
  const auto entry = guid ? clients_->find(*guid) : std::nullopt;
  if (!entry || entry->state != shm::EntryState::live || !entry->peer.known()) {
    passes_.erase(found);
    return clients_->ask_again(workers_.ref(slot), connection);  // its process has gone meanwhile
  }
  if (!is_channel(socket)) return give_up(key);
  if (pass.process != entry->peer) {
    pass.process = entry->peer;
    pass.untried = clients_->workers_of(*guid, entry->peer);
    std::ranges::reverse(pass.untried);
    pass.until_ms = loop_.now() + kAllPassesMs;
    pass.deadline = std::make_unique<shm::Timer>(loop_, [this, key] { not_taken(key); });
  }
  pass.socket = std::move(socket);
  pass_on(key);
}

/// To the next worker that has a channel with the process.
void ChannelRouter::pass_on(const Key& key) {
  Pass& pass = passes_.at(key);
  while (!pass.untried.empty() && loop_.now() < pass.until_ms) {
    pass.with = pass.untried.back();
    pass.untried.pop_back();
    if (pass.with >= workers_.size() || !workers_[pass.with].has_process()) continue;
    pass.sequence = next_++;
    ++channels_passed_;
    pass.deadline->start(kPassMs);
    return tell(pass.with, message::PassTo{{pass.sequence}, {pass.process.pid}, {}}, pass.socket.get());
  }
  give_up(key);
}

/// It was given to the process, which has not attached itself: that channel is over, for it may be read yet,
/// and another is to be tried.
void ChannelRouter::not_taken(const Key& key) {
  Pass& pass = passes_.at(key);
  if (pass.untried.empty() || loop_.now() >= pass.until_ms) return give_up(key);
  shutdown(pass.socket.get(), SHUT_RDWR);
  pass.socket.reset();
  answer(key.first, key.second, ClaimOutcome::owner);
}

/// It does not answer, by none of its channels: let the main process see to it.
void ChannelRouter::give_up(const Key& key) {
  const auto found = passes_.find(key);
  if (found->second.socket.valid()) shutdown(found->second.socket.get(), SHUT_RDWR);
  passes_.erase(found);
  answer(key.first, key.second, ClaimOutcome::granted);
}

void ChannelRouter::not_passed(size_t slot, uint64_t sequence) {
  const auto found = std::ranges::find_if(passes_, [&](const auto& entry) {
    return entry.second.sequence == sequence && entry.second.with == slot && entry.second.socket.valid();
  });
  if (found != passes_.end()) pass_on(Key(found->first));
}

// --- the end ---

void ChannelRouter::forget(size_t slot, shm::ConnectionId connection) {
  asked_.erase({slot, connection});
  passes_.erase({slot, connection});
}

void ChannelRouter::forget_worker(size_t slot) {
  std::erase_if(asked_, [&](const auto& entry) { return entry.first.first == slot; });
  std::erase_if(passes_, [&](const auto& entry) { return entry.first.first == slot; });
  if (clients_ != nullptr) unlink(listener_path(slot).c_str());
  for (auto& [key, pass] : passes_) {
    if (pass.socket.valid() && pass.with == slot) pass.deadline->start(0);
  }
}

void ChannelRouter::use(ClientRegistry* clients) {
  clients_ = clients;
  remove_listeners_of_the_dead(config_.run_directory);
}

void ChannelRouter::close() {
  passes_.clear();
  asked_.clear();
  main_.reset();
}

shm::Totals ChannelRouter::totals() const {
  return {{"processes_asked", processes_asked_}, {"channels_passed", channels_passed_}};
}

}  // namespace smbdirect::daemon
