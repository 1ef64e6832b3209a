// SPDX-License-Identifier: MIT
// The verbs fabric's endpoints on a real device: both ends of each connection in this process, the request
// taken from a listening file as from a hand-over file. Run by verbs_endpoints.py in the guest, with the
// address in RDMA_ADDRESS and the port in RDMA_PORT.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/contract/rdma_ucm.h"
#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "tests/unit/workers/fabric/iwarp/support.h"
#include "workers/fabric/verbs/verbs.h"

namespace smbdirect::test {
namespace {

namespace verbs = workers::fabric::verbs;
using fabric::CloseCause;
using fabric::Op;

constexpr size_t kHalf = 16U << 20U;

sockaddr_storage listen_address() {
  const char* address = std::getenv("RDMA_ADDRESS");
  const char* port = std::getenv("RDMA_PORT");
  const auto parsed = shm::address_from_text(address == nullptr ? "127.0.0.1" : address,
                                             static_cast<uint16_t>(port == nullptr ? 445 : std::atoi(port)));
  return parsed.value();
}

bool on_iwarp() { return std::getenv("RDMA_IWARP") != nullptr; }

struct Pair {
  Recorder server_events, client_events;
  std::unique_ptr<fabric::Endpoint> server, client;
  [[nodiscard]] bool both_closed() const {
    return server_events.closed_calls > 0 && client_events.closed_calls > 0;
  }
};

class World {
 public:
  World() : memory(2 * kHalf), key(arena.add(memory)), cm(daemon::RdmaCm::open().value()) {
    shm::log::configure(shm::log::Level::info, "test");
    fabric_ = verbs::Fabric::open(loop.get(), arena).value();
    connector_ = verbs::Connector::open(loop.get(), arena).value();
    const uint32_t id = cm.create(1).value();
    REQUIRE(cm.bind(id, listen_address()));
    REQUIRE(cm.listen(id, 16));
    options.device_idle_ms = 200;
    options.handshake_timeout_ms = 60'000;  // the guest of a busy machine opens a device in seconds
  }
  ~World() {
    // Devices close when they have been idle.
    uv_update_time(&loop.get());
    const uint64_t begin = uv_now(&loop.get());
    loop.until([&] { return uv_now(&loop.get()) - begin > 1000; });
  }

  [[nodiscard]] fabric::Sge piece(size_t offset, size_t length) {
    return {.addr = memory.data() + offset, .length = static_cast<uint32_t>(length), .key = key};
  }
  /// Receives of 64 KiB each, at the far end of each half.
  std::unique_ptr<Pair> connect(int server_receives = 16, int client_receives = 16) {
    auto pair = std::make_unique<Pair>();
    verbs::Options client_options = options;
    client_options.max_inbound_reads = 16;
    auto client = connector_->connect(listen_address(), std::nullopt, client_options, pair->client_events);
    REQUIRE(client);
    pair->client = std::move(*client);
    for (int i = 0; i < client_receives; ++i)
      REQUIRE(pair->client->post_receive(1000 + i, piece(receive_at(0, i), 65536)));
    pair->client->start();
    std::optional<daemon::CmEvent> request;
    loop.until([&] {
      if (pair->client_events.closed_calls > 0) return true;
      auto event = cm.next_event();
      REQUIRE(event);
      if (*event && (*event)->type == daemon::CmEventType::connect_request) request = **event;
      return request.has_value();
    });
    INFO(pair->client_events.close.detail);
    REQUIRE(request);
    const verbs::Request taken{.id = request->id, .handover_fd = cm.fd(), .parameters = request->parameters};
    REQUIRE(fabric_->take(taken));
    pair->server = fabric_->accept(taken, options, pair->server_events);
    for (int i = 0; i < server_receives; ++i)
      REQUIRE(pair->server->post_receive(i, piece(kHalf + receive_at(0, i), 65536)));
    pair->server->start();
    loop.until([&] {
      return (pair->server_events.established && pair->client_events.established) ||
             pair->server_events.closed_calls + pair->client_events.closed_calls > 0;
    });
    INFO(pair->server_events.close.detail);
    CHECK(pair->server_events.closed_calls == 0);
    REQUIRE(pair->client_events.closed_calls == 0);
    // iWARP's passive side may only speak when it has been spoken to.
    if (server_receives > 0) {
      REQUIRE(pair->client->post_send(1, {}));
      pair->client->ring();
      REQUIRE(loop.until([&] { return pair->server_events.count(Op::receive) == 1; }));
      pair->server_events.done.clear();
      REQUIRE(loop.until([&] { return pair->client_events.count(Op::send) == 1; }));
      pair->client_events.done.clear();
    }
    return pair;
  }
  static size_t receive_at(size_t half, int i) { return half + (6U << 20U) + static_cast<size_t>(i) * 65536; }

