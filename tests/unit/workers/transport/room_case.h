// SPDX-License-Identifier: MIT
// One transport on a fabric of little room (small_room_fabric.h), what its owner asks of it, and a peer that
// the test makes keep to the protocol, each as late and as little as the test likes. One loop, whose clock
// the test moves.
#pragma once

#include <algorithm>
#include <cstdio>
#include <deque>
#include <optional>
#include <random>

#include <doctest/doctest.h>

#include "protocol/smbdirect/messages.h"
#include "tests/unit/workers/fabric/small_room_fabric.h"
#include "tests/unit/workers/fake_clock.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::room {

using fake::SmallRoomEndpoint;
using Bytes = std::vector<std::byte>;
using smb_direct::DataTransfer;

inline constexpr uint64_t kMostCalls = 20'000;  // of the endpoint in one turn of the loop
inline constexpr uint64_t kPerSecond = 60;      // turns of a loop in which nothing moves

inline std::byte byte_at(uint64_t message, uint64_t offset) {
  return static_cast<std::byte>(message * 31 + offset * 7);
}

/// Bytes of message number `n`, checked without keeping it.
struct Checked {
  uint64_t n = 0;
  uint64_t have = 0;
  bool right = true;
  void take(std::span<const std::byte> data) {
    for (const std::byte b : data) right = right && b == byte_at(n, have++);
  }
  void next() { *this = {n + 1, 0, right}; }
};

/// Pools are kept between cases: mapping memory takes longer than a case.
struct Pools {
  Arena arena;
  SlabPool receives{arena, 1024};
  SlabPool headers{arena, 4096};
};

struct Case final : Transport::Owner {
  Case(Pools& pools, fake::FakeClock& clock, uint64_t seed) : clock_(clock), random_(seed) {
    uv_loop_init(&loop);
    limits_.receive_credit_initial = static_cast<uint16_t>(pick(2, 12));
    limits_.receive_credit_max = static_cast<uint16_t>(pick(limits_.receive_credit_initial, 24));
    limits_.send_credit_target = static_cast<uint16_t>(pick(2, 24));
    limits_.max_send_size = static_cast<uint32_t>(pick(128, 600));
    limits_.max_receive_size = static_cast<uint32_t>(pick(128, 600));
    transport.emplace(loop,
                      Transport::Config{.role = smb_direct::Role::passive,
                                        .limits = limits_,
                                        .receive_pool = pools.receives,
                                        .header_pool = pools.headers,
                                        .budget = budget,
                                        .progress_timeout_ms = kProgressMs},
                      *this);
    const auto room = static_cast<uint32_t>(pick(2, 12));
    const auto sges = static_cast<uint32_t>(pick(2, 5));
    REQUIRE(transport->start([&](fabric::Handler& handler) {
      auto made = std::make_unique<SmallRoomEndpoint>(
          handler, room, sges, 64,
          SmallRoomEndpoint::Peer{[this](Bytes m, auto) { from_transport_.push_back(std::move(m)); },
                                  [this](const Bytes& data, auto to) { placed_right_ &= placed(data, to); },
                                  [](auto from, uint32_t length) { return memory(from, length); },
                                  [this](const char* what) { fail(what); }});
      end = made.get();
      return made;
    }));
    end->establish();
    turn();
    const smb_direct::NegotiateRequest request{.min_version = 0x0100,
                                               .max_version = 0x0100,
                                               .credits_requested = static_cast<uint16_t>(pick(1, 20)),
                                               .preferred_send_size = 512,
                                               .max_receive_size = 512,
                                               .max_fragmented_size = 1 << 20};
    end->receive(smb_direct::encode(request));
    turn();
    REQUIRE(most_ > 0);
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;
  ~Case() {
    retained.clear();
    transport.reset();
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(uv_loop_close(&loop) == 0);
    CHECK(budget.used() == 0);
  }

  static constexpr uint64_t kProgressMs = 8'000;

  uint64_t pick(uint64_t low, uint64_t high) { return low + random_() % (high - low + 1); }
  bool chance(uint64_t of) { return random_() % of == 0; }
  void fail(const char* what) {
    if (std::string(what).find("come back") != std::string::npos) {
      std::fprintf(stderr, "room property: %s\n", what);
      std::fflush(stderr);
    }
    if (failures.find(what) == std::string::npos) failures += std::string(what) + "; ";
  }

  // --- Transport::Owner ---
  void on_negotiated() override {}
  void on_fragment(Fragment fragment) override {
    received_.take(fragment.data);
    if (fragment.last) received_.next();
    if (retained.size() < retain) retained.push_back(fragment.buffer->share());
  }
  void on_read_done(uint64_t cookie) override {
    if (cookie != reads_done) fail("READs done out of order");
    const auto& [at, length] = reads_[cookie];
    const Bytes wanted = memory({cookie, 9}, length);
    if (!std::equal(wanted.begin(), wanted.end(), sink_.begin() + static_cast<ptrdiff_t>(at)))
      fail("READ data");
    ++reads_done;
  }
  void on_invalidated(uint32_t /*token*/) override {}
  void on_progress() override {}
  void on_fault(const std::string& why) override { ended = why; }
  void on_closed(const std::string& why, bool /*clean*/) override { ended = why; }

  // --- what the owner does ---
  void begin_some() {
    const uint64_t total = pick(1, chance(4) ? 6'000 : 300);
    if (!transport->begin_message(total)) return fail("a message that the peer takes was refused");
    totals_.push_back(total);
    ++messages_begun;
    append_left_ = total;
  }
  void append_some(uint64_t most) {
    const uint64_t n = std::min(append_left_, most);
    Bytes& bytes = kept_.emplace_back();
    const uint64_t from = totals_.back() - append_left_;
    for (uint64_t i = 0; i < n; ++i) bytes.push_back(byte_at(messages_begun - 1, from + i));
    transport->append({}, bytes);
    append_left_ -= n;
  }
  void read_some(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto length = static_cast<uint32_t>(pick(1, 40));
      if (sink_at_ + length > sink_.size()) return;
      reads_.push_back({sink_at_, length});
      transport->rdma_read(std::span(sink_).subspan(sink_at_, length), 0, {reads_.size() - 1, 9},
                           reads_.size() - 1);
      sink_at_ += length;
    }
  }
  void write_some(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      Bytes& bytes = kept_.emplace_back(pick(1, 60));
      for (size_t j = 0; j < bytes.size(); ++j) bytes[j] = byte_at(3, write_at_ + j);
      transport->rdma_write({}, bytes, {write_at_, 5});
      write_at_ += bytes.size();
    }
  }

