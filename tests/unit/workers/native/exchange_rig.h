// SPDX-License-Identifier: MIT
// A native channel's exchange in use: a client over a fabric in memory, the exchange on its transport, and a
// server process at the other end of the channel. Owned by the test, on one loop, and moved by it.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "peer_end.h"
#include "shm/base/socket_address.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/workers/fabric/fake_fabric.h"
#include "workers/native/native_exchange.h"

namespace smbdirect::workers::channel_test {

using smb2_test::pattern;

inline constexpr uint32_t kAreaBytes = 2u << 20;
inline constexpr uint16_t kOperations = 4;
inline constexpr smb2::Guid kClient{std::byte{7}, std::byte{8}};

inline Bytes negotiate_request() {
  Bytes pdu = smb2_test::header(smb2_test::kNegotiate, {});
  pdu.resize(102);
  smb2_test::put(pdu, 64, 36, 2);
  smb2_test::put(pdu, 66, 1, 2);
  std::ranges::copy(kClient, pdu.begin() + 76);
  smb2_test::put(pdu, 100, 0x0302, 2);
  return pdu;
}

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

/// The worker's peers: keeps what was asked.
struct RecordingPeers final : Peers {
  std::unique_ptr<Upstream> request(PeerRequest made) override {
    asked = std::move(made);
    return nullptr;
  }
  void serving(uint64_t /*offer*/, uint32_t process, Pass pass) override {
    served = process, pass_on = std::move(pass);
  }
  void ended(uint64_t offer) override { over.push_back(offer); }

  PeerRequest asked;
  uint32_t served = 0;
  Pass pass_on;
  std::vector<uint64_t> over;
};

class ExchangeRig final : private Transport::Owner, private SessionEvents {
 public:
  explicit ExchangeRig(uint64_t payload_bytes = 64u << 20, const smb_direct::Limits& limits = {})
      : payload(payload_bytes) {
    uv_loop_init(&loop_);
    config.channel_area_bytes = kAreaBytes;
    config.channel_operations = kOperations;
    const auto transport = [&](smb_direct::Role role) {
      return Transport::Config{.role = role,
                               .limits = limits,
                               .receive_pool = receives_,
                               .header_pool = headers_,
                               .budget = budget_};
    };
    server.emplace(loop_, transport(smb_direct::Role::passive), static_cast<Transport::Owner&>(*this));
    memory_.emplace(loop_, uint64_t{1} << 30, 64);
    const auto share = memory_->client({});
    admission_.emplace(uint64_t{1} << 30, *memory_, share, budget_);
    session_memory_.emplace(*memory_, share, slabs_, payload);
    context_.emplace(
        SessionContext{*server, translator_, *admission_, slabs_, payload, *session_memory_, *this});
    context_->set_up = true;
    exchange = std::make_unique<NativeExchange>(*context_, config, areas, peers);
    client.emplace(loop_, transport(smb_direct::Role::active), client_side);
    const auto endpoint = [](fake::FakeEndpoint*& end) {
      return [&end](fabric::Handler& handler) {
        auto made = std::make_unique<fake::FakeEndpoint>(handler);
        end = made.get();
        return made;
      };
    };
    REQUIRE(server->start(endpoint(server_end_)));
    REQUIRE(client->start(endpoint(client_end_)));
    fake::FakeEndpoint::join(*server_end_, *client_end_);
    server_end_->establish();
    client_end_->establish();
    settle();
  }
  ~ExchangeRig() {
    client.reset();
    server.reset();
    exchange.reset();
    session_memory_.reset();
    admission_.reset();
    memory_.reset();
    if (area != nullptr) ::munmap(area, config.channel_area_bytes);
    uv_run(&loop_, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop_) == 0);
    CHECK(budget_.used() == 0);
    CHECK(payload.used() == 0);
    CHECK(areas.used() == 0);
  }

