// SPDX-License-Identifier: MIT
// The connections on one device by seat number, so that a completion finds its own. A seat that becomes free
// gets a new generation; a completion that names the old one finds no connection. Owned by the device; the
// loop's thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <infiniband/verbs.h>

#include "workers/fabric/verbs/work_id.h"

namespace smbdirect::workers::fabric::verbs {

/// What a device tells a connection on it. None of these may destroy the connection or take a seat.
class DeviceUser {
 public:
  /// One completion of its work. Nothing of the caller's may be called from here: the round goes on.
  virtual void on_work(const WorkId& id, const ibv_wc& completion) = 0;
  /// After all completions of a round; only when there was one for this user.
  virtual void on_round_end() = 0;
  /// An asynchronous event about its queue pair, or its completion queue.
  virtual void on_device_event(ibv_event_type event) = 0;
  /// The device goes away: destroy all that uses it, and leave. why: for the log.
  virtual void on_device_gone(const std::string& why) = 0;
  /// Null while it has none.
  [[nodiscard]] virtual const ibv_qp* queue_pair() const = 0;

 protected:
  ~DeviceUser() = default;
};

class SeatTable {
 public:
  static constexpr size_t kMost = 1U << 16U;

  struct Place {
    uint16_t seat{};
    uint16_t generation{};
  };

  /// Nothing when all are taken.
  [[nodiscard]] std::optional<Place> take(DeviceUser& user) {
    if (free_.empty()) {
      if (seats_.size() == kMost) return std::nullopt;
      seats_.push_back({&user, 0});
      return Place{static_cast<uint16_t>(seats_.size() - 1), 0};
    }
    const uint16_t seat = free_.back();
    free_.pop_back();
    seats_[seat].user = &user;
    return Place{seat, seats_[seat].generation};
  }
  void leave(Place place) {
    seats_[place.seat].user = nullptr;
    ++seats_[place.seat].generation;
    free_.push_back(place.seat);
  }
  [[nodiscard]] DeviceUser* find(Place place) const {
    if (place.seat >= seats_.size()) return nullptr;
    const Seat& seat = seats_[place.seat];
    return seat.generation == place.generation ? seat.user : nullptr;
  }
  [[nodiscard]] size_t taken() const { return seats_.size() - free_.size(); }

  /// For each user there is now; `call` may make users leave.
  template <class Call>
  void each(Call call) const {
    for (size_t i = 0; i < seats_.size(); ++i) {
      if (seats_[i].user != nullptr) call(*seats_[i].user);
    }
  }

 private:
  struct Seat {
    DeviceUser* user{};
    uint16_t generation{};
  };
  std::vector<Seat> seats_;
  std::vector<uint16_t> free_;
};

}  // namespace smbdirect::workers::fabric::verbs
