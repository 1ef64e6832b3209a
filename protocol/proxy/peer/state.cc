// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/state.h"

#include <algorithm>
#include <functional>

#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::proxy::peer {
namespace {

namespace wire = smb2::wire;

constexpr uint32_t kMagic = 0x43504453;  // "SDPC"
constexpr uint32_t kStateVersion = 1;
// magic, version, bytes of facts, number of operations (u32 each), bytes unread, unsent, of the first unsent
// frame (u64 each); then those parts in the order facts, unread, unsent, operations.
constexpr size_t kFixedBytes = 4 * 4 + 3 * 8;
constexpr size_t kIdBytes = 8;

using Bytes = std::span<const std::byte>;

/// All of `bytes` is frames of that sender's, and of no other types than these; `partial`: the last one may
/// be incomplete.
bool are_frames(Bytes bytes, Sender sender, std::initializer_list<FrameType> types, bool partial) {
  while (!bytes.empty()) {
    if (bytes.size() < kFrameHeaderBytes) return partial;
    const auto header = parse_frame_header(bytes.first<kFrameHeaderBytes>(), sender);
    if (!header || std::ranges::find(types, header->type) == types.end()) return false;
    const size_t whole = kFrameHeaderBytes + header->length;
    if (bytes.size() < whole) return partial;
    bytes = bytes.subspan(whole);
  }
  return true;
}

/// The next `size` bytes, if there are so many.
std::optional<Bytes> take(Bytes& rest, uint64_t size) {
  if (size > rest.size()) return std::nullopt;
  const Bytes taken = rest.first(size);
  rest = rest.subspan(size);
  return taken;
}

}  // namespace

std::vector<std::byte> encode_state(const State& state) {
  const std::vector<std::byte> facts = encode_facts(state.facts);
  std::vector<std::byte> bytes(kFixedBytes + facts.size() + state.unread.size() + state.unsent.size() +
                               state.operations.size() * kIdBytes);
  const std::span<std::byte> all(bytes);
  wire::store(all, 0, kMagic);
  wire::store(all, 4, kStateVersion);
  wire::store(all, 8, static_cast<uint32_t>(facts.size()));
  wire::store(all, 12, static_cast<uint32_t>(state.operations.size()));
  wire::store(all, 16, uint64_t{state.unread.size()});
  wire::store(all, 24, uint64_t{state.unsent.size()});
  wire::store(all, 32, uint64_t{state.first_frame});
  auto at = bytes.begin() + kFixedBytes;
  for (const Bytes part : {Bytes(facts), state.unread, state.unsent}) at = std::ranges::copy(part, at).out;
  size_t offset = static_cast<size_t>(at - bytes.begin());
  for (const uint64_t id : state.operations) {
    wire::store(all, offset, id);
    offset += kIdBytes;
  }
  return bytes;
}

std::optional<State> parse_state(Bytes bytes) {
  if (bytes.size() < kFixedBytes || wire::load32(bytes, 0) != kMagic ||
      wire::load32(bytes, 4) != kStateVersion) {
    return std::nullopt;
  }
  const size_t operations = wire::load32(bytes, 12);
  Bytes rest = bytes.subspan(kFixedBytes);
  const auto facts_bytes = take(rest, wire::load32(bytes, 8));
  const auto unread = take(rest, wire::load64(bytes, 16));
  const auto unsent = take(rest, wire::load64(bytes, 24));
  const uint64_t first_frame = wire::load64(bytes, 32);
  if (!facts_bytes || !unread || !unsent || rest.size() != operations * kIdBytes) return std::nullopt;
  auto facts = parse_facts(*facts_bytes);
  if (!facts || operations > facts->max_operations) return std::nullopt;
  // FACTS was the first frame, and CHANNEL would be without its descriptor.
  if (!are_frames(*unread, Sender::worker, {FrameType::pdu, FrameType::done}, true)) return std::nullopt;
  if (first_frame > unsent->size() || (first_frame == 0) != unsent->empty() ||
      !are_frames(unsent->subspan(first_frame), Sender::peer,
                  {FrameType::attached, FrameType::reply, FrameType::rdma_read, FrameType::rdma_write},
                  false)) {
    return std::nullopt;
  }
  State state{.facts = std::move(*facts),
              .unread = *unread,
              .unsent = *unsent,
              .first_frame = first_frame,
              .operations = {}};
  state.operations.reserve(operations);
  for (size_t i = 0; i < operations; ++i) state.operations.push_back(wire::load64(rest, i * kIdBytes));
  if (std::ranges::adjacent_find(state.operations, std::greater_equal{}) != state.operations.end()) {
    return std::nullopt;
  }
  return state;
}

}  // namespace smbdirect::protocol::proxy::peer