  /// Until nothing moves any more.
  void settle() {
    for (int quiet = 0; quiet < 2;) {
      quiet = server_end_->step() || client_end_->step() ? 0 : quiet + 1;
      if (read_upstream()) quiet = 0;
      flush();
      client->pump();
      server->pump();
      const uint64_t deadline = std::min(client->engine().next_deadline(), server->engine().next_deadline());
      if (quiet == 2 && deadline < uv_now(&loop_) + 4'000) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        uv_run(&loop_, UV_RUN_NOWAIT);
        quiet = 0;
      }
    }
  }
  /// The client's NEGOTIATE, and a server process that attaches itself.
  void open() {
    from_client(negotiate_request());
    settle();
    REQUIRE(way.has_value());
    REQUIRE(*way);
    area = static_cast<std::byte*>(::mmap(nullptr, config.channel_area_bytes, PROT_READ | PROT_WRITE,
                                          MAP_SHARED, peers.asked.area.get(), 0));
    REQUIRE(area != MAP_FAILED);
    shm::UniqueFd theirs;
    std::tie(upstream, theirs) = test::socket_pair();
    peer = PeerEnd(std::move(theirs));
    const int one = 1;
    REQUIRE(::setsockopt(upstream.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
  }

  void from_client(const Bytes& message) {
    sent_.push_back(std::make_unique<Bytes>(message));
    REQUIRE(client->begin_message(message.size()));
    client->append({}, *sent_.back());
  }
  /// Memory of the client's that the server may use, and how it is named.
  smb2::BufferDescriptor expose(std::span<std::byte> memory, fabric::Access access) {
    const auto at = client->expose(memory, access);
    REQUIRE(at);
    return {.offset = at->offset, .token = at->token, .length = uint32_t(memory.size())};
  }
  [[nodiscard]] static Bytes operation(proxy::FrameType type, uint64_t id, uint64_t offset, uint32_t length,
                                       const std::vector<smb2::BufferDescriptor>& memory) {
    return frame({.type = type, .count = uint16_t(memory.size()), .id = id},
                 proxy::encode_operation({.area_offset = offset, .length = length, .memory = memory}));
  }
  [[nodiscard]] static Bytes reply(const Bytes& message, const std::vector<uint32_t>& tokens = {}) {
    Bytes body(4 * tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) smb2_test::put(body, 4 * i, tokens[i], 4);
    return frame({.type = proxy::FrameType::reply, .count = uint16_t(tokens.size())}, body + message);
  }
  /// Says it, and lets everything happen.
  void say(const Bytes& bytes) {
    // No more at a time than the socket takes.
    for (std::span<const std::byte> left(bytes); !left.empty();) {
      const auto here = left.first(std::min<size_t>(left.size(), 64 * 1024));
      peer.say(here);
      left = left.subspan(here.size());
      settle();
    }
  }
  /// The next frame, which is a DONE: whose.
  uint64_t done() {
    const auto heard = peer.hear();
    REQUIRE(heard);
    CHECK(heard->header.type == proxy::FrameType::done);
    CHECK(heard->body.empty());
    return heard->header.id;
  }

  daemon::WorkerConfig config;
  Budget payload;
  Budget areas{64u << 20};
  [[nodiscard]] bool pass(shm::UniqueFd socket) { return exchange->pass_channel(socket); }

  RecordingPeers peers;
  std::unique_ptr<NativeExchange> exchange;  // before the transports: it outlives them
  ClientSide client_side;
  std::optional<Transport> server, client;

  // What the session would see.
  std::optional<shm::Result<std::unique_ptr<Upstream>>> way;
  std::vector<uint32_t> attached_by;
  size_t sessions_set_up = 0;
  size_t queued = 0;
  std::string broken;
  Exchange::State state = Exchange::State::drained;

  shm::UniqueFd upstream;
  PeerEnd peer;
  std::byte* area = nullptr;  // as the server process has it

 private:
  void on_negotiated() override {}
  void on_fragment(Fragment fragment) override { exchange->on_fragment(fragment); }
  void on_read_done(uint64_t cookie) override { exchange->on_read_done(cookie); }
  void on_writes_done(uint64_t count) override { exchange->on_writes_done(count); }
  void on_invalidated(uint32_t) override {}
  void on_progress() override {
    exchange->resume();
    exchange->trim();
  }
  void on_closed(const std::string&, bool) override {}

  void on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) override {
    way = exchange->open_upstream({.offer = 7,
                                   .client_guid = negotiate.client_guid,
                                   .claimed = true,
                                   .client = *shm::address_from_text("192.0.2.7", 40'000),
                                   .server = *shm::address_from_text("2001:db8::1", 445),
                                   .negotiate = pdu});
  }
  void on_queued() override { ++queued; }
  void on_attached(uint32_t process) override { attached_by.push_back(process); }
  void on_session_set_up() override { ++sessions_set_up; }
  void on_broken(std::string why) override {
    CHECK(broken.empty());
    broken = std::move(why);
  }

  /// True: something was read.
  bool read_upstream() {
    if (!upstream.valid() || !broken.empty() || state == Exchange::State::end) return false;
    std::array<std::byte, 1> byte{};
    const ssize_t there = ::recv(upstream.get(), byte.data(), 1, MSG_PEEK | MSG_DONTWAIT);
    if (there < 0) return false;
    state = exchange->pump(upstream.get());
    return state == Exchange::State::more || state == Exchange::State::drained;
  }
  void flush() {
    if (!upstream.valid() || !broken.empty()) return;
    REQUIRE(exchange->outbox().flush(upstream.get()));
  }

  uv_loop_t loop_{};
  Arena arena_;
  SlabPool receives_{arena_, 8192};
  SlabPool headers_{arena_, 4096};
  SlabPool slabs_{arena_, 256 * 1024};
  Budget budget_{1ull << 30};
  std::optional<WorkerMemory> memory_;
  std::optional<Admission> admission_;
  std::optional<SessionMemory> session_memory_;
  smb2::ServerTranslator translator_{{.max_read_write_size = 8u << 20}};
  std::optional<SessionContext> context_;
  fake::FakeEndpoint* server_end_ = nullptr;
  fake::FakeEndpoint* client_end_ = nullptr;
  std::vector<std::unique_ptr<Bytes>> sent_;
};

}  // namespace smbdirect::workers::channel_test
