// SPDX-License-Identifier: MIT
// The SMB Direct engine alone: two of them exchanging upper-layer messages, payload not moved. One item is
// one SMB Direct message, header encoded on one side and parsed on the other.
#include <array>
#include <cstring>

#include <benchmark/benchmark.h>

#include "protocol/smbdirect/engine.h"

namespace smbdirect::tests::bench {

namespace {

namespace smb_direct = protocol::smb_direct;

constexpr size_t kMessage = 8192;

void post(smb_direct::Engine& engine) { engine.receives_posted(engine.receives_wanted()); }

/// Moves what `from` wants to send; returns the number of messages, or -1 after a fault.
int64_t drain(smb_direct::Engine& from, smb_direct::Engine& to, uint64_t& left,
              std::array<std::byte, kMessage>& wire) {
  int64_t messages = 0;
  post(from);
  while (const auto out = from.next(left, 0)) {
    std::memcpy(wire.data(), out->header.data(), out->header_size);
    left -= out->payload;
    ++messages;
    if (!to.receive(std::span(wire).first(out->header_size + out->payload), 0)) return -1;
    post(from);
    post(to);
  }
  return messages;
}

/// Exchanges until both are silent.
int64_t settle(smb_direct::Engine& a, smb_direct::Engine& b, uint64_t& left,
               std::array<std::byte, kMessage>& wire) {
  uint64_t none = 0;
  int64_t messages = 0;
  for (int64_t now = 1; now > 0; messages += now) {
    const int64_t there = drain(a, b, left, wire);
    const int64_t back = drain(b, a, none, wire);
    if (there < 0 || back < 0) return -1;
    now = there + back;
  }
  return messages;
}

void engine_messages(benchmark::State& state) {
  smb_direct::Engine client(smb_direct::Role::active, {}, 0);
  smb_direct::Engine server(smb_direct::Role::passive, {}, 0);
  std::array<std::byte, kMessage> wire{};
  uint64_t left = 0;
  post(server);
  if (settle(client, server, left, wire) < 0) return state.SkipWithError("the negotiation failed");
  const auto bytes = static_cast<uint64_t>(state.range(0));
  int64_t messages = 0;
  for (auto _ : state) {
    left = bytes;
    if (!client.begin(bytes)) return state.SkipWithError("the message was refused");
    const int64_t moved = settle(client, server, left, wire);
    if (moved < 0 || left != 0) return state.SkipWithError("the message did not get through");
    messages += moved;
  }
  state.SetItemsProcessed(messages);
}
BENCHMARK(engine_messages)->Arg(128)->Arg(1 << 20);

}  // namespace

}  // namespace smbdirect::tests::bench
