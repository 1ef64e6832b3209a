// SPDX-License-Identifier: MIT
#include "daemon/accept/rdma_listeners.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <utility>

#include "daemon/accept/incoming_rdma.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint32_t kBacklog = 512;
constexpr int kEventsPerWake = 64;  // then the loop's other work has its turn
constexpr uint64_t kRetryMs = 500;  // how often a missing device is looked for
constexpr uint64_t kTroubleLogMs = 10'000;

std::string name_of(const ListenerConfig& config) {
  return config.address + " port " + std::to_string(config.port) + " (verbs)";
}

}  // namespace

RdmaListeners::RdmaListeners(shm::Loop& loop, const PoolConfig& config, Requested requested,
                             RdmaCm::Calls* calls)
    : loop_(loop),
      requested_(std::move(requested)),
      calls_(calls),
      retry_timer_(loop, [this] { retry(); }),
      trouble_log_(kTroubleLogMs, 16) {
  for (const ListenerConfig& listener : config.listeners) {
    if (listener.fabric == Fabric::verbs) listeners_.push_back({.config = listener, .id = {}});
  }
}

shm::Result<> RdmaListeners::bind(const std::vector<ListenerConfig>& inherited, shm::UniqueFd its_file) {
  if (listeners_.empty()) return {};
  if (its_file.valid()) former_file_ = std::move(its_file);
  auto file = calls_ != nullptr ? RdmaCm::open(*calls_) : RdmaCm::open();
  if (!file) return std::unexpected(file.error());
  file_.emplace(std::move(*file));
  auto watch = shm::ReadWatch::make(loop_, file_->fd(), [this] { read_events(); });
  if (!watch) return std::unexpected(watch.error());
  watch_.emplace(std::move(*watch));
  for (Listener& listener : listeners_) {
    listener.inherited = std::ranges::find(inherited, listener.config) != inherited.end();
    if (listener.inherited) continue;
    if (const auto made = make_or_wait(listener); !made) return made;
  }
  return {};
}

shm::Result<> RdmaListeners::adopt(const std::vector<RdmaListenerId>& ids) {
  for (Listener& listener : listeners_) {
    if (!listener.inherited) continue;
    const auto found = std::ranges::find(ids, listener.config, &RdmaListenerId::listener);
    if (found == ids.end()) continue;
    if (const auto moved = file_->migrate(found->id, former_file_.get()); !moved)
      return shm::fail("take over " + name_of(listener.config) + ": " + moved.error().text());
    listener.id = found->id;
  }
  return {};
}

shm::Result<> RdmaListeners::take_back(const std::vector<RdmaListenerId>& ids, shm::UniqueFd its_file) {
  if (!file_ || !its_file.valid()) return {};
  former_file_ = std::move(its_file);
  shm::Result<> done;
  for (const RdmaListenerId& one : ids) {
    if (file_->query(one.id)) continue;  // it is here
    const auto moved = file_->migrate(one.id, former_file_.get());
    if (!moved) done = shm::fail("take back " + name_of(one.listener) + ": " + moved.error().text());
  }
  return done;
}

shm::Result<> RdmaListeners::listen() {
  listening_ = true;
  for (Listener& listener : listeners_) {
    // What was inherited listens already.
    if (std::exchange(listener.inherited, false) || !listener.id) continue;
    if (const auto listening = file_->listen(*listener.id, kBacklog); !listening) {
      return shm::fail("listen on " + name_of(listener.config) + ": " + listening.error().text());
    }
  }
  if (watch_ && !held_) watch_->start();
  if (any_missing() || former_file_.valid()) retry_timer_.start(any_missing() ? kRetryMs : 0);
  return {};
}

bool RdmaListeners::any_missing() const {
  return std::ranges::any_of(listeners_, [](const auto& listener) { return !listener.id; });
}

