// SPDX-License-Identifier: MIT
#include "daemon/accept/dispatcher.h"

#include <algorithm>
#include <cinttypes>
#include <string_view>
#include <utility>

#include "shm/base/probes.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr std::array<std::string_view, kRefusals> kRefusalNames{"refused_access",       "refused_pool_limit",
                                                                "refused_client_limit", "refused_client_rate",
                                                                "refused_no_worker",    "refused_leaving"};
constexpr uint64_t kBurstSeconds = 10;

std::string log_key(Refusal refusal, const shm::Host& client) {
  std::string key(1, char('0' + int(refusal)));
  key.append(reinterpret_cast<const char*>(client.data()), client.size());
  return key;
}

TokenBuckets rate_of(const PoolConfig& config) {
  return {
      std::max<uint64_t>(config.connections_per_client, kBurstSeconds * config.connection_rate_per_client),
      config.connection_rate_per_client};
}

}  // namespace

Dispatcher::Dispatcher(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers, Listeners& listeners,
                       WorkersAt workers_at)
    : loop_(loop),
      config_(config),
      workers_(workers),
      listeners_(listeners),
      workers_at_(std::move(workers_at)),
      table_(shm::kWorkerSlots, config.worker.ipv6_prefix_length),
      offers_(shm::kWorkerSlots),
      places_(config.worker.connections, config.most_without_session()),
      rate_(rate_of(config)),
      deadline_timer_(loop, [this] { deadlines(); }) {}

void Dispatcher::configuration_changed(const PoolConfig& before) {
  places_.set_without_session(config_.most_without_session());
  // Only if it is another one: clients keep what they have used of it.
  if (before.connections_per_client != config_.connections_per_client ||
      before.connection_rate_per_client != config_.connection_rate_per_client) {
    rate_ = rate_of(config_);
  }
}

void Dispatcher::accepted(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                          const sockaddr_storage& local) {
  ++accepted_;
  const shm::Host client = config_.client_of(peer);
  if (leaving_.contains(shm::host_of(local))) {
    incoming->turn_away_at_once();
    return refuse(Refusal::leaving, peer,
                  "the address " + shm::host_text(shm::host_of(local)) +
                      " leaves this host (smbdirectctl leave); smbdirectctl take lets it in again");
  }
  if (const Access access = config_.access.check(shm::host_of(peer)); access != Access::allowed) {
    return refuse(Refusal::access, peer, std::string(access_text(access)));
  }
  const size_t of_client = places_.of_client(client);
  if (of_client >= config_.connections_per_client) {
    return refuse(
        Refusal::client_limit, peer,
        "it has " + std::to_string(of_client) + " connections already (/limits/connections_per_client)");
  }
  if (!rate_.take(client, loop_.now())) {
    return refuse(Refusal::client_rate, peer,
                  "too many of its connections ended without a session (/limits/connection_rate_per_client)");
  }
  const Places::Room room = places_.room_for(client, loop_.now());
  if (room.none) {
    rate_.give_back(client);
    return refuse(Refusal::pool_limit, peer,
                  "the pool has " + std::to_string(places_.total()) +
                      " connections (/limits/connections), of which " +
                      std::to_string(places_.without_session()) +
                      " have no session (/limits/connections_without_session)");
  }
  if (room.goes) make_room(*room.goes);
  Offer& offer = offers_.add(std::move(incoming), peer, local);
  places_.add(offer.connection, client, loop_.now());
  dispatch(offer);
  settle();
}

