// SPDX-License-Identifier: MIT
#include "daemon/upstream/smbd_requests.h"

#include <cerrno>
#include <sys/socket.h>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon;  // NOLINT: a test of one part and what it speaks to
namespace shm = smbdirect::shm;

namespace {

struct Connector final : SmbdConnector {
  struct Request {
    std::string client;
    std::string server;
    Done done;
  };
  std::vector<Request>& requests;
  std::vector<uint64_t>& cancelled;

  Connector(std::vector<Request>& made, std::vector<uint64_t>& ended) : requests(made), cancelled(ended) {}
  uint64_t open(const sockaddr_storage& client, const sockaddr_storage& server, Done done) override {
    requests.push_back({shm::address_text(client), shm::address_text(server), std::move(done)});
    return requests.size();
  }
  void cancel(uint64_t number) override { cancelled.push_back(number); }
};

/// Two workers without processes: what is sent to them goes nowhere.
struct Rig final : WorkerSlot::Observer {
  shm::Loop loop;
  PoolConfig config;
  WorkerPool workers{loop, config, "none", *this};
  ConnectionTable table{2};
  std::vector<Connector::Request> requests;
  std::vector<uint64_t> cancelled;
  SmbdRequests smbd{loop, config, workers, table};

  explicit Rig(PoolConfig settings = {}) : config(std::move(settings)) {
    smbd.open(std::make_unique<Connector>(requests, cancelled));
  }
  ~Rig() { smbd.close(); }
  void connect(uint64_t number, size_t slot, const char* peer, const char* local) {
    table.add(shm::ConnectionId{number}, slot, *shm::address_from_text(peer, 40'000),
              *shm::address_from_text(local, 5445));
  }
  void worker_ready(size_t) override {}
  void worker_said(size_t, Received<FromWorker>) override {}
  void worker_gone(size_t, const Obituary&) override {}
};

}  // namespace

TEST_CASE("smbd is reached where the client reached us, in the client's name") {
  Rig rig;
  rig.connect(1, 0, "192.0.2.7", "192.0.2.1");
  rig.connect(2, 1, "2001:db8::7", "2001:db8::1");
  rig.smbd.wanted(0, 1_c);
  rig.smbd.wanted(1, 2_c);
  REQUIRE(rig.requests.size() == 2);
  CHECK(rig.requests[0].client == "192.0.2.7:40000");
  CHECK(rig.requests[0].server == "192.0.2.1:445");
  CHECK(rig.requests[1].client == "[2001:db8::7]:40000");
  CHECK(rig.requests[1].server == "[2001:db8::1]:445");
  CHECK(shm::totals_text(rig.smbd.totals()) == "smbd_asked=2 smbd_opened=0 smbd_failed=0");
}

TEST_CASE("a configured address is smbd's, for clients of its family") {
  Rig rig;
  rig.config.worker.upstream_address = "192.0.2.99";
  rig.connect(1, 0, "192.0.2.7", "192.0.2.1");
  rig.connect(2, 0, "2001:db8::7", "2001:db8::1");
  rig.smbd.wanted(0, 1_c);
  rig.smbd.wanted(0, 2_c);
  REQUIRE(rig.requests.size() == 2);
  CHECK(rig.requests[0].server == "192.0.2.99:445");
  CHECK(rig.requests[1].server == "[2001:db8::1]:445");
}

TEST_CASE("a worker may ask for its own connections, once for each") {
  Rig rig;
  rig.connect(1, 0, "192.0.2.7", "192.0.2.1");
  rig.smbd.wanted(1, 1_c);  // another's
  rig.smbd.wanted(0, 9_c);  // nobody's
  CHECK(rig.requests.empty());
  rig.smbd.wanted(0, 1_c);
  rig.smbd.wanted(0, 1_c);
  rig.requests.at(0).done(shm::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  rig.smbd.wanted(0, 1_c);  // it has had its stream
  CHECK(rig.requests.size() == 1);
  CHECK(shm::totals_text(rig.smbd.totals()) == "smbd_asked=1 smbd_opened=1 smbd_failed=4");
}

TEST_CASE("what nobody waits for any more is cancelled, and only that") {
  Rig rig;
  for (uint64_t number = 1; number <= 4; ++number) rig.connect(number, number % 2, "192.0.2.7", "192.0.2.1");
  for (uint64_t number = 1; number <= 4; ++number) rig.smbd.wanted(number % 2, shm::ConnectionId{number});
  rig.requests.at(0).done(shm::fail("smbd", ECONNREFUSED));
  rig.smbd.forget(1, 1_c);  // has been answered
  CHECK(rig.cancelled.empty());
  rig.smbd.forget(0, 2_c);
  CHECK(rig.cancelled == std::vector<uint64_t>{2});
  rig.smbd.forget_worker(1);
  CHECK(rig.cancelled == std::vector<uint64_t>{2, 3});
  rig.smbd.close();
  CHECK(rig.cancelled == std::vector<uint64_t>{2, 3, 4});
  rig.smbd.wanted(0, 4_c);  // closed: nothing is opened any more
  CHECK(rig.requests.size() == 4);
}

TEST_CASE("in mode connect nobody may ask") {
  Rig rig;
  rig.smbd.close();
  rig.connect(1, 0, "192.0.2.7", "192.0.2.1");
  rig.smbd.wanted(0, 1_c);
  CHECK(rig.requests.empty());
  CHECK(shm::totals_text(rig.smbd.totals()) == "smbd_asked=0 smbd_opened=0 smbd_failed=1");
}

TEST_CASE(
    "in mode handoff a client causes so many smbd processes that come to no session, and others theirs") {
  PoolConfig config;
  config.upstream_mode = UpstreamMode::handoff;
  config.connections_per_client = 2;
  config.handoff.rate_per_client = 1;  // ten at once
  Rig rig(config);
  uint64_t number = 0;
  const auto ask = [&](const char* client) {
    const size_t before = rig.requests.size();
    rig.connect(++number, 0, client, "192.0.2.1");
    rig.smbd.wanted(0, shm::ConnectionId{number});
    return rig.requests.size() > before;
  };
  for (int i = 0; i < 10; ++i) CHECK(ask("2001:db8::7"));
  CHECK_FALSE(ask("2001:db8::7"));
  rig.smbd.wanted(0, shm::ConnectionId{number});  // once, whatever came of it
  CHECK(rig.requests.size() == 10);
  CHECK_FALSE(ask("2001:db8::8"));  // the same network
  CHECK(ask("192.0.2.7"));
  // A session makes up for it, once.
  rig.requests.at(0).done(shm::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  for (int i = 0; i < 3; ++i) rig.smbd.session_up(0, 1_c);
  rig.smbd.session_up(0, 99_c);
  rig.smbd.session_up(1, 2_c);
  CHECK(ask("2001:db8::7"));
  CHECK_FALSE(ask("2001:db8::7"));
  rig.smbd.forget(0, 1_c);
  CHECK_FALSE(ask("2001:db8::7"));
}
