// SPDX-License-Identifier: MIT
#include "daemon/contract/message_codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>

namespace smbdirect::daemon {
namespace {

constexpr uint32_t kMagic = 0x31434453;  // "SDC1" on the wire
constexpr uint16_t kVersion = 4;

constexpr size_t kPeerAt = 40;
constexpr size_t kLocalAt = 64;
constexpr size_t kFabricAt = 32;
constexpr size_t kPrivateDataAt = 88;

using Type = MessageType;
constexpr std::array kTable{
    MessageFields{.type = Type::ready, .name = "ready"},
    MessageFields{.type = Type::take, .name = "take", .offer = true},
    MessageFields{.type = Type::refuse, .name = "refuse", .offer = true},
    MessageFields{.type = Type::closed, .name = "closed", .offer = true},
    MessageFields{.type = Type::pong, .name = "pong", .sequence = true},
    MessageFields{.type = Type::want_smbd, .name = "want_smbd", .offer = true},
    MessageFields{.type = Type::claim, .name = "claim", .offer = true, .guid = true},
    MessageFields{.type = Type::channel_up, .name = "channel_up", .offer = true, .process = true},
    MessageFields{.type = Type::scoreboard, .name = "scoreboard", .descriptor = true},
    MessageFields{.type = Type::reported, .name = "reported", .sequence = true},
    MessageFields{.type = Type::want_process, .name = "want_process", .offer = true, .guid = true},
    MessageFields{.type = Type::pass, .name = "pass", .offer = true, .descriptor = true},
    MessageFields{.type = Type::not_passed, .name = "not_passed", .sequence = true},
    MessageFields{.type = Type::channel_down, .name = "channel_down", .offer = true},
    MessageFields{.type = Type::session_up, .name = "session_up", .offer = true},
    MessageFields{.type = Type::offer, .name = "offer", .offer = true, .addresses = true},
    MessageFields{.type = Type::grant, .name = "grant", .offer = true, .descriptor = true},
    MessageFields{.type = Type::ping, .name = "ping", .sequence = true},
    MessageFields{.type = Type::drain, .name = "drain", .deadline = true},
    MessageFields{.type = Type::stop, .name = "stop", .deadline = true},
    MessageFields{.type = Type::dump, .name = "dump"},
    MessageFields{.type = Type::smbd, .name = "smbd", .offer = true, .descriptor = true},
    MessageFields{.type = Type::no_smbd, .name = "no_smbd", .offer = true, .error = true},
    MessageFields{.type = Type::report, .name = "report", .sequence = true, .descriptor = true},
    MessageFields{.type = Type::registry, .name = "registry", .descriptor = true},
    MessageFields{.type = Type::peer_listener, .name = "peer_listener", .descriptor = true},
    MessageFields{.type = Type::claimed,
                  .name = "claimed",
                  .offer = true,
                  .error = true,
                  .largest_error = uint32_t(ClaimOutcome::owner)},
    MessageFields{
        .type = Type::pass_to, .name = "pass_to", .sequence = true, .process = true, .descriptor = true},
    MessageFields{.type = Type::end,
                  .name = "end",
                  .offer = true,
                  .error = true,
                  .largest_error = uint32_t(EndReason::place_needed)},
};

template <class T>
void put(MessageBytes& bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[at + i] = std::byte(uint64_t(value) >> (8 * i));
}

template <class T>
T take(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= uint64_t(bytes[at + i]) << (8 * i);
  return T(value);
}

/// A family that is neither IPv4 nor IPv6 is written as none.
void put_address(MessageBytes& bytes, size_t at, const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    put<uint16_t>(bytes, at, 4);
    put<uint16_t>(bytes, at + 2, ntohs(in.sin_port));
    std::memcpy(&bytes[at + 8], &in.sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    put<uint16_t>(bytes, at, 6);
    put<uint16_t>(bytes, at + 2, ntohs(in.sin6_port));
    put<uint32_t>(bytes, at + 4, in.sin6_scope_id);
    std::memcpy(&bytes[at + 8], &in.sin6_addr, 16);
  }
}

bool take_address(std::span<const std::byte> bytes, size_t at, sockaddr_storage& address) {
  const auto family = take<uint16_t>(bytes, at);
  if (family == 4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(take<uint16_t>(bytes, at + 2));
    std::memcpy(&in.sin_addr, &bytes[at + 8], 4);
    std::memcpy(&address, &in, sizeof in);
  } else if (family == 6) {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(take<uint16_t>(bytes, at + 2));
    in.sin6_scope_id = take<uint32_t>(bytes, at + 4);
    std::memcpy(&in.sin6_addr, &bytes[at + 8], 16);
    std::memcpy(&address, &in, sizeof in);
  }
  return family == 0 || family == 4 || family == 6;
}

void put_request(MessageBytes& bytes, const CmRequest& request) {
  put<uint8_t>(bytes, 33, request.responder_resources);
  put<uint8_t>(bytes, 34, request.initiator_depth);
  put<uint8_t>(bytes, 35, request.private_data_length);
  put<uint32_t>(bytes, 36, request.id);
  std::ranges::copy(request.private_data, &bytes[kPrivateDataAt]);
}

CmRequest take_request(std::span<const std::byte> bytes) {
  CmRequest request;
  request.responder_resources = take<uint8_t>(bytes, 33);
  request.initiator_depth = take<uint8_t>(bytes, 34);
  request.private_data_length = take<uint8_t>(bytes, 35);
  request.id = take<uint32_t>(bytes, 36);
  std::ranges::copy(bytes.subspan(kPrivateDataAt, CmRequest::kPrivateBytes), request.private_data.begin());
  return request;
}

std::unexpected<shm::Error> refuse(std::string what) {
  return shm::fail("control message: " + std::move(what), EPROTO);
}

}  // namespace

std::span<const MessageFields> message_table() { return kTable; }

const MessageFields* message_fields(MessageType type) {
  const auto* found =
      std::find_if(kTable.begin(), kTable.end(), [&](const auto& r) { return r.type == type; });
  return found == kTable.end() ? nullptr : found;
}

std::string_view message_name(MessageType type) {
  const MessageFields* fields = message_fields(type);
  return fields == nullptr ? std::string_view{} : fields->name;
}

MessageBytes encode_message(const Message& message) {
  MessageBytes bytes{};
  put<uint32_t>(bytes, 0, kMagic);
  put<uint16_t>(bytes, 4, kVersion);
  put<uint16_t>(bytes, 6, uint16_t(message.type));
  put<uint32_t>(bytes, 8, message.generation);
  const MessageFields* fields = message_fields(message.type);
  if (fields == nullptr) return bytes;
  if (fields->deadline) put<uint32_t>(bytes, 12, message.deadline_ms);
  if (fields->error) put<uint32_t>(bytes, 12, message.error);
  if (fields->process) put<uint32_t>(bytes, 12, message.process);
  if (fields->offer) put<uint64_t>(bytes, 16, message.offer);
  if (fields->sequence) put<uint64_t>(bytes, 24, message.sequence);
  if (fields->guid) std::ranges::copy(message.guid, &bytes[kPeerAt]);
  if (fields->addresses) {
    put<uint8_t>(bytes, kFabricAt, uint8_t(message.fabric));
    put_address(bytes, kPeerAt, message.peer);
    put_address(bytes, kLocalAt, message.local);
    if (message.fabric == Fabric::verbs) put_request(bytes, message.cm);
  }
  return bytes;
}

shm::Result<Message> decode_message(std::span<const std::byte> bytes) {
  if (bytes.size() != kMessageSize) {
    return refuse(std::to_string(bytes.size()) + " bytes instead of " + std::to_string(kMessageSize));
  }
  if (take<uint32_t>(bytes, 0) != kMagic) return refuse("wrong magic");
  if (const auto version = take<uint16_t>(bytes, 4); version != kVersion) {
    return refuse("version " + std::to_string(version) + " instead of " + std::to_string(kVersion) +
                  ": supervisor and worker are of different releases");
  }
  Message message;
  message.type = MessageType(take<uint16_t>(bytes, 6));
  const MessageFields* fields = message_fields(message.type);
  if (fields == nullptr) return refuse("unknown type " + std::to_string(uint16_t(message.type)));
  message.generation = take<uint32_t>(bytes, 8);
  if (fields->deadline) message.deadline_ms = take<uint32_t>(bytes, 12);
  if (fields->error) message.error = take<uint32_t>(bytes, 12);
  if (message.error > fields->largest_error) {
    return refuse("'" + std::string(fields->name) + "' with " + std::to_string(message.error) +
                  ", which means nothing there");
  }
  if (fields->process) message.process = take<uint32_t>(bytes, 12);
  if (fields->offer) message.offer = take<uint64_t>(bytes, 16);
  if (fields->sequence) message.sequence = take<uint64_t>(bytes, 24);
  if (fields->guid) std::ranges::copy(bytes.subspan(kPeerAt, message.guid.size()), message.guid.begin());
  if (fields->addresses) {
    const auto fabric = take<uint8_t>(bytes, kFabricAt);
    if (fabric > uint8_t(Fabric::verbs)) return refuse("unknown fabric " + std::to_string(fabric));
    message.fabric = Fabric(fabric);
    if (!take_address(bytes, kPeerAt, message.peer) || !take_address(bytes, kLocalAt, message.local)) {
      return refuse("unknown address family");
    }
    if (message.fabric == Fabric::verbs) message.cm = take_request(bytes);
  }
  // What the type does not carry must be zero: there is one encoding of a message, this one.
  if (!std::ranges::equal(encode_message(message), bytes)) {
    return refuse("'" + std::string(fields->name) + "' with fields that do not belong to it");
  }
  return message;
}

}  // namespace smbdirect::daemon