void Dispatcher::dispatch(Offer& offer) {
  const shm::ConnectionId connection = offer.connection;
  const shm::Host client = offer.client();
  for (;;) {
    std::vector<bool> eligible(shm::kWorkerSlots);
    for (size_t slot = 0; slot < workers_.size(); ++slot) {
      eligible[slot] = workers_[slot].takes_offers() && !offer.tried[slot];
    }
    const uint64_t known =
        config_.affinity == Affinity::client ? workers_at_(config_.client_of(offer.peer)) : 0;
    const auto slot = table_.choose(client, config_.affinity, eligible, known);
    if (!slot) break;
    Offers::assign(offer, *slot, loop_.now());
    message::Offer said{{connection}, {.peer = offer.peer, .local = offer.local}};
    auto offered = offer.incoming->prepare(workers_[*slot].handover(), said);
    if (offered) offered = workers_[*slot].send(said);
    if (offered) {
      table_.add(connection, *slot, offer.peer, offer.local);
      shm::probe::connection_offered(std::to_underlying(connection), *slot);
      return count_affinity(known, *slot);
    }
    log::write(log::Level::debug, "worker %zu: %s", *slot, offered.error().text().c_str());
    Offers::give_up_on(offer);
    if (offer.incoming->take_back() != TakenBack::ours) return turn_away(connection);  // it was not told
  }
  const bool soon = workers_.any([](const WorkerSlot& worker) { return worker.soon_ready(); });
  if (soon) return Offers::wait(offer, loop_.now());
  const sockaddr_storage peer = offer.peer;
  turn_away(connection);
  refuse(Refusal::no_worker, peer,
         workers_.all_held() ? "the pool was drained by smbdirectctl drain; smbdirectctl undrain ends that"
                             : "no worker accepts it; earlier lines or smbdirectctl workers show why");
}

void Dispatcher::count_affinity(uint64_t known, size_t slot) {
  if (known != 0) ++((known >> slot & 1) != 0 ? affinity_hits_ : affinity_misses_);
}

void Dispatcher::retry(shm::ConnectionId connection) {
  Offer* offer = offers_.find(connection);
  if (offer == nullptr) return;
  if (offer->slot) {
    const TakenBack where = offer->incoming->take_back();
    if (where == TakenBack::workers) return handed_over(*offer, *offer->slot);
    table_.remove(connection, *offer->slot);
    if (where == TakenBack::gone) return turn_away(connection);
  }
  Offers::give_up_on(*offer);
  dispatch(*offer);
}

void Dispatcher::hand_over(Offer& offer) {
  const size_t slot = *offer.slot;
  if (const auto descriptor = offer.incoming->grant()) {
    const auto sent = workers_[slot].send(message::Grant{{offer.connection}, {}}, *descriptor);
    if (!sent) {
      grant_log_.write(log::Level::warning, std::to_string(slot), loop_.now(),
                       "worker %zu: %s; the connection is offered to another", slot,
                       sent.error().text().c_str());
      return retry(offer.connection);
    }
  }
  offer.incoming->handed_over();
  handed_over(offer, slot);
}

/// The offer ends; the connection table keeps the count until the worker sends CLOSED, or dies.
void Dispatcher::handed_over(const Offer& offer, size_t slot) {
  ++granted_;
  shm::probe::connection_granted(std::to_underlying(offer.connection), slot);
  log::write(log::Level::debug, "connection %" PRIu64 " of %s is worker %zu's",
             std::to_underlying(offer.connection), shm::address_text(offer.peer).c_str(), slot);
  offers_.drop(offer.connection);
}

void Dispatcher::taken(size_t slot, shm::ConnectionId connection) {
  if (Offer* offer = offers_.find(connection, slot)) hand_over(*offer);
  settle();
}

void Dispatcher::refused(size_t slot, shm::ConnectionId connection) {
  if (offers_.find(connection, slot) != nullptr) retry(connection);
  settle();
}

void Dispatcher::session_up(size_t slot, shm::ConnectionId connection) {
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  if (offers_.find(connection, slot) != nullptr || addresses == nullptr) return;
  if (places_.session_up(connection)) rate_.give_back(config_.client_of(addresses->peer));
}

/// Nobody's limits turn it away: it is here already.
bool Dispatcher::kept(size_t slot, shm::ConnectionId connection,
                      const ConnectionTable::Addresses& addresses) {
  if (!offers_.is_others(connection) || table_.slot_of(connection) ||
      table_.of_slot(slot) >= config_.worker.connections) {
    return false;
  }
  table_.add(connection, slot, addresses.peer, addresses.local);
  places_.add(connection, config_.client_of(addresses.peer), loop_.now());
  if (leaving_.contains(shm::host_of(addresses.local))) end(connection, EndReason::address_leaves);
  return true;
}

