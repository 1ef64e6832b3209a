// SPDX-License-Identifier: MIT
// A whole Session in use: a client over a fabric in memory, and smbd at the other end of the socket that the
// session is given. Owned by the test; its loop turns when the test says so, and its clock stands.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "exchange_host.h"
#include "smbd_end.h"
#include "tests/unit/shm/connection_literal.h"
#include "tests/unit/unix_sockets.h"
#include "workers/session/session.h"
#include "workers/smbd/smbd_exchange.h"

namespace smbdirect::workers::session_test {

class SessionRig {
 public:
  explicit SessionRig(const daemon::WorkerConfig& given) : config(given) {
    memory.emplace(loop_, config.buffered_bytes_per_worker, 64);
    resources_.emplace(SessionResources{
        loop_, config, slabs_, receives_, headers_, *memory,
        [this](SessionContext& context) { return std::make_unique<SmbdExchange>(context, connect_); },
        [this](shm::ConnectionId, const smb2::Guid&) { told.emplace_back("claim"); },
        [this](shm::ConnectionId, uint32_t process) { told.push_back("up " + std::to_string(process)); },
        [this](shm::ConnectionId) { told.emplace_back("down"); },
        [this](shm::ConnectionId) { told.emplace_back("session"); }, [](const std::string&) {}});
    session = std::make_unique<Session>(*resources_, Session::Client{1_c, {}, {}, "test"},
                                        [this](const std::string& why, bool cleanly) {
                                          ended = why;
                                          clean = cleanly;
                                        });
    client.emplace(loop_,
                   Transport::Config{.role = smb_direct::Role::active,
                                     .limits = {.receive_credit_initial = 255},
                                     .receive_pool = receives_,
                                     .header_pool = headers_,
                                     .budget = client_budget_},
                   client_side);
    const auto endpoint = [](fake::FakeEndpoint*& end) {
      return [&end](fabric::Handler& handler) {
        auto made = std::make_unique<fake::FakeEndpoint>(handler);
        made->known_as(end);
        return made;
      };
    };
    REQUIRE(session->start(endpoint(server_end_)));
    REQUIRE(client->start(endpoint(client_end_)));
    fake::FakeEndpoint::join(*server_end_, *client_end_);
    server_end_->establish();
    client_end_->establish();
    settle();
  }
  ~SessionRig() {
    client.reset();
    session.reset();
    turn();
    turn();
    CHECK(memory->held().used() == 0);
    memory.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop_) == 0);
  }

  /// Until nothing moves any more, with no time going by.
  void settle() {
    uint64_t turns = 0;
    for (int quiet = 0; quiet < 4;) {
      REQUIRE(++turns < 1'000'000);
      const bool moved = turn();
      const bool has_more = uv_loop_alive(&loop_) != 0 && uv_backend_timeout(&loop_) == 0;
      quiet = moved || has_more ? 0 : quiet + 1;
    }
  }
  void wait(uint64_t ms) {
    clock_.advance(ms);
    settle();
  }
  void from_client(const Bytes& message) {
    sent_.push_back(std::make_unique<Bytes>(message));
    REQUIRE(client->begin_message(message.size()));
    client->append({}, *sent_.back());
  }
  void connect() { connect(test::socket_pair()); }
  /// The session's end of its stream, and smbd's.
  void connect(std::pair<shm::UniqueFd, shm::UniqueFd> ends) {
    from_client(smb2_test::negotiate_request({0x0302}));
    settle();
    REQUIRE(connected_);
    smbd = SmbdEnd(std::move(ends.second));
    std::exchange(connected_, {})(std::move(ends.first));
    settle();
    REQUIRE(smbd.heard.size() == 1);
    smbd.answer(smb2_test::negotiate_response(0x0302));
    settle();
  }
  void set_up() {
    from_client(smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1}, 24));
    settle();
    Bytes success =
        smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1, .flags = smb2_test::kResponse}, 8);
    smb2_test::put(success, 64, 9, 2);
    smbd.answer(success);
    settle();
    REQUIRE(session->has_session());
    smbd.heard.clear();
  }

  /// Null: it is gone.
  [[nodiscard]] fake::FakeEndpoint* server_end() { return server_end_; }

  daemon::WorkerConfig config;
  ClientSide client_side;
  std::optional<WorkerMemory> memory;
  std::unique_ptr<Session> session;
  std::optional<Transport> client;
  SmbdEnd smbd;
  std::optional<std::string> ended;
  bool clean = false;             // how it has
  std::vector<std::string> told;  // what the supervisor was

 private:
  struct Loop : uv_loop_t {
    Loop() { uv_loop_init(this); }
  };
  /// smbd's place: connected when the test says so.
  class Attempt final : public Upstream {
   public:
    explicit Attempt(Done& done) : done_(done) {}
    void start(Done done) override { done_ = std::move(done); }

   private:
    Done& done_;
  };

  bool turn() {
    bool moved = server_end_ != nullptr && server_end_->step();
    moved = (client_end_ != nullptr && client_end_->step()) || moved;
    moved = smbd.move() || moved;
    uv_run(&loop_, UV_RUN_NOWAIT);
    if (client) client->pump();
    return moved;
  }

  fake::FakeClock clock_;
  Loop loop_;
  Arena arena_;
  SlabPool receives_{arena_, 8192};
  SlabPool headers_{arena_, 4096};
  SlabPool slabs_{arena_, ExchangeHost::kSlab};
  const OpenUpstream connect_ = [this](const UpstreamRequest&) {
    return std::make_unique<Attempt>(connected_);
  };
  Budget client_budget_{1u << 30};
  Upstream::Done connected_;
  std::optional<SessionResources> resources_;
  fake::FakeEndpoint* server_end_ = nullptr;
  fake::FakeEndpoint* client_end_ = nullptr;
  std::vector<std::unique_ptr<Bytes>> sent_;
};

}  // namespace smbdirect::workers::session_test
