// SPDX-License-Identifier: MIT
#include "daemon/accept/offers.h"

#include <algorithm>
#include <utility>

namespace smbdirect::daemon {

Offer& Offers::add(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                   const sockaddr_storage& local) {
  const uint64_t number = ++last_number_;
  Offer& offer = offers_[number];
  offer.number = number;
  offer.incoming = std::move(incoming);
  offer.peer = peer;
  offer.local = local;
  offer.tried.assign(slots_, false);
  return offer;
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

Offer* Offers::find(uint64_t number, size_t slot) {
  Offer* offer = find(number);
  return offer != nullptr && offer->slot == slot ? offer : nullptr;
}

Offer* Offers::find(uint64_t number) {
  const auto found = offers_.find(number);
  return found == offers_.end() ? nullptr : &found->second;
}

std::vector<uint64_t> Offers::forget_slot(size_t slot) {
  std::vector<uint64_t> numbers;
  for (auto& [number, offer] : offers_) {
    offer.tried.at(slot) = false;
    if (offer.slot != slot) continue;
    offer.slot.reset();
    numbers.push_back(number);
  }
  return numbers;
}

std::vector<uint64_t> Offers::waiting_numbers() const {
  std::vector<uint64_t> numbers;
  for (const auto& [number, offer] : offers_) {
    if (!offer.slot) numbers.push_back(number);
  }
  return numbers;
}

std::vector<uint64_t> Offers::overdue(uint64_t now_ms) const {
  std::vector<uint64_t> numbers;
  for (const auto& [number, offer] : offers_) {
    if (offer.deadline_ms <= now_ms) numbers.push_back(number);
  }
  return numbers;
}

std::optional<uint64_t> Offers::next_deadline() const {
  std::optional<uint64_t> next;
  for (const auto& [number, offer] : offers_) {
    if (!next || offer.deadline_ms < *next) next = offer.deadline_ms;
  }
  return next;
}

}  // namespace smbdirect::daemon
