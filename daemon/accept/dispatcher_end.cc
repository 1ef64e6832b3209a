// SPDX-License-Identifier: MIT
// Connections that the supervisor ends: to make room for others, because it was asked to, or because their
// local address leaves this host.
#include <string>
#include <utility>

#include "daemon/accept/dispatcher.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

namespace log = shm::log;

/// Whatever becomes of the offer, it is over, and with no worker.
void Dispatcher::turn_away(shm::ConnectionId connection) {
  offers_.drop(connection);
  places_.remove(connection);
}

/// True: it had not come to a worker, and is gone. Else a worker has it, which is to be told.
bool Dispatcher::turned_away(Offer& offer, bool at_once) {
  const shm::ConnectionId connection = offer.connection;
  const auto slot = offer.slot;
  const TakenBack where = slot ? offer.incoming->take_back() : TakenBack::ours;
  if (where == TakenBack::workers) {
    handed_over(offer, *slot);
    return false;
  }
  if (slot) table_.remove(connection, *slot);
  if (at_once) offer.incoming->turn_away_at_once();
  turn_away(connection);
  return true;
}

/// Ends this connection, which has no session, so that another gets its place.
void Dispatcher::make_room(shm::ConnectionId connection) {
  ++made_room_;
  Offer* offer = offers_.find(connection);
  const auto slot = table_.slot_of(connection);
  if (offer == nullptr && !slot) return places_.remove(connection);
  const ConnectionTable::Addresses* addresses = slot ? table_.addresses(connection, *slot) : nullptr;
  const sockaddr_storage peer = offer != nullptr ? offer->peer
                                : addresses      ? addresses->peer
                                                 : sockaddr_storage{};
  room_log_.write(
      log::Level::warning, shm::host_text(config_.client_of(peer)), loop_.now(),
      "a connection of %s is closed to make room for another: %zu connections have no session, and "
      "this is the oldest one of the client that has the most of them "
      "(/limits/connections_without_session)",
      shm::address_text(peer).c_str(), places_.without_session());
  if (offer != nullptr && turned_away(*offer, false)) return;
  places_.ending(connection);
  end(connection, EndReason::place_needed);
}

void Dispatcher::end(shm::ConnectionId connection, EndReason reason) {
  const auto slot = table_.slot_of(connection);
  if (!slot) return;
  const auto sent = workers_[*slot].send(message::End{{connection}, {reason}});
  const bool expected = reason == EndReason::place_needed;
  if (!sent)
    log::write(expected ? log::Level::debug : log::Level::warning, "worker %zu: %s", *slot,
               sent.error().text().c_str());
}

Dispatcher::Ending Dispatcher::end_at(const std::function<bool(const shm::Host& local)>& is,
                                      const std::string& why) {
  Ending ending;
  for (const shm::ConnectionId connection : offers_.all()) {
    Offer* offer = offers_.find(connection);
    if (!is(shm::host_of(offer->local))) continue;
    const sockaddr_storage peer = offer->peer;
    if (!turned_away(*offer, true)) continue;
    refuse(Refusal::leaving, peer, why);
    ++ending.offers;
  }
  ending.granted =
      table_.find_if([&](shm::ConnectionId, size_t, const ConnectionTable::Addresses& addresses) {
        return is(shm::host_of(addresses.local));
      });
  for (const shm::ConnectionId connection : ending.granted) end(connection, EndReason::address_leaves);
  settle();
  return ending;
}

}  // namespace smbdirect::daemon
