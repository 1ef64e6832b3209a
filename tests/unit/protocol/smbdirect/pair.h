// SPDX-License-Identifier: MIT
// A client and a server engine joined by a perfect link whose owners do every chore at once: for tests
// that ask how many messages or how much waiting a piece of work costs.
#pragma once

#include <algorithm>
#include <deque>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {

class Pair {
 public:
  struct End {
    Engine engine;
    std::deque<Bytes> inbox;
    std::deque<uint16_t> grants;  // what each message in the inbox grants, as its sender says
    std::deque<uint64_t> queue;   // upper-layer messages to send
    uint64_t left = 0;            // bytes of the one in progress; all at hand
    uint64_t data = 0;            // messages sent, with data and without
    uint64_t empty = 0;
    uint64_t completed = 0;  // upper-layer messages received
  };

  Pair(const Limits& client_limits, const Limits& server_limits)
      : client{Engine(Role::active, client_limits, 0), {}, {}, {}},
        server{Engine(Role::passive, server_limits, 0), {}, {}, {}} {
    post(server.engine);
    settle();
    REQUIRE(client.engine.phase() == Phase::established);
    REQUIRE(server.engine.phase() == Phase::established);
  }

  /// Everything that happens without time passing.
  void settle() {
    for (bool progress = true; progress;) {
      progress = step(client, server);
      if (step(server, client)) progress = true;
    }
  }

  /// Lets time pass, one deadline after the other, until `done` or `limit` is reached. False: not done.
  template <class Done>
  bool wait(Done done, Millis limit) {
    const Millis end = now + limit;
    for (settle(); !done(); settle()) {
      const Millis next = std::min(client.engine.next_deadline(), server.engine.next_deadline());
      if (next > end) return false;
      now = std::max(now, next);
      REQUIRE(client.engine.tick(now).has_value());
      REQUIRE(server.engine.tick(now).has_value());
    }
    return true;
  }

  End client;
  End server;
  Millis now = 0;

 private:
  bool step(End& from, End& to) {
    bool progress = false;
    while (!from.inbox.empty()) {
      const Bytes message = std::move(from.inbox.front());
      from.inbox.pop_front();
      const auto delivery = from.engine.receive(message, now);
      if (!delivery) FAIL(fault_name(delivery.error()));
      REQUIRE(delivery->credits_granted == from.grants.front());
      from.grants.pop_front();
      if (delivery->last) ++from.completed;
      post(from.engine);
      drain(from, to);
      progress = true;
    }
    return drain(from, to) || progress;
  }

  bool drain(End& from, End& to) {
    bool sent = false;
    for (;;) {
      if (!from.engine.sending() && !from.queue.empty()) {
        REQUIRE(from.engine.begin(from.queue.front()));
        from.left = from.queue.front();
        from.queue.pop_front();
      }
      post(from.engine);
      const auto message = from.engine.next(from.left, now);
      if (!message) return sent;
      from.left -= message->payload;
      if (from.engine.phase() == Phase::established) ++(message->payload > 0 ? from.data : from.empty);
      Bytes bytes(header_of(*message).begin(), header_of(*message).end());
      bytes.resize(bytes.size() + message->payload);
      to.inbox.push_back(std::move(bytes));
      to.grants.push_back(message->credits_granted);
      sent = true;
    }
  }
};

inline Limits limits_with_credits(uint16_t initial, uint16_t max, uint16_t send_target) {
  Limits limits;
  limits.receive_credit_initial = initial;
  limits.receive_credit_max = max;
  limits.send_credit_target = send_target;
  limits.max_send_size = 1364;
  limits.max_receive_size = 1364;
  return limits;
}

}  // namespace smbdirect::protocol::smb_direct::test
