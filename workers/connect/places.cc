// SPDX-License-Identifier: MIT
#include "workers/connect/places.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers::connect {

void Places::arrived(PlaceHolder& holder, const shm::Host& host) {
  entries_.push_back({&holder, host});
  ++hosts_[host].others;
}

void Places::greeted(PlaceHolder& holder) {
  const auto entry = std::ranges::find(entries_, &holder, &Entry::holder);
  if (entry == entries_.end() || entry->state != State::silent) return;
  entry->state = State::waiting;
  entries_.splice(entries_.end(), entries_, entry);  // who was silent for long has not waited for long
}

void Places::remove(const PlaceHolder& holder) {
  const auto entry =
      std::ranges::find(entries_, &holder, [](const Entry& e) -> const PlaceHolder* { return e.holder; });
  if (entry != entries_.end()) drop(entry);
}

void Places::drop(Entries::iterator entry) {
  const auto host = hosts_.find(entry->host);
  if (entry->state == State::placed) {
    --host->second.placed;
    --placed_;
  } else {
    --host->second.others;
  }
  if (host->second.placed + host->second.others == 0) hosts_.erase(host);
  entries_.erase(entry);
}

std::optional<uint64_t> Places::serve(uint64_t now) {
  for (;;) {
    const auto entry = next();
    if (entry == entries_.end()) return std::nullopt;
    uint64_t again = UINT64_MAX;
    if (!place_for(*entry, now, again)) return again - now;
    Count& count = hosts_.at(entry->host);
    --count.others;
    ++count.placed;
    ++placed_;
    entry->state = State::placed;
    entry->since = now;
    entries_.splice(entries_.end(), entries_, entry);
    entry->holder->enter();
  }
}

/// Whose turn it is.
Places::Entries::iterator Places::next() {
  auto best = entries_.end();
  size_t fewest = SIZE_MAX;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->state != State::waiting) continue;
    const size_t has = hosts_.at(entry->host).placed;
    if (has < fewest) {
      best = entry;
      fewest = has;
    }
  }
  return best;
}

/// There is one, or one is made. Else `again` is when one can be.
bool Places::place_for(const Entry& newcomer, uint64_t now, uint64_t& again) {
  if (placed_ < kMost) return true;
  size_t most = 0;
  for (const auto& [host, count] : hosts_) most = std::max(most, count.placed);
  const bool fewer = hosts_.at(newcomer.host).placed + kFew < most;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->state != State::placed || hosts_.at(entry->host).placed != most) continue;
    const uint64_t quiet = entry->since + kQuietMs;
    const uint64_t until = fewer ? now : entry->holder->served() ? entry->since + kLongMs : quiet;
    if (until <= now) {
      PlaceHolder& goes = *entry->holder;
      drop(entry);
      goes.leave("it has no session yet, and another client needs its place");
      return true;
    }
    // It may wait for nothing by then.
    again = std::min(again, quiet > now ? quiet : std::min(until, now + kLookMs));
  }
  return false;
}

bool Places::make_room(const std::string& why) {
  size_t most = 0;
  for (const auto& [host, count] : hosts_) most = std::max(most, count.others);
  auto goes = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->state == State::placed || hosts_.at(entry->host).others != most) continue;
    if (goes == entries_.end()) goes = entry;
    if (entry->state == State::silent) {
      goes = entry;
      break;
    }
  }
  if (goes == entries_.end()) return false;
  PlaceHolder& holder = *goes->holder;
  drop(goes);
  holder.leave(why);
  return true;
}

}  // namespace smbdirect::workers::connect