/// An id, bound, and listening if the others are.
shm::Result<> RdmaListeners::make(Listener& listener) {
  const auto address = shm::address_from_text(listener.config.address, listener.config.port);
  if (!address) return shm::fail("listener address " + listener.config.address, EINVAL);
  const auto cookie = 1 + static_cast<uint64_t>(&listener - listeners_.data());  // 0 would get no events
  const auto id = file_->create(cookie);
  if (!id) return std::unexpected(id.error());
  auto done = file_->bind(*id, *address);
  if (done && listening_) done = file_->listen(*id, kBacklog);
  if (!done) {
    [[maybe_unused]] const auto destroyed = file_->destroy(*id);
    return done;
  }
  if (const auto bound = file_->query(*id); bound && listener.config.port == 0) {
    listener.config.port = shm::port_of(bound->local);
  }
  listener.id = *id;
  return {};
}

shm::Result<> RdmaListeners::make_or_wait(Listener& listener) {
  const auto made = make(listener);
  if (made) {
    if (std::exchange(listener.told, false)) {
      log::write(log::Level::notice, "listening on %s: an RDMA device has this address now",
                 name_of(listener.config).c_str());
    }
    return {};
  }
  const int error = made.error().system_errno;
  if (error != ENODEV && error != EADDRNOTAVAIL) {
    return shm::fail("bind " + name_of(listener.config) + ": " + made.error().text());
  }
  listener.homeless = error == EADDRNOTAVAIL;
  if (!std::exchange(listener.told, true)) {
    const char* why =
        listener.homeless
            ? "no interface of this host has this address now; the listener opens when an RDMA device has it"
            : "no RDMA device has this address now; the listener opens when one does (\"rdma link\" shows "
              "the devices and their interfaces)";
    log::write(log::Level::warning, "%s: %s", name_of(listener.config).c_str(), why);
  }
  return {};
}

void RdmaListeners::retry() {
  for (Listener& listener : listeners_) {
    if (listener.id) continue;
    if (const auto made = make_or_wait(listener); !made) {
      // Whatever it is, this pool goes on without it.
      if (const auto held_back = trouble_log_.pass(listener.config.address, loop_.now())) {
        log::write(log::Level::warning, "%s; trying again (%" PRIu64 " such lines held back)",
                   made.error().text().c_str(), *held_back);
      }
    }
  }
  if (any_missing()) retry_timer_.start(kRetryMs);
  if (former_file_.valid()) read_events();  // none may be left there, and no event that would tell
}

/// The device under a listening id is gone, or its address moved to another one.
void RdmaListeners::lose(Listener& listener, const CmEvent& event) {
  log::write(log::Level::warning, "%s: %s; the listener opens again when a device has the address",
             name_of(listener.config).c_str(),
             event.type == CmEventType::addr_change ? "its address has moved" : "its RDMA device is gone");
  listener.told = true;
  listener.homeless = false;
  listener.id.reset();
  if (const auto destroyed = file_->destroy(event.id); !destroyed) {
    log::write(log::Level::warning, "%s: %s", name_of(listener.config).c_str(),
               destroyed.error().text().c_str());
  }
  retry_timer_.start(event.type == CmEventType::addr_change ? 0 : kRetryMs);
}

void RdmaListeners::read_events() {
  for (int i = 0; i < kEventsPerWake && !held_ && file_; ++i) {
    const auto event = file_->next_event();
    if (!event) {
      if (const auto held_back = trouble_log_.pass("events", loop_.now())) {
        log::write(log::Level::error, "RDMA listeners: %s (%" PRIu64 " such lines held back)",
                   event.error().text().c_str(), *held_back);
      }
      return;
    }
    if (!*event) return former_file_.reset();  // all that was announced elsewhere has come in
    switch ((*event)->type) {
      case CmEventType::connect_request:
        requested(**event);
        break;
      case CmEventType::device_removal:
      case CmEventType::addr_change: {
        const auto listener =
            std::ranges::find_if(listeners_, [&](const auto& one) { return one.id == (*event)->id; });
        if (listener != listeners_.end()) lose(*listener, **event);
        break;
      }
      // Events of a request: the kernel reports none before it is accepted (rdma_ucm.h).
      case CmEventType::connect_error:
      case CmEventType::unreachable:
      case CmEventType::rejected:
      case CmEventType::disconnected:
      // Of a connecting or connected id, which are never here, or of no consequence.
      case CmEventType::addr_resolved:
      case CmEventType::addr_error:
      case CmEventType::route_resolved:
      case CmEventType::route_error:
      case CmEventType::connect_response:
      case CmEventType::established:
      case CmEventType::multicast_join:
      case CmEventType::multicast_error:
      case CmEventType::timewait_exit:
        break;
    }
  }
}

