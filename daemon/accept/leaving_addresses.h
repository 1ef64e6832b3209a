// SPDX-License-Identifier: MIT
// Local addresses that leave this host (smbdirectctl leave), and whoever waits until no connection to one is
// left. New connections to them are refused (dispatcher.h) until they are taken back. Owned by the
// supervisor; its loop's thread. Nothing of it outlives the process, but a daemon that takes over learns
// which addresses they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/accept/dispatcher.h"
#include "shm/base/connection_id.h"
#include "shm/base/socket_address.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class LeavingAddresses {
 public:
  /// How long connections have to end.
  static constexpr uint64_t kPatienceMs = 5'000;
  struct Left {
    size_t ended = 0;
    size_t still_there = 0;  // when kPatienceMs have passed
    bool unheard = false;    // likewise: the other daemon has not answered
  };
  using Answer = std::function<void(Left left)>;
  /// Another daemon may have connections to the address, too: it is told, and what it ends counts.
  using Elsewhere = std::function<void(const shm::Host& address, Answer answer)>;

  LeavingAddresses(shm::Loop& loop, Dispatcher& dispatcher) : loop_(loop), dispatcher_(dispatcher) {}

  /// From now on connections to this address are refused, and those that exist are ended. The answer comes
  /// when none is left, at once if there was none, or too late.
  void leave(const shm::Host& address, Answer answer, const Elsewhere& elsewhere = {});
  /// False: it was not leaving.
  bool take(const shm::Host& address) { return dispatcher_.leaving().erase(address) > 0; }
  /// Those of a daemon that is taken over: as texts() has them.
  void inherit(const std::vector<std::string>& addresses);
  /// To be called when connections have ended.
  void look();
  /// "192.0.2.1", of each.
  [[nodiscard]] std::vector<std::string> texts() const;

 private:
  struct Wait {
    Wait(shm::Loop& loop, std::function<void()> due) : deadline(loop, std::move(due)) {}
    Answer answer;
    shm::Timer deadline;
    size_t ended = 0;
    std::vector<shm::ConnectionId> waited_for;  // some of them have ended: not the last when it was looked at
    size_t still_elsewhere = 0;
    bool unheard = false;  // the other daemon's answer is due
  };
  void heard(uint64_t number, const Left& elsewhere);
  void finish(uint64_t number);

  shm::Loop& loop_;
  Dispatcher& dispatcher_;
  std::map<uint64_t, std::unique_ptr<Wait>> waits_;
  uint64_t next_ = 1;
};

}  // namespace smbdirect::daemon
