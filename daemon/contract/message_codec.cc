// SPDX-License-Identifier: MIT
#include "daemon/contract/message_codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <string>
#include <utility>

namespace smbdirect::daemon {
namespace {

constexpr uint32_t kMagic = 0x31434453;  // "SDC1" on the wire
constexpr uint16_t kVersion = 4;

constexpr size_t kTypeAt = 6;
constexpr size_t kGenerationAt = 8;
constexpr uint16_t kSupervisors = 64;  // its messages' numbers, from here on

/// Ascending: none stands for two.
template <class... Rows>
consteval bool numbered(uint16_t first, uint16_t end, std::variant<Rows...>* /*list*/) {
  const std::array numbers{Rows::kType...};
  return std::ranges::adjacent_find(numbers, std::ranges::greater_equal{}) == numbers.end() &&
         numbers.front() >= first && numbers.back() < end;
}
static_assert(numbered(1, kSupervisors, static_cast<FromWorker*>(nullptr)));
static_assert(numbered(kSupervisors, UINT16_MAX, static_cast<FromSupervisor*>(nullptr)));

template <class Said>
constexpr const char* kSpeaker = std::is_same_v<Said, FromWorker> ? "a worker" : "the supervisor";

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

/// Lays fields out (Row::lay).
struct Writer {
  MessageBytes& bytes;

  template <class T>
  void number(size_t at, T value) {
    put<T>(bytes, at, value);
  }
  template <class E>
  void choice(size_t at, const char* /*what*/, E value, E /*largest*/) {
    put<std::underlying_type_t<E>>(bytes, at, std::to_underlying(value));
  }
  void octets(size_t at, std::span<const std::byte> value) { std::ranges::copy(value, &bytes[at]); }
  void address(size_t at, const sockaddr_storage& value) { put_address(bytes, at, value); }
};

/// Picks fields up from where they are laid.
struct Reader {
  std::span<const std::byte> bytes;
  std::string wrong{};  // what the first one is that means nothing

  template <class T>
  void number(size_t at, T& value) {
    value = take<T>(bytes, at);
  }
  template <class E>
  void choice(size_t at, const char* what, E& value, E largest) {
    const auto number = take<std::underlying_type_t<E>>(bytes, at);
    if (number <= std::to_underlying(largest)) {
      value = E(number);
    } else if (wrong.empty()) {
      wrong = std::string(what) + " " + std::to_string(number) + ", which is not a valid value";
    }
  }
  void octets(size_t at, std::span<std::byte> value) {
    std::ranges::copy(bytes.subspan(at, value.size()), value.begin());
  }
  void address(size_t at, sockaddr_storage& value) {
    if (!take_address(bytes, at, value) && wrong.empty()) wrong = "an unknown address family";
  }
};

std::unexpected<shm::Error> refuse(std::string what) {
  return shm::fail("control message: " + std::move(what), EPROTO);
}

template <class Said>
MessageBytes encode(uint32_t generation, const Said& said) {
  MessageBytes bytes{};
  put<uint32_t>(bytes, 0, kMagic);
  put<uint16_t>(bytes, 4, kVersion);
  put<uint32_t>(bytes, kGenerationAt, generation);
  std::visit(
      [&]<class Row>(const Row& row) {
        put<uint16_t>(bytes, kTypeAt, Row::kType);
        Writer writer{bytes};
        Row::lay(row, writer);
      },
      said);
  return bytes;
}

/// Calls of_row with a row of the list that has this number; false: none has.
template <class... Rows>
bool find_row(uint16_t type, std::variant<Rows...>* /*list*/, auto&& of_row) {
  return ((Rows::kType == type && (of_row(Rows{}), true)) || ...);
}

template <class Said>
shm::Result<Said> read_row(uint16_t type, std::span<const std::byte> bytes) {
  using Other = std::conditional_t<std::is_same_v<Said, FromWorker>, FromSupervisor, FromWorker>;
  shm::Result<Said> read = refuse("unknown type " + std::to_string(type));
  find_row(type, static_cast<Other*>(nullptr), [&]<class Row>(const Row& /*row*/) {
    read = refuse("'" + std::string(Row::kName) + "', which only " + kSpeaker<Other> + " sends");
  });
  find_row(type, static_cast<Said*>(nullptr), [&]<class Row>(Row row) {
    Reader reader{bytes};
    Row::lay(row, reader);
    read = reader.wrong.empty() ? shm::Result<Said>(row)
                                : refuse("'" + std::string(Row::kName) + "' with " + reader.wrong);
  });
  return read;
}

}  // namespace

MessageBytes encode_message(uint32_t generation, const FromWorker& message) {
  return encode(generation, message);
}
MessageBytes encode_message(uint32_t generation, const FromSupervisor& message) {
  return encode(generation, message);
}

template <class Said>
shm::Result<Decoded<Said>> decode_message(std::span<const std::byte> bytes) {
  if (bytes.size() != kMessageSize) {
    return refuse(std::to_string(bytes.size()) + " bytes instead of " + std::to_string(kMessageSize));
  }
  if (take<uint32_t>(bytes, 0) != kMagic) return refuse("wrong magic");
  if (const auto version = take<uint16_t>(bytes, 4); version != kVersion) {
    return refuse("version " + std::to_string(version) + " instead of " + std::to_string(kVersion) +
                  ": supervisor and worker are of different releases");
  }
  auto message = read_row<Said>(take<uint16_t>(bytes, kTypeAt), bytes);
  if (!message) return std::unexpected(message.error());
  const auto generation = take<uint32_t>(bytes, kGenerationAt);
  // What is not the message's must be zero: there is one encoding of a message, this one.
  if (!std::ranges::equal(encode_message(generation, *message), bytes)) {
    return refuse("'" + std::string(message_name(*message)) + "' with fields that do not belong to it");
  }
  return Decoded<Said>{generation, *message};
}

template shm::Result<Decoded<FromWorker>> decode_message(std::span<const std::byte> bytes);
template shm::Result<Decoded<FromSupervisor>> decode_message(std::span<const std::byte> bytes);

}  // namespace smbdirect::daemon