  // --- the peer ---
  static Bytes memory(fabric::RemoteMemory from, uint32_t length) {
    Bytes bytes(length);
    for (uint32_t i = 0; i < length; ++i) bytes[i] = byte_at(from.offset, i);
    return bytes;
  }
  static bool placed(const Bytes& data, fabric::RemoteMemory to) {
    for (size_t i = 0; i < data.size(); ++i) {
      if (data[i] != byte_at(3, to.offset + i)) return false;
    }
    return true;
  }
  /// Takes what the transport has sent: it must have had a credit for each.
  void take() {
    for (; !from_transport_.empty(); from_transport_.pop_front()) {
      const Bytes& message = from_transport_.front();
      if (most_ == 0) {
        const auto response = smb_direct::parse_negotiate_response(message);
        REQUIRE(response);
        credits_ = response->credits_granted;
        most_ = response->max_receive_size;
        continue;
      }
      const auto parsed = smb_direct::parse_data_transfer(message);
      if (!parsed) return fail("not a data message");
      if (granted_ == 0) return fail("sent without a credit");
      --granted_;
      credits_ += parsed->credits_granted;
      if (credits_ > end->receives_posted()) return fail("more credits than receives");
      asked_ = asked_ || (parsed->flags & DataTransfer::kResponseRequested) != 0;
      if (parsed->data_length == 0 && parsed->remaining_data_length == 0) continue;
      sent_.take(std::span(message).subspan(parsed->data_offset, parsed->data_length));
      if (parsed->remaining_data_length == 0) {
        if (sent_.n >= totals_.size() || sent_.have != totals_[sent_.n])
          return fail("a message of another length");
        sent_.next();
      }
    }
  }
  /// One SEND of the peer's: a grant of `grant`, with what it has to say. The last credit is for grants only.
  void say(uint64_t grant) {
    grant = std::min<uint64_t>(grant, 60 - granted_);
    if (credits_ == 0 || (credits_ == 1 && grant == 0)) return;
    DataTransfer message{.credits_requested = 10, .credits_granted = static_cast<uint16_t>(grant)};
    uint64_t data = 0;
    if (say_left_ == 0 && to_say_ > 0) {
      --to_say_;
      ++said;
      say_total_ = say_left_ = pick(1, 900);
    }
    if (say_left_ > 0) {
      data = std::min<uint64_t>(say_left_, most_ - DataTransfer::kDataOffset);
      message.data_length = static_cast<uint32_t>(data);
      message.data_offset = DataTransfer::kDataOffset;
      message.remaining_data_length = static_cast<uint32_t>(say_left_ - data);
    }
    Bytes bytes;
    const auto header = smb_direct::encode(message);
    bytes.assign(header.begin(),
                 header.begin() + (data > 0 ? DataTransfer::kDataOffset : DataTransfer::kHeaderSize));
    for (uint64_t i = 0; i < data; ++i) bytes.push_back(byte_at(said - 1, say_total_ - say_left_ + i));
    say_left_ -= data;
    granted_ += grant;
    --credits_;
    asked_ = false;
    end->receive(bytes);
  }
  [[nodiscard]] uint64_t wants() const { return 40 - std::min<uint64_t>(40, granted_); }

