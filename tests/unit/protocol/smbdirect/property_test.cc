// SPDX-License-Identifier: MIT
// Two engines against each other over a simulated link, with random limits, sizes and orders of events.
// What must hold in every round:
//   - every upper-layer message arrives whole, in order, with the right bytes;
//   - nobody deadlocks: as long as something is undelivered, something can happen (a step, or a deadline);
//   - no credit without a posted receive, no message without a credit;
//   - no empty message between the fragments of a message;
//   - no more than a few empty messages per message with data, and silence in the end.
//   - a deadline is never in the past once everything was done.
// SMBDIRECT_SEED repeats one round; SMBDIRECT_ROUNDS runs so many from there.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "protocol/smbdirect/engine.h"
#include "protocol/smbdirect/messages.h"
#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

using Random = std::mt19937_64;

uint64_t below(Random& random, uint64_t bound) { return random() % bound; }

/// Small, edge and large values alike.
template <class T>
T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[below(random, values.size())];
}

Limits random_limits(Random& random) {
  Limits limits;
  limits.receive_credit_max = pick<uint16_t>(random, {1, 2, 2, 3, 4, 10, 32, 255});
  limits.receive_credit_initial = pick<uint16_t>(random, {1, 1, 2, 3, 8, 32, 255});
  limits.send_credit_target = pick<uint16_t>(random, {1, 1, 2, 3, 10, 255});
  limits.max_send_size = pick<uint32_t>(random, {128, 129, 500, 1364, 8192});
  limits.max_receive_size = pick<uint32_t>(random, {128, 135, 1024, 1364, 8192});
  limits.max_fragmented_size = pick<uint32_t>(random, {131072, 262144});
  return limits;
}

/// The stream's byte at a position: any loss, repetition or swap shows.
std::byte stream_byte(uint64_t position) {
  const uint64_t mixed = (position + 1) * 0x9E3779B97F4A7C15ull;
  return static_cast<std::byte>(mixed >> 56);
}

struct Side {
  Side(Role role, const Limits& limits) : engine(role, limits, 0) {}

  Engine engine;
  std::deque<Bytes> inbox;  // on the link, towards this side

  // Sending.
  std::deque<uint64_t> queue;  // lengths of upper-layer messages
  uint64_t ready = 0;          // bytes of the message in progress at hand
  uint64_t not_ready = 0;      // ... and still to come
  uint64_t sent_bytes = 0;
  bool fragmented = false;  // the last message with data did not complete its upper-layer message

  // Receiving.
  std::deque<uint64_t> expected;  // lengths announced by the other side, in order
  uint64_t received_bytes = 0;
  uint64_t received_of_message = 0;
  bool receiving = false;

  uint64_t data_messages = 0;
  uint64_t empty_messages = 0;
  bool holding = false;
};

struct Failure {
  std::string what;
};