/// Whether the request is on this file, or is now: one that was announced before its listening id moved is on
/// the file that this came from.
bool RdmaListeners::fetch(const CmEvent& request) {
  if (!former_file_.valid() || file_->query(request.id)) return true;
  const auto moved = file_->migrate(request.id, former_file_.get());
  if (!moved) {
    log::write(log::Level::debug, "a connection request ended before it was taken over: %s",
               moved.error().text().c_str());
  }
  return moved.has_value();
}

void RdmaListeners::requested(const CmEvent& event) {
  if (!fetch(event)) return;
  auto request = std::make_unique<IncomingRdma>(*file_, event);
  const auto addresses = file_->query(event.id);
  if (!addresses) {
    log::write(log::Level::debug, "a connection request ended before it was read: %s",
               addresses.error().text().c_str());
    return;
  }
  // A kernel that does not tell leaves us with the address alone.
  const auto gids = file_->peer_gids(event.id);
  if (const shm::Host claimed = shm::host_of(addresses->peer); gids && is_false_claim(claimed, *gids)) {
    claim_log_.write(
        log::Level::warning, shm::host_text(gids->path), loop_.now(),
        "a connection request claims the address %s but comes from GID %s, another address: turned away",
        shm::host_text(claimed).c_str(), shm::host_text(gids->path).c_str());
    return;
  }
  requested_(std::move(request), addresses->peer, addresses->local);
}

void RdmaListeners::hold(bool held) {
  if (held == std::exchange(held_, held) || !watch_ || !listening_) return;
  held ? watch_->stop() : watch_->start();
}

void RdmaListeners::pause(bool paused) {
  if (paused) retry_timer_.stop();
  if (!paused && listening_ && any_missing()) retry_timer_.start(kRetryMs);
}

std::vector<ListenerConfig> RdmaListeners::configured() const {
  std::vector<ListenerConfig> all;
  for (const Listener& listener : listeners_) all.push_back(listener.config);
  return all;
}

std::vector<RdmaListenerId> RdmaListeners::ids() const {
  std::vector<RdmaListenerId> ids;
  for (const Listener& listener : listeners_) {
    if (listener.id) ids.push_back({listener.config, *listener.id});
  }
  return ids;
}

shm::UniqueFd RdmaListeners::file_copy() const {
  return file_ ? shm::duplicate_of(file_->fd()) : shm::UniqueFd{};
}

void RdmaListeners::close() {
  retry_timer_.stop();
  watch_.reset();
  // Another process may have a copy of the file, which would keep the listeners alive. Those that were
  // adopted and never listened at are for their former owner to take back.
  for (const Listener& listener : listeners_) {
    if (!listener.id || listener.inherited) continue;
    [[maybe_unused]] const auto destroyed = file_->destroy(*listener.id);
  }
  former_file_.reset();
  file_.reset();
  listeners_.clear();
}

std::vector<std::string> RdmaListeners::texts() const {
  std::vector<std::string> texts;
  for (const Listener& listener : listeners_) {
    const char* waits = listener.homeless ? ", waiting for its address" : ", waiting for its device";
    texts.push_back(name_of(listener.config) + (listener.id ? "" : waits));
  }
  return texts;
}

}  // namespace smbdirect::daemon
