// SPDX-License-Identifier: MIT
#include "daemon/accept/offers.h"

#include <algorithm>
#include <utility>

namespace smbdirect::daemon {

Offer& Offers::add(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                   const sockaddr_storage& local) {
  const shm::ConnectionId connection{++last_number_};
  Offer& offer = offers_[connection];
  offer.connection = connection;
  offer.incoming = std::move(incoming);
  offer.peer = peer;
  offer.local = local;
  offer.tried.assign(slots_, false);
  return offer;
}

bool Offers::any_at(size_t slot) const {
  return std::ranges::any_of(offers_, [&](const auto& entry) { return entry.second.slot == slot; });
}

size_t Offers::waiting() const {
  return size_t(std::ranges::count_if(offers_, [](const auto& entry) { return !entry.second.slot; }));
}

void Offers::assign(Offer& offer, size_t slot, uint64_t now_ms) {
  offer.slot = slot;
  offer.deadline_ms = now_ms + kOfferDeadlineMs;
}

void Offers::wait(Offer& offer, uint64_t now_ms) {
  offer.slot.reset();
  offer.deadline_ms = now_ms + kOfferDeadlineMs;
}

void Offers::give_up_on(Offer& offer) {
  if (offer.slot) offer.tried.at(*offer.slot) = true;
  offer.slot.reset();
}

Offer* Offers::find(shm::ConnectionId connection, size_t slot) {
  Offer* offer = find(connection);
  return offer != nullptr && offer->slot == slot ? offer : nullptr;
}

Offer* Offers::find(shm::ConnectionId connection) {
  const auto found = offers_.find(connection);
  return found == offers_.end() ? nullptr : &found->second;
}

std::vector<shm::ConnectionId> Offers::forget_slot(size_t slot) {
  std::vector<shm::ConnectionId> found;
  for (auto& [connection, offer] : offers_) {
    offer.tried.at(slot) = false;
    if (offer.slot != slot) continue;
    offer.slot.reset();
    found.push_back(connection);
  }
  return found;
}

std::vector<shm::ConnectionId> Offers::all() const {
  std::vector<shm::ConnectionId> found;
  for (const auto& [connection, offer] : offers_) found.push_back(connection);
  return found;
}

std::vector<shm::ConnectionId> Offers::all_waiting() const {
  std::vector<shm::ConnectionId> found;
  for (const auto& [connection, offer] : offers_) {
    if (!offer.slot) found.push_back(connection);
  }
  return found;
}

std::vector<shm::ConnectionId> Offers::overdue(uint64_t now_ms) const {
  std::vector<shm::ConnectionId> found;
  for (const auto& [connection, offer] : offers_) {
    if (offer.deadline_ms <= now_ms) found.push_back(connection);
  }
  return found;
}

std::optional<uint64_t> Offers::next_deadline() const {
  std::optional<uint64_t> next;
  for (const auto& [connection, offer] : offers_) {
    if (!next || offer.deadline_ms < *next) next = offer.deadline_ms;
  }
  return next;
}

}  // namespace smbdirect::daemon