  // --- the loop ---
  /// One turn: the owner's flush, then what is due. It must come back.
  void turn() {
    end->allow(kMostCalls);
    transport->pump();
    uv_run(&loop, UV_RUN_NOWAIT);
    take();
  }
  void wait(uint64_t ms) {
    clock_.advance(ms);
    turn();
  }
  /// Lets `ms` pass with nothing from outside; counts how often the loop turns.
  uint64_t stand(uint64_t ms) {
    uint64_t turns = 0;
    for (uint64_t passed = 0; passed < ms && !over(); ++turns) {
      const int timeout = uv_backend_timeout(&loop);
      const uint64_t step =
          timeout < 0 ? ms - passed : std::clamp<uint64_t>(static_cast<uint64_t>(timeout), 1, ms - passed);
      passed += step;
      clock_.advance(step);
      end->allow(kMostCalls);
      uv_run(&loop, UV_RUN_NOWAIT);
      if (turns > (ms / 1000 + 1) * kPerSecond) {
        fail("the loop turns and nothing moves");
        break;
      }
    }
    take();
    return turns;
  }
  [[nodiscard]] bool over() const { return end->gone() || !ended.empty(); }
  /// Nothing is owed in either direction.
  [[nodiscard]] bool quiet() const {
    return sent_.n == totals_.size() && say_left_ == 0 && reads_done == reads_.size() && transport->idle();
  }
  [[nodiscard]] bool all_done() const {
    return sent_.n == totals_.size() && received_.n == said && say_left_ == 0 && to_say_ == 0 &&
           reads_done == reads_.size() && transport->idle();
  }
  [[nodiscard]] std::string state() const {
    const smb_direct::Credits credits = transport->engine().credits();
    const auto of = [](const char* what, uint64_t n, uint64_t all) {
      return std::string(what) + " " + std::to_string(n) + " of " + std::to_string(all) + ", ";
    };
    return of("messages", sent_.n, totals_.size()) + of("heard", received_.n, said + to_say_) +
           of("READs", reads_done, reads_.size()) +
           of("work requests", end->outstanding(), end->attributes().max_send_work) + "peer's credits " +
           std::to_string(credits_) + ", server's " + std::to_string(credits.send) + ", posted " +
           std::to_string(credits.posted) + " of " + std::to_string(credits.receive_target);
  }
  void check() const {
    CHECK(failures == "");
    CHECK(received_.right);
    CHECK(sent_.right);
    CHECK(placed_right_);
  }

  fake::FakeClock& clock_;
  std::mt19937_64 random_;
  uv_loop_t loop{};
  Budget budget{1u << 20};
  smb_direct::Limits limits_;
  std::optional<Transport> transport;
  SmallRoomEndpoint* end = nullptr;
  std::string failures;
  std::string ended;

  std::deque<Bytes> kept_;
  std::vector<uint64_t> totals_;
  uint64_t messages_begun = 0;
  uint64_t append_left_ = 0;
  Bytes sink_ = Bytes(8'000);
  size_t sink_at_ = 0;
  std::vector<std::pair<size_t, uint32_t>> reads_;
  uint64_t reads_done = 0;
  uint64_t write_at_ = 0;
  size_t retain = 0;
  std::vector<SlabRef> retained;
  Checked received_, sent_;
  bool placed_right_ = true;

  std::deque<Bytes> from_transport_;
  uint64_t credits_ = 0;  // the peer's, to send
  uint64_t granted_ = 0;  // the transport's
  uint64_t most_ = 0;     // bytes of a message to the transport
  bool asked_ = false;    // an answer was asked for
  uint64_t to_say_ = 0;   // messages of the peer's to come
  uint64_t said = 0;
  uint64_t say_total_ = 0, say_left_ = 0;
};

}  // namespace smbdirect::workers::room