  Loop loop;
  std::vector<std::byte> memory;
  workers::Arena arena;
  uint32_t key;
  daemon::RdmaCm cm;
  verbs::Options options;

 private:
  std::unique_ptr<verbs::Fabric> fabric_;
  std::unique_ptr<verbs::Connector> connector_;
};

double milliseconds_since(uint64_t begin) { return static_cast<double>(uv_hrtime() - begin) / 1e6; }

TEST_CASE("messages of all sizes, in pieces too, in both directions") {
  World world;
  auto pair = world.connect();
  MESSAGE(std::string(pair->server->description()));
  MESSAGE(std::string(pair->client->description()));
  const auto& attributes = pair->server->attributes();
  MESSAGE("send work " << attributes.max_send_work << ", receives " << attributes.max_receive_work
                       << ", pieces " << attributes.max_send_sge << ", READs "
                       << attributes.max_outbound_reads);
  CHECK(attributes.max_outbound_reads > 1);
  int receive = 0;
  for (const size_t size : {0UL, 1UL, 20UL, 64UL, 65UL, 1000UL, 1364UL, 4096UL, 65536UL}) {
    CAPTURE(size);
    std::ranges::copy(random_bytes(size, size), world.memory.begin());
    std::vector<fabric::Sge> pieces;
    const size_t count = std::min<size_t>(attributes.max_send_sge, std::max<size_t>(size, 1));
    for (size_t i = 0; i < count; ++i) {
      const size_t from = size * i / count;
      pieces.push_back(world.piece(from, size * (i + 1) / count - from));
    }
    const size_t server_done = pair->server_events.done.size(), client_done = pair->client_events.done.size();
    REQUIRE(pair->client->post_send(1, pieces));
    REQUIRE(pair->server->post_send(2, pieces));
    pair->client->ring();
    pair->server->ring();
    REQUIRE(world.loop.until([&] {
      return pair->server_events.done.size() == server_done + 2 &&
             pair->client_events.done.size() == client_done + 2;
    }));
    const auto arrived = pair->server_events.of(Op::receive).back();
    CHECK(arrived.bytes == size);
    // The first of the server's receives took the greeting.
    CHECK(std::memcmp(world.memory.data(), world.memory.data() + kHalf + World::receive_at(0, receive + 1),
                      size) == 0);
    CHECK(std::memcmp(world.memory.data(), world.memory.data() + World::receive_at(0, receive), size) == 0);
    ++receive;
  }
}

TEST_CASE("WRITEs and READs into and from exposed memory, followed by a SEND") {
  World world;
  auto pair = world.connect();
  int receive = 0;
  for (const size_t size : {1UL, 4096UL, 65536UL, 65537UL, 1048576UL, 4000000UL}) {
    CAPTURE(size);
    std::vector<std::byte> target(size), source = random_bytes(size, size);
    std::ranges::copy(random_bytes(size, size + 1), world.memory.begin() + kHalf);
    const auto written = pair->client->expose(target, fabric::Access::remote_write);
    const auto read = pair->client->expose(source, fabric::Access::remote_read);
    REQUIRE(written);
    REQUIRE(read);
    pair->server_events.done.clear();
    const uint64_t begin = uv_hrtime();
    const fabric::Sge whole[] = {world.piece(kHalf, size)};
    REQUIRE(pair->server->post_write(1, whole, *written));
    REQUIRE(pair->server->post_send(2, {}));
    pair->server->ring();
    ++receive;
    REQUIRE(world.loop.until(
        [&] { return pair->client_events.count(Op::receive) == static_cast<size_t>(receive); }));
    CHECK(std::memcmp(target.data(), world.memory.data() + kHalf, size) == 0);
    const double write_ms = milliseconds_since(begin);
    REQUIRE(world.loop.until([&] { return pair->server_events.done.size() == 2; }));
    const uint64_t begin_read = uv_hrtime();
    REQUIRE(pair->server->post_read(3, world.piece(kHalf, size), *read));
    pair->server->ring();
    REQUIRE(world.loop.until([&] { return pair->server_events.done.size() == 3; }));
    CHECK(std::memcmp(source.data(), world.memory.data() + kHalf, size) == 0);
    MESSAGE(size << " bytes: WRITE " << write_ms << " ms, READ " << milliseconds_since(begin_read) << " ms");
    pair->client->unexpose(written->token);
    pair->client->unexpose(read->token);
  }
  CHECK((pair->server->traffic().copied_bytes > 0) == on_iwarp());
}

TEST_CASE("many READs at once come in order, with their own data, and SENDs do not wait for them") {
  World world;
  auto pair = world.connect();
  constexpr size_t kSize = 40'000;
  constexpr size_t kCount = 100;
  std::vector<std::byte> source = random_bytes(kCount * kSize, 9);
  const auto at = pair->client->expose(source, fabric::Access::remote_read);
  REQUIRE(at);
  for (uint64_t i = 0; i < kCount; ++i) {
    REQUIRE(pair->server->post_read(i, world.piece(kHalf + i * kSize, kSize),
                                    {.offset = at->offset + i * kSize, .token = at->token}));
    if (i % 20 == 0) REQUIRE(pair->server->post_send(i, {}));
  }
  pair->server->ring();
  REQUIRE(world.loop.until([&] { return pair->server_events.done.size() == kCount + 5; }, 60'000));
  const auto reads = pair->server_events.of(Op::rdma_read);
  for (uint64_t i = 0; i < kCount; ++i) CHECK(reads[i].id == i);
  CHECK(std::memcmp(source.data(), world.memory.data() + kHalf, source.size()) == 0);
}

TEST_CASE("ten thousand messages with receives posted anew") {
  World world;
  auto pair = world.connect(128, 16);
  constexpr uint64_t kCount = 10'000;
  uint64_t sent = 0, received = 0, window = 100;
  const auto more = [&] {
    while (sent < kCount && window > 0 && pair->client->send_room() > 0) {
      const fabric::Sge piece[] = {world.piece(0, 1024)};
      REQUIRE(pair->client->post_send(sent++, piece));
      --window;
    }
    pair->client->ring();
  };
  pair->server_events.when_done = [&](const fabric::Completion& completion) {
    if (completion.op != Op::receive) return;
    ++received;
    ++window;
    // The connection may have broken behind what is still delivered.
    if (!pair->server->post_receive(0, world.piece(kHalf, 1024))) return;
    pair->server->ring();
    more();
  };
  const uint64_t begin = uv_hrtime();
  more();
  CHECK(world.loop.until([&] { return received == kCount || pair->both_closed(); }, 120'000));
  CHECK(received == kCount);
  INFO(pair->server_events.close.detail);
  INFO(pair->client_events.close.detail);
  REQUIRE_FALSE(pair->both_closed());
  const double ms = milliseconds_since(begin);
  MESSAGE((static_cast<double>(kCount) / ms * 1000)
          << " messages a second, " << pair->client_events.calls << " batches");
}

TEST_CASE("a token the peer never gave ends this connection, and no other") {
  World world;
  auto other = world.connect();
  for (const bool read : {false, true}) {
    CAPTURE(read);
    auto pair = world.connect();
    const fabric::RemoteMemory nowhere{.offset = 0x1000, .token = 0x12345678};
    const fabric::Sge piece[] = {world.piece(0, 100)};
    if (read) {
      REQUIRE(pair->server->post_read(1, piece[0], nowhere));
    } else {
      REQUIRE(pair->server->post_write(1, piece, nowhere));
    }
    pair->server->ring();
    REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
    MESSAGE("server: " << pair->server_events.close.detail
                       << " / client: " << pair->client_events.close.detail);
    CHECK(pair->server_events.close.cause != CloseCause::local);
    if (!on_iwarp()) CHECK(pair->server_events.close.cause == CloseCause::peer_terminate);
    CHECK(pair->server_events.count(Op::rdma_read) == 0);
  }
  REQUIRE(other->client->post_send(5, {}));
  other->client->ring();
  REQUIRE(world.loop.until([&] { return other->server_events.count(Op::receive) == 1; }));
}

TEST_CASE("memory that another connection exposed is out of reach") {
  World world;
  auto pair = world.connect(), other = world.connect();
  std::vector<std::byte> lent(4096);
  const auto at = other->client->expose(lent, fabric::Access::remote_write);
  REQUIRE(at);
  const fabric::Sge piece[] = {world.piece(0, 100)};
  REQUIRE(pair->server->post_write(1, piece, *at));
  pair->server->ring();
  REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
  CHECK(std::ranges::all_of(lent, [](std::byte b) { return b == std::byte{}; }));
  CHECK(other->client_events.closed_calls == 0);
}

TEST_CASE("a message longer than the receive") {
  World world;
  auto pair = world.connect(16, 0);
  REQUIRE(pair->client->post_receive(1, world.piece(0, 10)));
  pair->client->ring();
  const fabric::Sge piece[] = {world.piece(kHalf, 1000)};
  REQUIRE(pair->server->post_send(1, piece));
  pair->server->ring();
  REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
  MESSAGE("server: " << pair->server_events.close.detail
                     << " / client: " << pair->client_events.close.detail);
  CHECK(pair->client_events.count(Op::receive) == 0);
}

TEST_CASE("no receive posted") {
  World world;
  auto pair = world.connect(16, 0);
  REQUIRE(pair->server->post_send(1, {}));
  pair->server->ring();
  REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
  MESSAGE("server: " << pair->server_events.close.detail
                     << " / client: " << pair->client_events.close.detail);
}

TEST_CASE("orderly: what was posted arrives, and both sides know how it ended") {
  for (const bool server_leaves : {false, true}) {
    CAPTURE(server_leaves);
    World world;
    auto pair = world.connect();
    fabric::Endpoint& leaver = server_leaves ? *pair->server : *pair->client;
    Recorder& stayer = server_leaves ? pair->client_events : pair->server_events;
    const fabric::Sge piece[] = {world.piece(server_leaves ? kHalf : 0, 1000)};
    for (uint64_t i = 0; i < 10; ++i) REQUIRE(leaver.post_send(i, piece));
    const uint64_t begin = uv_hrtime();
    leaver.disconnect();
    REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
    MESSAGE("took " << milliseconds_since(begin) << " ms");
    CHECK(milliseconds_since(begin) < 2500);
    CHECK(stayer.count(Op::receive) == 10);
    CHECK(stayer.close.cause == CloseCause::peer_closed);
    CHECK((server_leaves ? pair->server_events : pair->client_events).close.cause == CloseCause::local);
  }
}

TEST_CASE("abort, and destruction at once: the peer hears of it") {
  for (int way = 0; way < 4; ++way) {
    CAPTURE(way);
    World world;
    auto pair = world.connect();
    std::vector<std::byte> source(1'000'000);
    const auto at = pair->client->expose(source, fabric::Access::remote_read);
    REQUIRE(pair->server->post_read(1, world.piece(kHalf, source.size()), *at));
    pair->server->ring();
    if (way == 0) pair->server->abort();
    if (way == 1) pair->server.reset();
    if (way == 2) pair->client->abort();
    if (way == 3) pair->client.reset();
    const Recorder& left = way < 2 ? pair->client_events : pair->server_events;
    REQUIRE(world.loop.until([&] { return left.closed_calls == 1; }, 10'000));
    MESSAGE(left.close.detail);
  }
}

TEST_CASE("connections come and go") {
  World world;
  const uint64_t begin = uv_hrtime();
  constexpr int kCycles = 30;
  for (int i = 0; i < kCycles; ++i) {
    auto pair = world.connect();
    pair->client->disconnect();
    REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
  }
  MESSAGE((milliseconds_since(begin) / kCycles) << " ms for each connection");
}

// Why Attributes::can_be_invalidated is false here: rxe invalidates only memory windows and what a kernel
// registers for the purpose, and siw does it without telling the receiver.
TEST_CASE("SEND with invalidate of memory that is only registered") {
  World world;
  auto pair = world.connect();
  std::vector<std::byte> lent(4096);
  const auto at = pair->client->expose(lent, fabric::Access::remote_write);
  const fabric::Sge pieces[] = {world.piece(0, 24), world.piece(100, 76)};
  REQUIRE(pair->server->post_send(1, pieces, &at->token));
  pair->server->ring();
  world.loop.until([&] { return pair->both_closed() || pair->client_events.count(Op::receive) == 1; });
  CHECK(pair->both_closed() == !on_iwarp());
  if (!on_iwarp()) return;
  CHECK(pair->client_events.of(Op::receive)[0].bytes == 100);
  REQUIRE(pair->server->post_write(2, pieces, *at));
  pair->server->ring();
  CHECK(world.loop.until([&] { return pair->both_closed(); }));
}

TEST_CASE("the device is deleted under a connection" * doctest::skip(true)) {
  World world;
  auto pair = world.connect();
  const std::string command = std::string("rdma link delete ") + std::getenv("RDMA_DEVICE") + " &";
  REQUIRE(std::system(command.c_str()) == 0);
  REQUIRE(world.loop.until([&] { return pair->both_closed(); }));
  CHECK(pair->server_events.close.detail == "the RDMA device was removed");
  CHECK(pair->client_events.close.detail == "the RDMA device was removed");
  const std::string gone = std::string("! rdma link show ") + std::getenv("RDMA_DEVICE") + " >/dev/null 2>&1";
  CHECK(world.loop.until([&] { return std::system(gone.c_str()) == 0; }, 10'000));
}

}  // namespace
}  // namespace smbdirect::test
