// SPDX-License-Identifier: MIT
// A native channel's exchange in use: a client over a fabric in memory, the exchange on its transport, and a
// server process at the other end of the channel. Owned by the test, on one loop, and moved by it.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "peer_end.h"
#include "shm/base/socket_address.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/shm/connection_literal.h"
#include "tests/unit/workers/session/exchange_host.h"
#include "workers/native/native_exchange.h"

namespace smbdirect::workers::native_test {

using smb2_test::pattern;

inline constexpr uint32_t kAreaBytes = 2u << 20;
inline constexpr uint16_t kOperations = 4;
inline constexpr smb2::Guid kClient{std::byte{7}, std::byte{8}};

inline Bytes negotiate_request() {
  Bytes pdu = smb2_test::header(smb2_test::kNegotiate, {});
  pdu.resize(102);
  smb2_test::put(pdu, 64, 36, 2);
  smb2_test::put(pdu, 66, 1, 2);
  std::ranges::copy(kClient.bytes, pdu.begin() + 76);
  smb2_test::put(pdu, 100, 0x0302, 2);
  return pdu;
}

/// The worker's peers: keeps what was asked.
struct RecordingPeers final : Peers {
  std::unique_ptr<Upstream> request(PeerRequest made) override {
    asked = std::move(made);
    return nullptr;
  }
  void serving(shm::ConnectionId /*connection*/, uint32_t process, Pass pass) override {
    served = process, pass_on = std::move(pass);
  }
  void ended(shm::ConnectionId connection) override { over.push_back(connection); }

  PeerRequest asked;
  uint32_t served = 0;
  Pass pass_on;
  std::vector<shm::ConnectionId> over;
};

class ExchangeRig final : public session_test::ExchangeHost {
 public:
  explicit ExchangeRig(uint64_t payload_bytes = 64u << 20, const smb_direct::Limits& limits = {})
      : ExchangeHost({.limits = limits, .payload = payload_bytes}) {
    config.native_area_bytes = kAreaBytes;
    config.native_operations = kOperations;
    context().set_up = true;
    auto made = std::make_unique<NativeExchange>(context(), config, areas, peers);
    native = made.get();
    begin(std::move(made));
  }
  ~ExchangeRig() {
    end();
    CHECK(areas.used() == 0);
    if (area != nullptr) ::munmap(area, config.native_area_bytes);
  }

  /// The client's NEGOTIATE, and a server process that attaches itself.
  void open() {
    from_client(negotiate_request());
    settle();
    REQUIRE(way.has_value());
    REQUIRE(*way);
    area = static_cast<std::byte*>(::mmap(nullptr, config.native_area_bytes, PROT_READ | PROT_WRITE,
                                          MAP_SHARED, peers.asked.area.get(), 0));
    REQUIRE(area != MAP_FAILED);
    shm::UniqueFd theirs;
    std::tie(upstream, theirs) = test::socket_pair();
    peer = PeerEnd(std::move(theirs));
    const int one = 1;
    REQUIRE(::setsockopt(upstream.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
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

  [[nodiscard]] bool pass(shm::UniqueFd socket) { return native->pass_channel(socket); }

  daemon::WorkerConfig config;
  Budget areas{64u << 20};
  RecordingPeers peers;
  NativeExchange* native = nullptr;  // the exchange

  // What the session would see.
  std::optional<shm::Result<std::unique_ptr<Upstream>>> way;
  std::vector<uint32_t> attached_by;
  size_t sessions_set_up = 0;
  size_t queued = 0;

  PeerEnd peer;
  std::byte* area = nullptr;  // as the server process has it

 private:
  void on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) override {
    way = exchange->open_upstream({.connection = 7_c,
                                   .client_guid = {negotiate.client_guid.bytes},
                                   .claimed = true,
                                   .client = *shm::address_from_text("192.0.2.7", 40'000),
                                   .server = *shm::address_from_text("2001:db8::1", 445),
                                   .negotiate = pdu});
  }
  void on_queued() override { ++queued; }
  void on_attached(uint32_t process) override { attached_by.push_back(process); }
  void on_session_set_up() override { ++sessions_set_up; }
};

}  // namespace smbdirect::workers::native_test