/// Only of a granted connection; an offer ends by TAKE or REFUSE.
void Dispatcher::closed(size_t slot, shm::ConnectionId connection) {
  if (offers_.find(connection, slot) != nullptr || !table_.remove(connection, slot)) return;
  places_.remove(connection);
  shm::probe::connection_closed(std::to_underlying(connection), slot);
}

void Dispatcher::worker_ready() {
  for (const shm::ConnectionId connection : offers_.all_waiting()) {
    if (Offer* offer = offers_.find(connection)) dispatch(*offer);
  }
  settle();
}

size_t Dispatcher::worker_gone(size_t slot) {
  std::vector<shm::ConnectionId> offered = offers_.forget_slot(slot);
  // What it had taken without saying so went with it.
  std::erase_if(offered, [&](shm::ConnectionId connection) {
    Offer* offer = offers_.find(connection);
    const TakenBack where = offer->incoming->take_back();
    if (where == TakenBack::workers) {
      handed_over(*offer, slot);
    } else {
      table_.remove(connection, slot);
      if (where == TakenBack::gone) turn_away(connection);
    }
    return where != TakenBack::ours;
  });
  const std::vector<shm::ConnectionId> lost = table_.connections_of(slot);
  for (const shm::ConnectionId connection : lost) {
    table_.remove(connection, slot);
    places_.remove(connection);
  }
  for (const shm::ConnectionId connection : offered) {
    if (Offer* offer = offers_.find(connection)) dispatch(*offer);
  }
  // Offers that waited for this worker to become ready may have no worker to wait for now.
  worker_ready();
  return lost.size();
}

void Dispatcher::deadlines() {
  const uint64_t now = loop_.now();
  for (const shm::ConnectionId connection : offers_.overdue(now)) {
    Offer* offer = offers_.find(connection);
    if (offer == nullptr) continue;
    if (!offer->slot) {
      const sockaddr_storage peer = offer->peer;
      turn_away(connection);
      refuse(Refusal::no_worker, peer, "no worker became ready in time");
      continue;
    }
    slow_log_.write(log::Level::warning, std::to_string(*offer->slot), now,
                    "worker %zu did not answer an offer within %" PRIu64
                    " ms; the connection is offered to another",
                    *offer->slot, kOfferDeadlineMs);
    workers_[*offer->slot].mark_unresponsive();
    retry(connection);
  }
  settle();
}

void Dispatcher::close() {
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    for (const shm::ConnectionId connection : offers_.forget_slot(slot)) table_.remove(connection, slot);
  }
  offers_.clear();
  deadline_timer_.stop();
}

void Dispatcher::refuse(Refusal refusal, const sockaddr_storage& peer, const std::string& why) {
  ++refused_.at(size_t(refusal));
  shm::probe::connection_refused(uint64_t(refusal));
  refusal_log_.write(log::Level::warning, log_key(refusal, config_.client_of(peer)), loop_.now(),
                     "%s is turned away: %s", shm::address_text(peer).c_str(), why.c_str());
}

/// After every change: what follows from how many offers there are.
void Dispatcher::finish_retiring() {
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    if (workers_[slot].retires() && !offers_.any_at(slot)) workers_[slot].finish_retiring();
  }
}

void Dispatcher::settle() {
  finish_retiring();
  listeners_.hold(offers_.full());
  const auto next = offers_.next_deadline();
  if (!next) {
    deadline_timer_.stop();
    if (empty_) empty_();
    return;
  }
  const uint64_t now = loop_.now();
  deadline_timer_.start(*next > now ? *next - now : 0);
}

shm::Totals Dispatcher::totals() const {
  shm::Totals totals{{"connections", table_.total()},
                     {"pending", offers_.size()},
                     {"accepted", accepted_},
                     {"granted", granted_}};
  for (size_t i = 0; i < refused_.size(); ++i) totals.push_back({kRefusalNames[i], refused_[i]});
  totals.push_back({"affinity_hits", affinity_hits_});
  totals.push_back({"affinity_misses", affinity_misses_});
  totals.push_back({"without_session", places_.without_session()});
  totals.push_back({"made_room", made_room_});
  return totals;
}

}  // namespace smbdirect::daemon
