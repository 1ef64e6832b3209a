// SPDX-License-Identifier: MIT
// What a session is to its exchange, for tests: a client over a fabric in memory, the exchange's transport,
// memory and translator, and the socket to its upstream. Owned by the test, on one loop, and moved by it: the
// clock stands but for what is due soon. Whose exchange it is begins it and ends it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
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
  void settle();
  /// Time goes by, and the session looks again, once, as its timer for memory lets it.
  void wait(uint64_t ms);

  void from_client(const Bytes& message) {
    begin(message.size());
    append(message);
  }
  /// The same in parts.
  void begin(uint64_t total) { REQUIRE(client->begin_message(total)); }
  void append(std::span<const std::byte> bytes);
  /// Memory of the client's that the server may use, and how it is named.
  smb2::BufferDescriptor expose(std::span<std::byte> memory, fabric::Access access);
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
  explicit ExchangeHost(const Setup& setup);
  ~ExchangeHost() = default;

  void begin(std::unique_ptr<Exchange> made);
  /// Everything is given back, whatever was under way. others: what outlives the exchange on the loop.
  void end(const std::function<void()>& others = [] {});
  /// The upstream's other end does something by itself. True: it has.
  virtual bool move_far_end() { return false; }

  [[nodiscard]] SessionContext& context() { return *context_; }
  [[nodiscard]] uv_loop_t& loop() { return loop_; }

  void on_negotiated() override {}
  void on_fragment(Fragment fragment) override { exchange->on_fragment(fragment); }
  void on_read_done(uint64_t cookie) override { exchange->on_read_done(cookie); }
  void on_writes_done(uint64_t count) override { exchange->on_writes_done(count); }
  void on_invalidated(uint32_t) override {}
  void on_progress() override;
  void on_closed(const std::string&, bool) override {}
  void on_broken(std::string why) override;

 private:
  struct Loop : uv_loop_t {
    Loop() { uv_loop_init(this); }
  };

  void pass(uint64_t ms);
  /// True: something moved.
  bool read_upstream();
  /// True: some went.
  bool flush();

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
