// SPDX-License-Identifier: MIT
// What smbdirectctl and SIGHUP change in a pool that serves.
#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <optional>
#include <string>
#include <utility>

#include "daemon/supervisor.h"
#include "shm/base/log.h"
#include "shm/base/printable.h"

namespace smbdirect::daemon {

namespace log = shm::log;

void Supervisor::approach_configuration() {
  workers_.approach_configuration();
  dispatcher_.finish_retiring();
}

std::optional<Refused> Supervisor::not_serving() const {
  if (successor_ && phase_ == Phase::serving) {
    return Refused{"another daemon (pid " + std::to_string(successor_->pid()) +
                   ") is taking over from this one; ask again when it has, or has failed"};
  }
  if (phase_ == Phase::serving) return std::nullopt;
  return Refused{"the pool is " + std::string(phase_name()) + "; this can be done only while it is serving"};
}

std::expected<Reloaded, Refused> Supervisor::reload() {
  if (auto refused = not_serving()) return std::unexpected(std::move(*refused));
  auto wanted = options_.read_config();
  if (!wanted)
    return std::unexpected(
        Refused{"the pool file is wrong and nothing has changed:", std::move(wanted.error())});
  Reloaded done{changes_between(config_, *wanted)};
  auto merged = after_reload(config_, std::move(*wanted));
  if (!merged) {
    Refused refused{"nothing has changed: keys that need a restart would stay as they are, and with them:"};
    for (const Problem& problem : merged.error())
      refused.problems.push_back(problem.pointer + " " + problem.text);
    return std::unexpected(std::move(refused));
  }
  const PoolConfig before = std::exchange(config_, std::move(*merged));
  const auto to_workers = [](const Change& change) { return change.applies == Applies::to_workers; };
  if (std::ranges::any_of(done.changes, to_workers)) workers_.configuration_changed();
  if (before.worker.log_level != config_.worker.log_level) tell_log_level();
  dispatcher_.configuration_changed(before);
  smbd_requests_.configuration_changed(before);
  if (before.control_group != config_.control_group) control_.configuration_changed();
  if (native()) clients_.end_starts_after(config_.worker.handshake_timeout_ms);
  approach_configuration();
  show_status();
  for (const Change& change : done.changes) {
    log::write(log::Level::notice, "reload: %s was %s and is %s; this applies %s", change.pointer.c_str(),
               change.from.c_str(), change.to.c_str(), applies_text(change.applies).data());
  }
  if (done.changes.empty()) log::write(log::Level::notice, "reload: nothing has changed");
  return done;
}

void Supervisor::tell_log_level() {
  log::configure(config_.worker.log_level, "smbdirectd");
  workers_.each([this](WorkerSlot& worker) {
    if (!worker.has_process()) return;
    if (const auto sent = worker.send(message::LogLevel{{config_.worker.log_level}}); !sent) {
      log::write(log::Level::warning, "worker (pid %d) is not told the log level, and keeps its own: %s",
                 int(worker.pid()), sent.error().text().c_str());
    }
  });
}

std::expected<log::Level, Refused> Supervisor::set_log_level(const std::string& name) {
  const auto level = log::level_from_name(name);
  if (!level) {
    const auto key = std::ranges::find(pool_keys(), std::string_view("/log/level"), &Key::pointer);
    return std::unexpected(Refused{"\"" + name + "\" is no log level; allowed: " + allowed_text(*key)});
  }
  config_.worker.log_level = *level;
  tell_log_level();
  log::write(log::Level::notice, "the log level is %s until the pool file is read again",
             log::level_name(*level).data());
  return *level;
}

void Supervisor::reload_by_signal() {
  const bool serving = phase_ == Phase::serving;
  if (serving) options_.notify.reloading();
  if (const auto done = reload(); !done) {
    log::write(log::Level::error, "reload: %s", done.error().why.c_str());
    for (const std::string& problem : done.error().problems)
      log::write(log::Level::error, "reload: %s", problem.c_str());
  }
  if (serving) options_.notify.ready("listening on " + listeners_.text());
}

std::expected<Resized, Refused> Supervisor::resize(uint32_t workers) {
  if (auto refused = not_serving()) return std::unexpected(std::move(*refused));
  const auto key = std::ranges::find(pool_keys(), std::string_view("/workers"), &Key::pointer);
  if (workers < key->min || workers > key->max) {
    return std::unexpected(Refused{std::to_string(workers) + " is no number of workers; allowed: " +
                                   std::to_string(key->min) + " to " + std::to_string(key->max)});
  }
  const size_t before = std::exchange(config_.workers, workers);
  log::write(log::Level::notice, "resize: from %zu workers to %" PRIu32, before, workers);
  approach_configuration();
  show_status();
  return Resized{.before = before, .workers = workers, .draining = workers_.count(WorkerState::draining)};
}

std::expected<Held, Refused> Supervisor::hold(std::optional<uint32_t> slot, bool held) {
  if (auto refused = not_serving()) return std::unexpected(std::move(*refused));
  if (slot && (*slot >= workers_.size() || !workers_[*slot].active()))
    return std::unexpected(
        Refused{"there is no worker " + std::to_string(*slot) + "; smbdirectctl workers shows them"});
  if (slot) {
    workers_[*slot].hold(held);
  } else {
    workers_.hold_all(held);
  }
  log::write(log::Level::notice, "%s %s", slot ? ("worker " + std::to_string(*slot)).c_str() : "the pool",
             held ? "was drained: it takes no more connections until smbdirectctl undrain"
                  : "takes connections again");
  if (!held) dispatcher_.worker_ready();
  Held done;
  for (size_t at = 0; at < workers_.size(); ++at) {
    if (!workers_[at].active() || !workers_[at].held()) continue;
    ++done.workers;
    done.connections += dispatcher_.connections_of(at);
  }
  return done;
}

std::expected<Kicked, Refused> Supervisor::kick(const std::string& whose) {
  const auto address = shm::address_from_text(whose, 0);
  std::string lower = whose;  // Windows writes a GUID in upper case
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  const auto found = dispatcher_.connection_table().find_if(
      [&](shm::ConnectionId connection, size_t slot, const ConnectionTable::Addresses& addresses) {
        if (address) return shm::host_of(addresses.peer) == shm::host_of(*address);
        if (shm::connection_text(connection) == whose || shm::address_text(addresses.peer) == whose)
          return true;
        const auto guid = clients_.guid_of(workers_.ref(slot), connection);
        return guid && shm::guid_text(*guid) == lower;
      });
  if (found.empty()) {
    return std::unexpected(
        Refused{"no connection has this number, ClientGuid or address; smbdirectctl connections "
                "shows what there is"});
  }
  for (const shm::ConnectionId connection : found) dispatcher_.end(connection, EndReason::asked_for);
  log::write(log::Level::notice, "%zu connections are ended by smbdirectctl kick %s", found.size(),
             shm::printable(whose).c_str());
  return Kicked{.connections = found.size()};
}

}  // namespace smbdirect::daemon
