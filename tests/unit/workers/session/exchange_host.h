// SPDX-License-Identifier: MIT
// What a session is to its exchange, for tests: a client over a fabric in memory, the exchange's transport,
// memory and translator, and the socket to its upstream. Owned by the test, on one loop, and moved by it: the
// clock stands but for what is due soon. Whose exchange it is begins it and ends it.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/workers/fabric/fake_fabric.h"
#include "tests/unit/workers/fake_clock.h"
#include "workers/session/context.h"
#include "workers/session/exchange.h"

namespace smbdirect::workers::session_test {

using smb2_test::Bytes;

/// The client: collects what it is answered.
struct ClientSide final : Transport::Owner {
  void on_negotiated() override {}
  void on_fragment(Fragment fragment) override {
    if (fragment.first) messages.emplace_back();
    messages.back().insert(messages.back().end(), fragment.data.begin(), fragment.data.end());
    if (fragment.last) ++complete;
  }
  void on_read_done(uint64_t) override {}
  void on_invalidated(uint32_t token) override { invalidated.push_back(token); }
  void on_progress() override {}
  void on_closed(const std::string&, bool) override {}

  std::vector<Bytes> messages;
  size_t complete = 0;
  std::vector<uint32_t> invalidated;
};

class ExchangeHost : protected Transport::Owner, protected SessionEvents {
 public:
  static constexpr uint64_t kPlenty = uint64_t{1} << 30;
  static constexpr uint32_t kSlab = 256 * 1024;

  struct Setup {
    smb_direct::Limits limits{};   // of both ends
    uint64_t admission = kPlenty;  // what may be promised and held together, receives included
    uint64_t payload = kPlenty;    // what the exchange may hold
    uint64_t soon_ms = 4'000;      // what is due within so long is waited for by settle()
  };

  /// Until nothing moves any more, nor would soon.
  void settle() {
    uint64_t turns = 0;
    for (int quiet = 0; quiet < 2;) {
      REQUIRE(++turns < 10'000'000);
      bool moved = !server_stands && server_end_->step();
      moved = client_end_->step() || moved;
      moved = move_far_end() || moved;
      moved = read_upstream() || moved;
      moved = flush() || moved;
      client->pump();
      server->pump();
      quiet = moved ? 0 : quiet + 1;
      if (quiet < 2) continue;
      const uint64_t due = std::min(client->engine().next_deadline(), server->engine().next_deadline());
      const uint64_t now = uv_now(&loop_);
      if (due >= now + setup_.soon_ms) continue;
      pass(due > now ? due - now : 1);
      quiet = 0;
    }
  }
  /// Time goes by, and the session looks again, once, as its timer for memory lets it.
  void wait(uint64_t ms) {
    pass(ms);
    if (broken.empty()) exchange->resume();
    settle();
  }

  void from_client(const Bytes& message) {
    begin(message.size());
    append(message);
  }
  /// The same in parts.
  void begin(uint64_t total) { REQUIRE(client->begin_message(total)); }
  void append(std::span<const std::byte> bytes) {
    sent_.push_back(std::make_unique<Bytes>(bytes.begin(), bytes.end()));
    client->append({}, *sent_.back());
  }
  /// Memory of the client's that the server may use, and how it is named.
  smb2::BufferDescriptor expose(std::span<std::byte> memory, fabric::Access access) {
    const auto at = client->expose(memory, access);
    REQUIRE(at);
    return {.offset = at->offset, .token = at->token, .length = static_cast<uint32_t>(memory.size())};
  }
  /// Bytes that the exchange holds.
  [[nodiscard]] uint64_t held() const { return payload.used(); }
  [[nodiscard]] fake::FakeEndpoint& server_end() { return *server_end_; }
  [[nodiscard]] Admission& admission() { return *admission_; }

  std::unique_ptr<Exchange> exchange;
  ClientSide client_side;
  std::optional<Transport> server, client;
  Budget payload;
  bool server_stands = false;  // its RDMA and what it sends wait

  // What the session would see.
  std::string broken;
  Exchange::State state = Exchange::State::drained;
  uint64_t pumps = 0;  // how often the upstream was read
  shm::UniqueFd upstream;

 protected:
  explicit ExchangeHost(const Setup& setup) : payload(setup.payload, &connection_), setup_(setup) {
    const auto transport = [&](smb_direct::Role role, Budget& budget) {
      return Transport::Config{.role = role,
                               .limits = setup.limits,
                               .receive_pool = receives_,
                               .header_pool = headers_,
                               .budget = budget};
    };
    server.emplace(loop_, transport(smb_direct::Role::passive, connection_),
                   static_cast<Transport::Owner&>(*this));
    client.emplace(loop_, transport(smb_direct::Role::active, client_budget_), client_side);
    admission_.emplace(setup.admission, *memory_, share_, connection_);
    session_memory_.emplace(*memory_, share_, slabs_, payload);
    context_.emplace(
        SessionContext{*server, translator_, *admission_, slabs_, payload, *session_memory_, *this});
  }
  ~ExchangeHost() = default;

