// SPDX-License-Identifier: MIT
#include "tests/unit/workers/session/exchange_host.h"

#include <algorithm>
#include <array>
#include <sys/socket.h>
#include <utility>

namespace smbdirect::workers::session_test {

void ExchangeHost::settle() {
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

void ExchangeHost::wait(uint64_t ms) {
  pass(ms);
  if (broken.empty()) exchange->resume();
  settle();
}

void ExchangeHost::append(std::span<const std::byte> bytes) {
  sent_.push_back(std::make_unique<Bytes>(bytes.begin(), bytes.end()));
  client->append({}, *sent_.back());
}

smb2::BufferDescriptor ExchangeHost::expose(std::span<std::byte> memory, fabric::Access access) {
  const auto at = client->expose(memory, access);
  REQUIRE(at);
  return {.offset = at->offset, .token = at->token, .length = static_cast<uint32_t>(memory.size())};
}

ExchangeHost::ExchangeHost(const Setup& setup) : payload(setup.payload, &connection_), setup_(setup) {
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

void ExchangeHost::begin(std::unique_ptr<Exchange> made) {
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

void ExchangeHost::end(const std::function<void()>& others) {
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

void ExchangeHost::on_progress() {
  exchange->resume();
  (void)flush();
  exchange->trim();
  progress_ = true;
}

void ExchangeHost::on_broken(std::string why) {
  CHECK(broken.empty());
  broken = std::move(why);
}

void ExchangeHost::pass(uint64_t ms) {
  clock_.advance(ms);
  uv_update_time(&loop_);
  uv_run(&loop_, UV_RUN_NOWAIT);
}

bool ExchangeHost::read_upstream() {
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

bool ExchangeHost::flush() {
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

}  // namespace smbdirect::workers::session_test
