// SPDX-License-Identifier: MIT
// Local addresses that leave this host and come back: a cluster manager moves them between hosts.
#include <map>
#include <string>
#include <utility>

#include "daemon/os/own_address.h"
#include "daemon/supervisor.h"
#include "shm/base/log.h"
#include "shm/base/printable.h"

namespace smbdirect::daemon {

namespace log = shm::log;

namespace {

std::string still_there(const std::string& address, const LeavingAddresses::Left& left) {
  std::string text = std::to_string(left.still_there) + " connections to " + address +
                     " are still there after " + std::to_string(LeavingAddresses::kPatienceMs / 1000) +
                     " s (" + std::to_string(left.ended) + " were ended, and new ones are refused)";
  if (left.unheard) text += "; the former daemon, which finishes its connections, does not answer";
  return text +
         "; smbdirectctl connections shows them with their workers, and smbdirectctl workers whether these "
         "answer";
}

}  // namespace

/// One that a connection can have at its local end.
std::expected<shm::Host, Refused> Supervisor::local_address(const std::string& text) const {
  if (successor_ && successor_->moves()) {
    return std::unexpected(Refused{"another daemon (pid " + std::to_string(successor_->pid()) +
                                   ") takes over at this moment; ask again"});
  }
  const auto address = shm::address_from_text(text, 0);
  if (!address) {
    return std::unexpected(
        Refused{"\"" + shm::printable(text) +
                "\" is no IP address; smbdirectctl connections shows those of connections (LOCAL)"});
  }
  const shm::Host host = shm::host_of(*address);
  const auto unspecified = shm::address_from_text(shm::is_ipv4(host) ? "0.0.0.0" : "::", 0);
  if (unspecified && host == shm::host_of(*unspecified)) {
    return std::unexpected(Refused{text + " stands for every address; name the one that leaves this host"});
  }
  return host;
}

/// A daemon that was taken over has connections, too, until they end.
LeavingAddresses::Elsewhere Supervisor::at_former() {
  if (!former_ || former_->draining() == 0) return {};
  return [this](const shm::Host& address, const LeavingAddresses::Answer& answer) {
    former_->leave(shm::host_text(address), [answer](const note::Left& left) {
      answer({.ended = left.ended, .still_there = left.still_there, .unheard = left.unheard});
    });
  };
}

void Supervisor::leave(const std::string& text, LeaveAnswer answer) {
  const auto address = local_address(text);
  if (!address) return answer(std::unexpected(address.error()));
  const std::string name = shm::host_text(*address);
  // A cluster manager may say it again and again.
  const bool is_new = !dispatcher_.leaving().contains(*address);
  if (is_new) {
    log::write(log::Level::notice, "the address %s leaves this host: connections to it are ended and refused",
               name.c_str());
  }
  const auto left_all = [name, is_new, answer = std::move(answer)](const LeavingAddresses::Left& left) {
    if (left.still_there > 0 || left.unheard) {
      const std::string why = still_there(name, left);
      log::write(log::Level::warning, "%s", why.c_str());
      return answer(std::unexpected(Refused{why}));
    }
    if (is_new || left.ended > 0)
      log::write(log::Level::notice, "%zu connections to %s were ended", left.ended, name.c_str());
    answer(Left{.address = name, .connections = left.ended});
  };
  leaving_.leave(*address, left_all, at_former());
}

void Supervisor::successor_says_leave(const note::Leave& leave) {
  const auto address = shm::address_from_text(leave.address, 0);
  const auto left_all = [this, number = leave.number](const LeavingAddresses::Left& left) {
    const note::Left said{
        .number = number, .ended = left.ended, .still_there = left.still_there, .unheard = left.unheard};
    if (const auto told = successor_->tell(said); !told)
      log::write(log::Level::warning, "the daemon that has taken over: %s", told.error().text().c_str());
  };
  if (!address) return left_all({});
  leaving_.leave(shm::host_of(*address), left_all, at_former());
}

std::expected<TakenIn, Refused> Supervisor::take(const std::string& text) {
  const auto address = local_address(text);
  if (!address) return std::unexpected(address.error());
  const std::string name = shm::host_text(*address);
  const bool left = leaving_.take(*address);
  if (left) log::write(log::Level::notice, "connections to %s are let in again", name.c_str());
  return TakenIn{.address = name, .left = left};
}

void Supervisor::watch_addresses() {
  if (const auto watched = address_watch_.start(); !watched) {
    log::write(log::Level::warning,
               "%s; connections to addresses that leave this host are not ended by themselves",
               watched.error().text().c_str());
  }
  if (const char* sysctl = takes_every_address(); sysctl != nullptr) {
    log::write(
        log::Level::warning,
        "%s is 1, so that this host takes every address for its own: connections to addresses that leave it "
        "are not ended by themselves, and CTDB cannot take an address. smbdirectd does without it",
        sysctl);
  }
}

void Supervisor::look_for_addresses() {
  std::map<shm::Host, bool> gone;
  const auto has_gone = [&](const shm::Host& local) {
    const auto [found, is_new] = gone.try_emplace(local);
    if (is_new) found->second = !is_own_address(local);
    return found->second;
  };
  const Dispatcher::Ending ending = dispatcher_.end_at(has_gone, "its local address has left this host");
  std::string addresses;
  for (const auto& [address, is_gone] : gone) {
    if (is_gone) addresses += (addresses.empty() ? "" : ", ") + shm::host_text(address);
  }
  if (addresses.empty()) return;
  log::write(log::Level::notice,
             "%s left this host without \"smbdirectctl leave\": %zu connections are ended, whose "
             "clients cannot be told any more",
             addresses.c_str(), ending.offers + ending.granted.size());
}

}  // namespace smbdirect::daemon