  void begin(std::unique_ptr<Exchange> made) {
    exchange = std::move(made);
    const auto endpoint = [](fake::FakeEndpoint*& end) {
      return [&end](fabric::Handler& handler) {
        auto made_end = std::make_unique<fake::FakeEndpoint>(handler);
        end = made_end.get();
        return made_end;
      };
    };
    REQUIRE(server->start(endpoint(server_end_)));
    REQUIRE(client->start(endpoint(client_end_)));
    fake::FakeEndpoint::join(*server_end_, *client_end_);
    server_end_->establish();
    client_end_->establish();
    settle();
  }
  /// Everything is given back, whatever was under way. others: what outlives the exchange on the loop.
  void end(const std::function<void()>& others = [] {}) {
    client.reset();
    server.reset();
    exchange.reset();
    others();
    session_memory_.reset();
    admission_.reset();
    CHECK(payload.used() == 0);
    CHECK(connection_.used() == 0);
    CHECK(client_budget_.used() == 0);
    share_.reset();
    memory_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop_) == 0);
  }
  /// The upstream's other end does something by itself. True: it has.
  virtual bool move_far_end() { return false; }

  [[nodiscard]] SessionContext& context() { return *context_; }
  [[nodiscard]] uv_loop_t& loop() { return loop_; }

  void on_negotiated() override {}
  void on_fragment(Fragment fragment) override { exchange->on_fragment(fragment); }
  void on_read_done(uint64_t cookie) override { exchange->on_read_done(cookie); }
  void on_writes_done(uint64_t count) override { exchange->on_writes_done(count); }
  void on_invalidated(uint32_t) override {}
  void on_progress() override {
    exchange->resume();
    (void)flush();
    exchange->trim();
    progress_ = true;
  }
  void on_closed(const std::string&, bool) override {}
  void on_broken(std::string why) override {
    CHECK(broken.empty());
    broken = std::move(why);
  }

 private:
  struct Loop : uv_loop_t {
    Loop() { uv_loop_init(this); }
  };

  void pass(uint64_t ms) {
    clock_.advance(ms);
    uv_update_time(&loop_);
    uv_run(&loop_, UV_RUN_NOWAIT);
  }
  /// True: something moved.
  bool read_upstream() {
    if (!upstream.valid() || !broken.empty() || state == Exchange::State::end) return false;
    const bool progress = std::exchange(progress_, false);
    if (state == Exchange::State::no_memory) {
      if (!progress) return false;
    } else if (state != Exchange::State::again) {
      std::array<std::byte, 1> byte{};
      if (::recv(upstream.get(), byte.data(), 1, MSG_PEEK | MSG_DONTWAIT) < 0) return false;
    }
    state = exchange->pump(upstream.get());
    ++pumps;
    if (broken.empty()) exchange->resume();
    return state != Exchange::State::no_memory;
  }
  /// True: some went.
  bool flush() {
    bool moved = false;
    while (upstream.valid() && broken.empty() && !exchange->outbox().empty()) {
      const uint64_t before = exchange->outbox().bytes();
      const auto flushed = exchange->outbox().flush(upstream.get());
      REQUIRE(flushed);
      moved = moved || exchange->outbox().bytes() < before;
      if (*flushed == Outbox::Flush::blocked) break;
      if (exchange->stalled()) exchange->resume();
    }
    return moved;
  }

  Setup setup_;
  fake::FakeClock clock_;
  Loop loop_;
  Arena arena_;
  SlabPool receives_{arena_, 8192};
  SlabPool headers_{arena_, 4096};
  SlabPool slabs_{arena_, kSlab};
  std::optional<WorkerMemory> memory_{std::in_place, loop_, 8 * kPlenty, 64};
  std::shared_ptr<WorkerMemory::Client> share_ = memory_->client({});
  Budget connection_{kPlenty, &share_->held};
  Budget client_budget_{kPlenty};
  std::optional<Admission> admission_;
  std::optional<SessionMemory> session_memory_;
  smb2::ServerTranslator translator_{{.max_read_write_size = 8u << 20}};
  std::optional<SessionContext> context_;
  fake::FakeEndpoint* server_end_ = nullptr;
  fake::FakeEndpoint* client_end_ = nullptr;
  bool progress_ = false;  // since it was last read
  std::vector<std::unique_ptr<Bytes>> sent_;
};

}  // namespace smbdirect::workers::session_test
