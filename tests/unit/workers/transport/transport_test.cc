// SPDX-License-Identifier: MIT
#include "workers/transport/transport.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "tests/unit/workers/fabric/fake_fabric.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using fabric::Op;
using fake::FakeEndpoint;

namespace {

std::vector<std::byte> random_bytes(std::mt19937_64& random, size_t size) {
  std::vector<std::byte> bytes(size);
  for (auto& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

/// One side: collects what arrives, keeps some receive buffers for a while.
struct Side final : Transport::Owner {
  void on_negotiated() override { negotiated = true; }
  void on_fragment(Fragment fragment) override {
    if (fragment.first) {
      REQUIRE(current.empty());
      expected_total = fragment.total;
    }
    current.insert(current.end(), fragment.data.begin(), fragment.data.end());
    if (fragment.last) {
      CHECK(current.size() == expected_total);
      messages.push_back(std::move(current));
      current.clear();
    }
    if (retain > retained.size()) retained.push_back(fragment.buffer->share());
  }
  void on_read_done(uint64_t cookie) override { reads.push_back(cookie); }
  void on_invalidated(uint32_t token) override { invalidated.push_back(token); }
  void on_progress() override {}
  void on_fault(const std::string& why) override { fault = why; }
  void on_closed(const std::string& why, bool clean) override {
    closed = why;
    closed_clean = clean;
    ++closes;
  }

  bool negotiated = false;
  uint64_t expected_total = 0;
  std::vector<std::byte> current;
  std::vector<std::vector<std::byte>> messages;
  std::vector<uint64_t> reads;
  std::vector<uint32_t> invalidated;
  std::string fault;
  std::string closed;
  bool closed_clean = false;
  int closes = 0;
  size_t retain = 0;
  std::vector<SlabRef> retained;
};

struct Pair {
  Pair(const smb_direct::Limits& server_limits, const smb_direct::Limits& client_limits,
       uint32_t max_work = 64, uint32_t max_sge = 4) {
    uv_loop_init(&loop);
    server.emplace(loop, config(smb_direct::Role::passive, server_limits), server_side);
    client.emplace(loop, config(smb_direct::Role::active, client_limits), client_side);
    REQUIRE(server->start([&](auto& handler) {
      auto made = std::make_unique<FakeEndpoint>(handler, max_work, max_sge);
      server_end = made.get();
      return made;
    }));
    REQUIRE(client->start([&](auto& handler) {
      auto made = std::make_unique<FakeEndpoint>(handler, max_work, max_sge);
      client_end = made.get();
      return made;
    }));
    FakeEndpoint::join(*server_end, *client_end);
    server_end->establish();
    client_end->establish();
  }
  ~Pair() {
    server_side.retained.clear();
    client_side.retained.clear();
    client.reset();
    server.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    CHECK(budget.used() == 0);
  }
  Transport::Config config(smb_direct::Role role, const smb_direct::Limits& limits) {
    return {
        .role = role, .limits = limits, .receive_pool = receives, .header_pool = headers, .budget = budget};
  }
  /// Until nothing moves and no grant is due soon (only the minutes-long idle timers remain).
  void settle() {
    for (int quiet = 0; quiet < 2;) {
      quiet = server_end->step() || client_end->step() ? 0 : quiet + 1;
      client->pump();
      server->pump();
      const uint64_t deadline = std::min(client->engine().next_deadline(), server->engine().next_deadline());
      if (quiet == 2 && deadline < uv_now(&loop) + 4'000) {
        // Not UV_RUN_ONCE: with a timer due already it runs that one and then waits for the next, minutes.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        uv_run(&loop, UV_RUN_NOWAIT);
        quiet = 0;
      }
    }
  }

  uv_loop_t loop{};
  Arena arena;
  SlabPool receives{arena, 8192};
  SlabPool headers{arena, 4096};
  Budget budget{1ull << 30};
  Side server_side, client_side;
  std::optional<Transport> server, client;
  FakeEndpoint* server_end = nullptr;
  FakeEndpoint* client_end = nullptr;
};

void send(Transport& transport, const std::vector<std::byte>& message,
          std::span<const uint32_t> invalidate = {}) {
  REQUIRE(transport.begin_message(message.size(), invalidate));
  transport.append({}, message);
}

}  // namespace

TEST_CASE("a client and a server negotiate and exchange messages") {
  Pair pair({}, {});
  pair.settle();
  REQUIRE(pair.client_side.negotiated);
  REQUIRE(pair.server_side.negotiated);
  std::mt19937_64 random(1);
  const auto request = random_bytes(random, 100'000);
  const auto response = random_bytes(random, 70'000);
  send(*pair.client, request);
  send(*pair.server, response);
  pair.settle();
  REQUIRE(pair.server_side.messages.size() == 1);
  REQUIRE(pair.client_side.messages.size() == 1);
  CHECK(pair.server_side.messages[0] == request);
  CHECK(pair.client_side.messages[0] == response);
}

TEST_CASE("random sizes, limits, credits and kept buffers: everything arrives, in order") {
  const char* chosen = std::getenv("TRANSPORT_SEED");
  const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  const auto pick = [&](uint64_t low, uint64_t high) { return low + random() % (high - low + 1); };
  for (int round = 0; round < 12; ++round) {
    const auto limits = [&] {
      smb_direct::Limits made;
      made.receive_credit_initial = static_cast<uint16_t>(pick(8, 16));
      made.receive_credit_max = static_cast<uint16_t>(pick(made.receive_credit_initial, 32));
      made.send_credit_target = static_cast<uint16_t>(pick(8, 40));
      made.max_send_size = static_cast<uint32_t>(pick(128, 8192));
      made.max_receive_size = static_cast<uint32_t>(pick(128, 8192));
      return made;
    };
    Pair pair(limits(), limits(), static_cast<uint32_t>(pick(2, 40)), static_cast<uint32_t>(pick(2, 6)));
    pair.settle();
    REQUIRE(pair.client_side.negotiated);
    std::vector<std::vector<std::byte>> requests, responses;
    for (uint64_t n = pick(1, 12); n > 0; --n)
      requests.push_back(random_bytes(random, pick(1, pick(1, 40'000))));
    for (uint64_t n = pick(1, 12); n > 0; --n)
      responses.push_back(random_bytes(random, pick(1, pick(1, 40'000))));
    for (size_t i = 0; i < std::max(requests.size(), responses.size()); ++i) {
      if (i < requests.size()) send(*pair.client, requests[i]);
      if (i < responses.size()) {
        // In pieces, with the wire moving in between.
        REQUIRE(pair.server->begin_message(responses[i].size()));
        for (std::span<const std::byte> left(responses[i]); !left.empty();) {
          const auto here = std::min<size_t>(left.size(), pick(1, 9000));
          pair.server->append({}, left.first(here));
          left = left.subspan(here);
          if (random() % 2 == 0) pair.settle();
        }
      }
      pair.server_side.retain = pick(0, 1);
      if (random() % 2 == 0) pair.settle();
      pair.server_side.retained.clear();
    }
    pair.server_side.retain = 0;
    pair.settle();
    const auto credits = [](const char* who, const smb_direct::Credits& c) {
      return std::string(who) + " posted=" + std::to_string(c.posted) +
             " granted=" + std::to_string(c.granted) + " available=" + std::to_string(c.available) +
             " target=" + std::to_string(c.receive_target) + " send=" + std::to_string(c.send) +
             " send_target=" + std::to_string(c.send_target);
    };
    INFO(credits("server", pair.server->engine().credits())
         << "; " << credits("client", pair.client->engine().credits()));
    CHECK(pair.server_side.messages == requests);
    CHECK(pair.client_side.messages == responses);
    CHECK(pair.server->idle());
    CHECK(pair.client->idle());
  }
}

TEST_CASE("a quiet connection's buffers lose their pages, but for a message that is half there") {
  Pair pair({}, {});
  pair.settle();
  const std::vector<std::byte> first(5000, std::byte{1}), second(5000, std::byte{2});
  send(*pair.client, first);
  pair.settle();
  pair.server->trim();
  const size_t posted = pair.server_end->receives_posted();
  REQUIRE(posted >= 3);
  const auto fill = [&] {
    for (size_t i = 0; i < posted; ++i) std::ranges::fill(pair.server_end->posted(i), std::byte{7});
  };
  const auto kept = [&](size_t i) { return pair.server_end->posted(i)[100] == std::byte{7}; };
  fill();
  pair.server_end->progress_now.receiving = true;
  pair.server_end->progress_now.received = 200;  // placed since, and not delivered yet
  pair.server->trim();
  for (size_t i = 0; i < posted; ++i) CHECK(kept(i));
  pair.server->trim();
  CHECK(kept(0));
  for (size_t i = 1; i < posted; ++i) CHECK_FALSE(kept(i));
  fill();
  pair.server->trim();  // nothing has moved: they are not looked at again
  for (size_t i = 0; i < posted; ++i) CHECK(kept(i));
  pair.server_end->progress_now.receiving = false;
  send(*pair.client, second);
  pair.settle();
  REQUIRE(pair.server_side.messages.size() == 2);
  CHECK((pair.server_side.messages[1] == second));
}

TEST_CASE("RDMA WRITEs are posted before the message that announces them, and a SEND invalidates") {
  Pair pair({}, {}, 8, 3);
  pair.settle();
  std::mt19937_64 random(2);
  const auto data = random_bytes(random, 50'000);
  std::vector<std::byte> memory(data.size());
  const auto exposed = pair.client->expose(memory, fabric::Access::remote_write);
  REQUIRE(exposed);
  for (size_t at = 0; at < data.size(); at += 1000) {
    pair.server->rdma_write({}, std::span(data).subspan(at, 1000), {exposed->offset + at, exposed->token});
  }
  const auto answer = random_bytes(random, 80);
  send(*pair.server, answer, std::span(&exposed->token, 1));
  // The moment the answer is in, so must be the data.
  while (pair.client_side.messages.empty()) {
    pair.server->pump();
    pair.client->pump();
    const bool moved = pair.server_end->step() || pair.client_end->step();
    REQUIRE(moved);
  }
  CHECK(memory == data);
  CHECK(pair.client_side.messages[0] == answer);
  CHECK(pair.client_side.invalidated == std::vector<uint32_t>{exposed->token});
  CHECK(pair.client_end->exposed() == 0);
}

TEST_CASE("each of several tokens is invalidated by a fragment of its own") {
  Pair pair({}, {});
  pair.settle();
  std::vector<std::byte> memory(64);
  std::vector<uint32_t> tokens;
  for (int i = 0; i < 5; ++i)
    tokens.push_back(pair.client->expose(memory, fabric::Access::remote_write)->token);
  std::mt19937_64 random(3);
  const auto answer = random_bytes(random, 90);
  send(*pair.server, answer, tokens);
  pair.settle();
  REQUIRE(pair.client_side.messages.size() == 1);
  CHECK(pair.client_side.messages[0] == answer);
  CHECK(pair.client_side.invalidated == tokens);
  CHECK(pair.client_end->exposed() == 0);
}

TEST_CASE("RDMA READs complete in order with their cookies") {
  Pair pair({}, {}, 3, 2);
  pair.settle();
  std::mt19937_64 random(4);
  auto source = random_bytes(random, 64'000);
  const auto exposed = pair.client->expose(source, fabric::Access::remote_read);
  std::vector<std::byte> sink(source.size());
  std::vector<uint64_t> cookies;
  for (size_t at = 0; at < source.size(); at += 8000) {
    cookies.push_back(at);
    pair.server->rdma_read(std::span(sink).subspan(at, 8000), 0, {exposed->offset + at, exposed->token}, at);
  }
  pair.settle();
  CHECK(pair.server_side.reads == cookies);
  CHECK(sink == source);
}

TEST_CASE("a device that registers no more memory ends the connection, and says what to look at") {
  for (const Op op : {Op::rdma_read, Op::rdma_write}) {
    Pair pair({}, {});
    pair.settle();
    std::vector<std::byte> memory(64);
    pair.server_end->refuses = {{op, fabric::PostError::queue_full}};  // later there may be room
    if (op == Op::rdma_read) {
      pair.server->rdma_read(memory, 0, {1, 2}, 3);
    } else {
      pair.server->rdma_write({}, memory, {1, 2});
    }
    const std::vector<std::byte> answer(80);
    send(*pair.server, answer);
    pair.server->pump();
    CHECK(pair.server_side.fault.empty());
    // An answer waits for the WRITEs it speaks of; READs are of requests.
    CHECK(pair.server_end->work().empty() == (op == Op::rdma_write));
    pair.server_end->refuses = {{op, fabric::PostError::not_registered}};
    pair.server->pump();
    CHECK(pair.server_side.fault.find("locked memory") != std::string::npos);
    pair.settle();
    CHECK(pair.server_side.closes == 1);
    CHECK_FALSE(pair.server_side.closed_clean);
    CHECK(pair.server_side.closed == pair.server_side.fault);
  }
}

TEST_CASE("a message longer than the peer's MaxFragmentedSize is refused to the caller") {
  smb_direct::Limits small;
  small.max_fragmented_size = 131'072;
  Pair pair({}, small);
  pair.settle();
  CHECK_FALSE(pair.server->begin_message(131'073));
  CHECK(pair.server->begin_message(131'072));
}

TEST_CASE("disconnect() delivers what was queued, then ends cleanly on both sides, once") {
  Pair pair({}, {});
  pair.settle();
  std::mt19937_64 random(5);
  const auto last = random_bytes(random, 60'000);
  send(*pair.server, last);
  pair.server->disconnect("enough");
  pair.settle();
  REQUIRE(pair.client_side.messages.size() == 1);
  CHECK(pair.client_side.messages[0] == last);
  CHECK(pair.server_side.closed == "enough");
  CHECK(pair.server_side.closed_clean);
  CHECK(pair.client_side.closed_clean);
  CHECK(pair.server_side.closes == 1);
  CHECK(pair.client_side.closes == 1);
}

TEST_CASE("buffers the owner keeps are not posted again: the peer runs out of credits and waits") {
  smb_direct::Limits limits;
  limits.receive_credit_initial = limits.receive_credit_max = 4;
  limits.max_receive_size = 512;
  Pair pair(limits, {});
  pair.settle();
  pair.server_side.retain = 1000;
  std::mt19937_64 random(6);
  const auto message = random_bytes(random, 50'000);
  send(*pair.client, message);
  pair.settle();
  CHECK(pair.server_side.messages.empty());
  // What it keeps and what is posted never exceed the quota of 4 (one may be forced, to stay reachable).
  CHECK(pair.server_side.retained.size() + pair.server_end->receives_posted() <= 5);
  pair.server_side.retain = 0;
  pair.server_side.retained.clear();
  pair.settle();
  REQUIRE(pair.server_side.messages.size() == 1);
  CHECK(pair.server_side.messages[0] == message);
}

TEST_CASE("receive_credit_max 1 on either side or both still moves messages of many fragments") {
  smb_direct::Limits one;
  one.receive_credit_initial = one.receive_credit_max = 1;
  one.max_receive_size = 512;
  const std::pair<smb_direct::Limits, smb_direct::Limits> sides[] = {{one, {}}, {{}, one}, {one, one}};
  std::mt19937_64 random(7);
  for (const auto& [server, client] : sides) {
    Pair pair(server, client);
    pair.settle();
    const auto request = random_bytes(random, 2'000), response = random_bytes(random, 2'000);
    send(*pair.client, request);
    send(*pair.server, response);
    pair.settle();
    CHECK(pair.server_side.messages == std::vector<std::vector<std::byte>>{request});
    CHECK(pair.client_side.messages == std::vector<std::vector<std::byte>>{response});
  }
}

TEST_CASE("a broken rule faults the connection, tells the owner at once, and closes it") {
  Pair pair({}, {});
  pair.settle();
  // 19 bytes are too few for a data message (conformance: UncompletedMessage).
  const std::array<std::byte, 19> junk{};
  pair.client_end->inject(junk);
  CHECK(pair.server_side.fault.find("SMB Direct:") == 0);
  while (pair.server_end->step()) {
  }
  CHECK(pair.server_side.closes == 1);
  CHECK_FALSE(pair.server_side.closed_clean);
}
