// SPDX-License-Identifier: MIT
// Clients that say nothing, or not enough: the server does not hear of them, and others are served.
#include <algorithm>
#include <chrono>
#include <deque>

#include <doctest/doctest.h>

#include "rig.h"

namespace smbdirect::workers::connect::test {

namespace {

bool echoes(Client& client) {
  client.send_pdu(client.echo());
  const auto answer = client.receive_pdu();
  return answer && status_of(*answer) == 0;
}

Bytes framed(const Bytes& pdu) {
  Bytes out(4 + pdu.size());
  std::ranges::copy(protocol::smb2::encode_nbt(static_cast<uint32_t>(pdu.size())), out.begin());
  std::ranges::copy(pdu, out.begin() + 4);
  return out;
}

}  // namespace

TEST_CASE("the server hears of a client when its first message is whole") {
  Rig rig({});
  bool served = false;
  size_t most = 0;
  bool whole = false;
  rig.run({[&](Client& client) {
            const Bytes bytes = framed(client.negotiate());
            for (size_t at = 0; at + 1 < bytes.size(); ++at) client.send(std::span(bytes).subspan(at, 1));
            // Another client's round says that these were there long ago.
            Client other(rig.client_address());
            other.send(std::span(bytes).first(50));
            other.half_close();
            CHECK_FALSE(other.receive_pdu());
            whole = true;
            client.send(std::span(bytes).last(1));
            served = client.receive_pdu() && echoes(client);
          }},
          [&] {
            if (!whole) most = std::max(most, rig.server().open());
          });
  CHECK(most == 0);
  CHECK(served);
}

TEST_CASE("a client that says nothing is closed in time, and one that goes on as it likes is not") {
  Rig rig({});
  const auto began = std::chrono::steady_clock::now();
  bool ended = false;
  bool served = false;
  rig.run([&](Client& client) {
    client.log_in();
    Client silent(rig.client_address());
    ended = !silent.receive_pdu();
    served = echoes(client);
  });
  CHECK(ended);
  CHECK(served);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(20));
}

TEST_CASE("a first request that is no NEGOTIATE ends the connection, before it is whole") {
  Rig rig({});
  bool ended = false;
  rig.run([&](Client& client) {
    const Bytes bytes = framed(client.write(0, Bytes(100'000)));
    client.send(std::span(bytes).first(1000));
    ended = !client.receive_pdu();
  });
  CHECK(ended);
  CHECK(rig.counters().connections == 0);
}

TEST_CASE("clients that said NEGOTIATE and no more make room for others") {
  Rig rig({});
  bool served = false;
  size_t most = 0;
  rig.run({[&](Client& first) {
            first.log_in();
            std::deque<Client> quiet;
            for (size_t i = 0; i < 2 * Places::kMost; ++i) {
              Client& client = quiet.emplace_back(rig.client_address());
              client.send_pdu(client.negotiate());
            }
            Client late(rig.client_address());
            late.log_in();
            served = echoes(late) && echoes(first);
          }},
          [&] { most = std::max(most, rig.server().open()); });
  CHECK(served);
  CHECK(most <= 2 * Places::kMost);  // those that go are seen to end a little later
}

TEST_CASE("clients that are let in need no place") {
  Rig rig({});
  size_t served = 0;
  rig.run([&](Client&) {
    std::deque<Client> all;
    for (size_t i = 0; i < 2 * Places::kMost; ++i) all.emplace_back(rig.client_address()).log_in();
    for (Client& client : all) served += echoes(client) ? 1 : 0;
  });
  CHECK(served == 2 * Places::kMost);
}

TEST_CASE("clients that say nothing do not keep others out by --max-connections") {
  RigSettings settings;
  settings.options.max_connections = 3;
  Rig rig(settings);
  bool served = false;
  rig.run([&](Client&) {
    std::deque<Client> silent;
    for (int i = 0; i < 20; ++i) silent.emplace_back(rig.client_address());
    Client late(rig.client_address());
    late.log_in();
    served = echoes(late);
  });
  CHECK(served);
}

}  // namespace smbdirect::workers::connect::test
