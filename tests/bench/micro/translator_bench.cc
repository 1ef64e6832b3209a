// SPDX-License-Identifier: MIT
// The server's RDMA-channel translator alone: one item is an RDMA-channel READ or WRITE request rewritten for
// smbd and smbd's response turned back. Payload is not touched.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "protocol/smb2/server_translator.h"
#include "tests/bench/pdu.h"

namespace smbdirect::tests::bench {

namespace {

namespace smb2 = protocol::smb2;

constexpr uint32_t kLength = 1u << 20;
constexpr ChannelInfo kChannel{.channel = 2, .offset = 0x10000, .token = 0x1234};

/// Bytes kept from a Pdu.
std::vector<std::byte> bytes_of(const Pdu& pdu) { return {pdu.view().begin(), pdu.view().end()}; }

void store(std::vector<std::byte>& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

/// A response header (MS-SMB2 2.2.1) in front of a fixed part of 16 bytes.
std::vector<std::byte> response(Command command, size_t data_bytes) {
  Pdu pdu;
  put_header(pdu, {.command = command});
  pdu.zeros(16);
  auto bytes = bytes_of(pdu);
  bytes.resize(bytes.size() + data_bytes);
  store(bytes, 16, 1, 4);  // SERVER_TO_REDIR
  store(bytes, 64, 17, 2);
  return bytes;
}

/// Lets the translator see a NEGOTIATE response of dialect 3.0.2 with MaxReadSize and MaxWriteSize 8 MiB, and
/// a session.
bool agree(smb2::ServerTranslator& translator) {
  Pdu request;
  put_header(request, {.command = Command::negotiate});
  put_negotiate(request, std::array<std::byte, 16>{});
  auto pdu = bytes_of(request);
  smb2::RewrittenRequest out;
  if (!translator.request(pdu, out)) return false;
  translator.forwarded(out.ticket);
  auto answer = response(Command::negotiate, 48);
  store(answer, 64, 65, 2);
  store(answer, 68, 0x0302, 2);
  for (const size_t at : {92, 96, 100}) store(answer, at, 8u << 20, 4);
  const auto prefix = std::span(answer).first(std::min(answer.size(), smb2::kPrefixBytes));
  if (!translator.response(prefix, answer.size()) || translator.dialect() != 0x0302) return false;
  Pdu setup;
  put_header(setup, {.command = Command::session_setup});
  setup.zeros(24);
  pdu = bytes_of(setup);
  if (!translator.request(pdu, out)) return false;
  translator.forwarded(out.ticket);
  const auto set_up = response(Command::session_setup, 0);
  return translator.response(set_up, set_up.size()) && translator.has_session();
}

void rdma_channel_pair(benchmark::State& state, Command command) {
  smb2::ServerTranslator translator({});
  if (!agree(translator)) return state.SkipWithError("the negotiation was refused");
  const bool read = command == Command::read;
  Pdu built;
  put_header(built, {.command = command, .credit_charge = 16});
  if (read) {
    put_read(built, FileId{}, 0, kLength, kChannel);
  } else {
    put_write(built, FileId{}, 0, kLength, kChannel);
  }
  const auto original = bytes_of(built);
  auto answer = response(command, read ? smb2::kPrefixBytes : 1);
  store(answer, 66, read ? 80 : 0, 1);
  store(answer, 68, kLength, 4);
  const uint64_t total = read ? 80 + kLength : answer.size();
  const auto prefix = std::span(answer).first(std::min<uint64_t>(total, smb2::kPrefixBytes));

  smb2::RewrittenRequest out;
  auto pdu = original;
  uint64_t message_id = 1;
  for (auto _ : state) {
    std::copy(original.begin(), original.end(), pdu.begin());
    store(pdu, 24, message_id, 8);
    store(answer, 24, message_id, 8);
    message_id += 16;
    out.clear();
    if (!translator.request(pdu, out)) return state.SkipWithError("the request was refused");
    benchmark::DoNotOptimize(out.total);
    translator.forwarded(out.ticket);
    const auto plan = translator.response(prefix, total);
    if (!plan || (plan->kind == smb2::ResponsePlan::Kind::place) != read) {
      return state.SkipWithError("the response was not turned back");
    }
    auto length = plan->data_length;  // no constant: libbenchmark 1.8 deprecates that
    benchmark::DoNotOptimize(length);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(rdma_channel_pair, read, Command::read);
BENCHMARK_CAPTURE(rdma_channel_pair, write, Command::write);

}  // namespace

}  // namespace smbdirect::tests::bench