#define MUST(condition) \
  if (!(condition)) throw Failure{#condition};

class Link {
 public:
  explicit Link(uint64_t seed)
      : random_(seed),
        sides_{Side{Role::active, random_limits(random_)}, Side{Role::passive, random_limits(random_)}} {}

  void run() {
    negotiate();
    // Sizes from 1 byte to 200 KB; fewer messages when fragments are tiny, to bound the work.
    for (Side& side : sides_) {
      const uint32_t payload = side.engine.agreed().max_send_size - 24;
      uint64_t budget = std::min<uint64_t>(uint64_t{payload} * 80, 260'000);
      while (budget > 0 && below(random_, 12) != 0) {
        const uint64_t most = std::min<uint64_t>(budget, side.engine.agreed().max_fragmented_send_size);
        const uint64_t length =
            1 + below(random_, std::min<uint64_t>(most, pick<uint64_t>(random_, {1, 100, 3000, 200'000})));
        side.queue.push_back(length);
        budget -= length;
      }
    }
    sides_[0].expected.assign(sides_[1].queue.begin(), sides_[1].queue.end());
    sides_[1].expected.assign(sides_[0].queue.begin(), sides_[0].queue.end());

    for (uint64_t steps = 0; !done(); ++steps) {
      MUST(steps < 200'000);
      if (below(random_, 20) == 0) toggle_hold(sides_[below(random_, 2)]);
      const size_t i = below(random_, 2);
      if (!step(i) && !step(1 - i)) wait();
    }
    for (Side& side : sides_) {
      side.engine.hold_grants(false);
      side.holding = false;
    }
    settle();
  }

  uint64_t data() const { return sides_[0].data_messages + sides_[1].data_messages; }
  uint64_t empty() const { return sides_[0].empty_messages + sides_[1].empty_messages; }

 private:
  bool done() const {
    for (const Side& side : sides_) {
      if (!side.queue.empty() || side.engine.sending() || !side.expected.empty()) return false;
    }
    return true;
  }

  void negotiate() {
    post(sides_[1].engine);
    post(sides_[0].engine);
    const auto request = sides_[0].engine.next(0, now_);
    MUST(request.has_value());
    MUST(sides_[1].engine.receive(header_of(*request), now_).has_value());
    post(sides_[1].engine);
    const auto response = sides_[1].engine.next(0, now_);
    MUST(response.has_value());
    MUST(sides_[0].engine.receive(header_of(*response), now_).has_value());
    MUST(sides_[0].engine.phase() == Phase::established);
    MUST(sides_[1].engine.phase() == Phase::established);
  }

  void toggle_hold(Side& side) {
    side.holding = !side.holding;
    side.engine.hold_grants(side.holding);
  }

  // One thing for side i to do, at random; false when it had nothing to do at all.
  bool step(size_t i) {
    Side& side = sides_[i];
    bool progress = false;
    if (!side.inbox.empty() && below(random_, 4) != 0) {
      receive(side);
      progress = true;
    }
    if (!side.engine.sending() && !side.queue.empty() && below(random_, 3) != 0) {
      MUST(side.engine.begin(side.queue.front()));
      side.not_ready = side.queue.front();
      side.ready = 0;
      side.queue.pop_front();
      progress = true;
    }
    if (side.not_ready > 0 && below(random_, 2) == 0) {
      const uint64_t come = 1 + below(random_, side.not_ready);
      side.ready += come;
      side.not_ready -= come;
      progress = true;
    }
    if (below(random_, 3) == 0) {
      const uint32_t wanted = side.engine.receives_wanted();
      if (wanted > 0) side.engine.receives_posted(1 + static_cast<uint32_t>(below(random_, wanted)));
    }
    progress |= drain(i);
    return progress || !side.inbox.empty();
  }

  bool drain(size_t i) {
    Side& side = sides_[i];
    bool sent = false;
    for (;;) {
      if (below(random_, 8) == 0) break;
      post(side.engine);
      const uint32_t cap = below(random_, 6) == 0 ? static_cast<uint32_t>(below(random_, 3000)) : UINT32_MAX;
      const auto message = side.engine.next(side.ready, now_, cap);
      if (!message) break;
      send(i, *message);
      sent = true;
    }
    check_credits(side);
    return sent;
  }

  void send(size_t i, const Outgoing& message) {
    Side& side = sides_[i];
    MUST(message.payload <= side.ready);
    MUST(message.header_size + message.payload <= side.engine.agreed().max_send_size);
    Bytes bytes(header_of(message).begin(), header_of(message).end());
    for (uint32_t k = 0; k < message.payload; ++k) bytes.push_back(stream_byte(side.sent_bytes + k));
    side.ready -= message.payload;
    side.sent_bytes += message.payload;
    const auto header = parse_data_transfer(bytes);
    MUST(header.has_value());
    const bool empty = header->data_length == 0 && header->remaining_data_length == 0;
    MUST(!empty || !side.fragmented);  // an empty message would end the fragmented one
    MUST(header->credits_granted > 0 || side.engine.credits().send > 0);  // the reserved last credit
    if (!empty) side.fragmented = header->remaining_data_length > 0;
    MUST(message.completes == (!empty && header->remaining_data_length == 0));
    ++(header->data_length > 0 ? side.data_messages : side.empty_messages);
    sides_[1 - i].inbox.push_back(std::move(bytes));
    check_credits(side);
  }

  void receive(Side& side) {
    const Bytes message = std::move(side.inbox.front());
    side.inbox.pop_front();
    MUST(side.engine.credits().posted > 0);  // always a receive for a message on its way
    const auto delivery = side.engine.receive(message, now_);
    if (!delivery) throw Failure{std::string(fault_name(delivery.error()))};
    check_credits(side);
    if (delivery->kind != Delivery::Kind::fragment) return;
    MUST(delivery->first == !side.receiving);
    if (delivery->first) {
      MUST(!side.expected.empty());
      side.received_of_message = 0;
    }
    MUST(delivery->total == side.expected.front());
    for (const std::byte byte : delivery->data) MUST(byte == stream_byte(side.received_bytes++));
    side.received_of_message += delivery->data.size();
    MUST(delivery->last == (side.received_of_message == delivery->total));
    side.receiving = !delivery->last;
    if (delivery->last) side.expected.pop_front();
  }

  void check_credits(const Side& side) const {
    const Credits credits = side.engine.credits();
    MUST(credits.posted >= credits.granted);
    MUST(credits.available == credits.posted - credits.granted);
    MUST(credits.posted <= side.engine.limits().receive_credit_max);
  }

  // Neither side could do anything by chance; give both everything they wait for. If that does not help
  // either, only time can.
  void wait() {
    bool progress = false;
    for (size_t i = 0; i < 2; ++i) {
      Side& side = sides_[i];
      side.ready += side.not_ready;
      side.not_ready = 0;
      post(side.engine);
      while (const auto message = side.engine.next(side.ready, now_)) {
        send(i, *message);
        progress = true;
      }
      progress |= !side.inbox.empty() || (!side.queue.empty() && !side.engine.sending());
    }
    if (progress || done()) return;
    const Millis deadline = std::min(sides_[0].engine.next_deadline(), sides_[1].engine.next_deadline());
    MUST(deadline != kNever);  // a deadlock
    MUST(deadline > now_);     // both were given all they wait for
    now_ = std::max(now_, deadline);
    for (Side& side : sides_) {
      const auto ticked = side.engine.tick(now_);
      if (!ticked) throw Failure{std::string(fault_name(ticked.error()))};
    }
  }

  // With all delivered, the two must come to rest: within 10 seconds of their time, few messages.
  void settle() {
    const Millis until = now_ + 10'000;
    const uint64_t before = empty();
    for (;;) {
      bool progress = false;
      for (size_t i = 0; i < 2; ++i) {
        Side& side = sides_[i];
        while (!side.inbox.empty()) {
          receive(side);
          post(side.engine);
          progress = true;
        }
        post(side.engine);
        while (const auto message = side.engine.next(0, now_)) {
          send(i, *message);
          progress = true;
        }
        check_credits(side);
      }
      MUST(empty() - before <= 8);
      if (progress) continue;
      for (const Side& side : sides_) MUST(side.engine.next_deadline() > now_);
      const Millis deadline = std::min(sides_[0].engine.next_deadline(), sides_[1].engine.next_deadline());
      if (deadline > until) break;
      now_ = deadline;
      for (Side& side : sides_) MUST(side.engine.tick(now_).has_value());
    }
    // At rest both can speak.
    for (const Side& side : sides_) {
      MUST(side.engine.credits().granted > 0);
      MUST(side.engine.credits().send > 0);
    }
  }

  Random random_;
  Millis now_ = 0;
  Side sides_[2];
};

}  // namespace

TEST_CASE("two engines: intact, in order, no deadlock, no over-grant, no empties within a message") {
  const char* given_seed = std::getenv("SMBDIRECT_SEED");
  const char* given_rounds = std::getenv("SMBDIRECT_ROUNDS");
  uint64_t seed = given_seed != nullptr ? std::strtoull(given_seed, nullptr, 10) : 1;
  const uint64_t rounds =
      given_rounds != nullptr ? std::strtoull(given_rounds, nullptr, 10) : (given_seed != nullptr ? 1 : 3000);
  MESSAGE("first seed " << seed);
  uint64_t data = 0;
  uint64_t empty = 0;
  for (uint64_t round = 0; round < rounds; ++round, ++seed) {
    Link link(seed);
    try {
      link.run();
    } catch (const Failure& failure) {
      FAIL("SMBDIRECT_SEED=" << seed << ": " << failure.what);
    }
    // Each message with data costs its receiver at most one empty grant, which costs the sender one more.
    REQUIRE_MESSAGE(link.empty() <= 3 * link.data() + 24, "SMBDIRECT_SEED=" << seed);
    data += link.data();
    empty += link.empty();
  }
  MESSAGE(rounds << " rounds, " << data << " messages with data, " << empty << " without");
}

}  // namespace smbdirect::protocol::smb_direct::test
