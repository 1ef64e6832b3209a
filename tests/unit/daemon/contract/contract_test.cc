// SPDX-License-Identifier: MIT
#include "daemon/contract/contract.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/contract/message_codec.h"
#include "shm/base/socket_address.h"
#include "tests/unit/unix_sockets.h"

using namespace smbdirect::daemon;
using namespace smbdirect::test;  // NOLINT: of the helpers
namespace shm = smbdirect::shm;

namespace {

/// The supervisor's end and a worker's.
struct Pair {
  shm::UniqueFd a, b;
  Pair() { std::tie(a, b) = socket_pair(SOCK_SEQPACKET); }
};

void send_bytes(const shm::UniqueFd& to, std::span<const std::byte> bytes,
                const std::vector<int>& descriptors = {}) {
  REQUIRE(send_with(to.get(), bytes, descriptors) == ssize_t(bytes.size()));
}

Message full_message(MessageType type) {
  Message message;
  message.type = type;
  message.generation = 7;
  message.offer = 0x1122334455667788;
  message.sequence = 99;
  message.deadline_ms = 5000;
  message.error = std::min(111U, message_fields(type)->largest_error);
  for (size_t i = 0; i < message.guid.size(); ++i) message.guid[i] = std::byte(0xa0 + i);
  message.fabric = Fabric::verbs;
  message.peer = *shm::address_from_text("192.0.2.1", 40000);
  message.local = *shm::address_from_text("2001:db8::1", 5445);
  message.cm = {.id = 0xA1B2C3D4, .responder_resources = 32, .initiator_depth = 1, .private_data_length = 9};
  message.cm.private_data.fill(std::byte{0x5C});
  return message;
}

void check_same(const Message& got, const Message& sent, const MessageFields& fields) {
  CHECK(got.type == sent.type);
  CHECK(got.generation == sent.generation);
  CHECK(got.offer == (fields.offer ? sent.offer : 0));
  CHECK(got.sequence == (fields.sequence ? sent.sequence : 0));
  CHECK(got.deadline_ms == (fields.deadline ? sent.deadline_ms : 0));
  CHECK(got.error == (fields.error ? sent.error : 0));
  CHECK(got.guid == (fields.guid ? sent.guid : shm::Guid{}));
  CHECK(got.fabric == (fields.addresses ? sent.fabric : Fabric{}));
  if (fields.addresses) {
    CHECK(shm::address_text(got.peer) == shm::address_text(sent.peer));
    CHECK(shm::address_text(got.local) == shm::address_text(sent.local));
    CHECK(got.cm.id == sent.cm.id);
    CHECK(got.cm.responder_resources == 32);
    CHECK(got.cm.initiator_depth == 1);
    CHECK(got.cm.private_data_length == 9);
    CHECK(got.cm.private_data == sent.cm.private_data);
  } else {
    CHECK(got.peer.ss_family == AF_UNSPEC);
    CHECK(got.local.ss_family == AF_UNSPEC);
  }
}

}  // namespace

TEST_CASE("every message arrives as it was sent, with the fields of its type") {
  const Pair pair;
  CHECK(message_table().size() == 29);
  for (const MessageFields& fields : message_table()) {
    INFO(std::string(fields.name));
    const Message sent = full_message(fields.type);
    const shm::UniqueFd passed(fields.descriptor ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1);
    REQUIRE(send_message(pair.a.get(), sent, passed.get()));
    const auto received = receive_message(pair.b.get());
    REQUIRE(received);
    REQUIRE(*received);
    check_same((*received)->message, sent, fields);
    CHECK((*received)->descriptor.valid() == fields.descriptor);
    if (fields.descriptor) {
      CHECK((*received)->descriptor.get() != passed.get());
      CHECK((fcntl((*received)->descriptor.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
  }
  CHECK_FALSE(receive_message(pair.b.get()).value());  // nothing more
}

TEST_CASE("an outcome or a reason that is none of those there are is refused") {
  for (const MessageType type : {MessageType::claimed, MessageType::end}) {
    Message message = full_message(type);
    const MessageFields& fields = *message_fields(type);
    CAPTURE(std::string(fields.name));
    message.error = fields.largest_error;
    CHECK(decode_message(encode_message(message)));
    message.error = fields.largest_error + 1;
    const auto refused = decode_message(encode_message(message));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find("means nothing there") != std::string::npos);
  }
}

TEST_CASE("the bytes of a message are what the codec's header says") {
  Message message = full_message(MessageType::offer);
  const MessageBytes bytes = encode_message(message);
  const auto at = [&](size_t i) { return unsigned(bytes[i]); };
  CHECK(std::memcmp(bytes.data(), "SDC1", 4) == 0);
  CHECK((at(4) == 4 && at(5) == 0));
  CHECK((at(6) == 64 && at(7) == 0));
  CHECK(at(8) == 7);
  CHECK((at(16) == 0x88 && at(23) == 0x11));
  CHECK(at(32) == 1);
  CHECK((at(33) == 32 && at(34) == 1 && at(35) == 9));
  CHECK((at(36) == 0xD4 && at(39) == 0xA1));
  CHECK((at(88) == 0x5C && at(95) == 0x5C));
  CHECK((at(40) == 4 && at(42) == (40000 & 0xff) && at(43) == 40000 >> 8));
  CHECK((at(48) == 192 && at(51) == 1 && at(52) == 0));
  CHECK((at(64) == 6 && at(72) == 0x20 && at(87) == 1));
}

TEST_CASE("malformed datagrams are refused, every one, and leave no descriptor behind") {
  Message iwarp_offer = full_message(MessageType::offer);
  iwarp_offer.fabric = Fabric::iwarp;
  const MessageBytes good = encode_message(iwarp_offer);
  const auto changed = [&](size_t at, unsigned value) {
    MessageBytes bytes = good;
    bytes[at] = std::byte(value);
    return std::vector(bytes.begin(), bytes.end());
  };
  struct Case {
    const char* name;
    std::vector<std::byte> bytes;
    const char* says;
  };
  const MessageBytes take = encode_message(full_message(MessageType::take));
  auto take_with_sequence = std::vector(take.begin(), take.end());
  take_with_sequence[24] = std::byte(1);
  const Case cases[] = {
      {"short", std::vector(good.begin(), good.end() - 1), "95 bytes instead of 96"},
      {"one byte", std::vector(good.begin(), good.begin() + 1), "1 bytes instead of 96"},
      {"magic", changed(0, 0), "magic"},
      {"version", changed(4, 2), "different releases"},
      {"type 0", changed(6, 0), "unknown type 0"},
      {"type 16", changed(6, 16), "unknown type 16"},
      {"type 63", changed(6, 63), "unknown type 63"},
      {"type 78", changed(6, 78), "unknown type 78"},
      {"type high", changed(7, 1), "unknown type"},
      {"deadline in offer", changed(12, 1), "do not belong"},
      {"sequence in offer", changed(31, 1), "do not belong"},
      {"fabric", changed(32, 2), "unknown fabric 2"},
      {"request in an iwarp offer", changed(39, 1), "do not belong"},
      {"private data in an iwarp offer", changed(95, 1), "do not belong"},
      {"family", changed(40, 5), "unknown address family"},
      {"second family", changed(64, 2), "unknown address family"},
      {"IPv4 with scope", changed(44, 1), "do not belong"},
      {"IPv4 with 5 bytes", changed(52, 1), "do not belong"},
      {"take with sequence", take_with_sequence, "do not belong"},
  };
  const size_t before = open_descriptors();
  for (const Case& one : cases) {
    INFO(one.name);
    CHECK_FALSE(decode_message(one.bytes));
    for (const bool with_descriptor : {false, true}) {
      const Pair pair;
      send_bytes(pair.a, one.bytes, with_descriptor ? std::vector{0} : std::vector<int>{});
      const auto received = receive_message(pair.b.get());
      REQUIRE_FALSE(received);
      CHECK(received.error().system_errno == EPROTO);
      CHECK_MESSAGE(received.error().what.find(one.says) != std::string::npos, received.error().what);
    }
  }
  const Pair pair;
  send_bytes(pair.a, std::vector(kMessageSize + 1, std::byte(0)));
  CHECK(receive_message(pair.b.get()).error().what.find("97 bytes instead of 96") != std::string::npos);
  send_bytes(pair.a, std::vector(100'000, std::byte(0)), {0});
  CHECK(receive_message(pair.b.get()).error().what.find("too long") != std::string::npos);
  CHECK(open_descriptors() == before + 2);  // the pair
}

TEST_CASE("a descriptor comes with a grant, one, and with nothing else") {
  const size_t before = open_descriptors();
  const auto grant = encode_message(full_message(MessageType::grant));
  const auto take = encode_message(full_message(MessageType::take));
  const Pair pair;
  const auto refused = [&](std::span<const std::byte> bytes, const std::vector<int>& fds, const char* says) {
    send_bytes(pair.a, bytes, fds);
    const auto received = receive_message(pair.b.get());
    REQUIRE_FALSE(received);
    CHECK(received.error().system_errno == EPROTO);
    CHECK_MESSAGE(received.error().what.find(says) != std::string::npos, received.error().what);
  };
  refused(grant, {}, "0 descriptors instead of 1");
  refused(grant, {0, 0}, "2 descriptors instead of 1");
  refused(take, {0}, "1 descriptors instead of 0");
  // More than there is room for: the kernel drops the rest and says MSG_CTRUNC.
  refused(grant, {0, 0, 0, 0, 0, 0, 0, 0}, "4 descriptors instead of 1");
  CHECK_FALSE(send_message(pair.a.get(), full_message(MessageType::grant)));
  CHECK_FALSE(send_message(pair.a.get(), full_message(MessageType::take), 0));
  CHECK_FALSE(send_message(pair.a.get(), full_message(MessageType(12))));
  CHECK(open_descriptors() == before + 2);
}

TEST_CASE("a descriptor that finds no room in our table is told as lost") {
  const Pair pair;
  REQUIRE(send_message(pair.a.get(), full_message(MessageType::grant), 0));
  send_bytes(pair.a, encode_message(full_message(MessageType::take)), {0});
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlimit tight = limit;
  tight.rlim_cur = 3;  // nothing above standard error
  REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
  const auto grant = receive_message(pair.b.get());
  const auto take = receive_message(pair.b.get());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(grant);
  REQUIRE(*grant);
  CHECK((*grant)->message.type == MessageType::grant);
  CHECK((*grant)->message.offer == full_message(MessageType::grant).offer);
  CHECK_FALSE((*grant)->descriptor.valid());
  // Where none belongs, none is missing.
  REQUIRE(take);
  CHECK((*take)->message.type == MessageType::take);
}

TEST_CASE("the end of the other side, and a full socket, are told apart") {
  Pair pair;
  CHECK_FALSE(receive_message(pair.a.get()).value());
  size_t sent = 0;
  for (;; ++sent) {
    const auto result = send_message(pair.a.get(), full_message(MessageType::closed));
    if (result) continue;
    CHECK(result.error().system_errno == EAGAIN);
    CHECK(result.error().what.find("'closed'") != std::string::npos);
    break;
  }
  CHECK(sent > 10);
  pair.a.reset();
  for (size_t i = 0; i < sent; ++i) REQUIRE(receive_message(pair.b.get()).value());
  CHECK(receive_message(pair.b.get()).error().system_errno == ECONNRESET);
  CHECK(send_message(pair.b.get(), full_message(MessageType::ping)).error().system_errno == EPIPE);
}

TEST_CASE("property: whatever decodes encodes to the same bytes; random damage never passes unseen") {
  constexpr uint32_t kSeed = 4711;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  size_t passed = 0;
  for (int round = 0; round < 20'000; ++round) {
    Message message = full_message(message_table()[random() % message_table().size()].type);
    message.generation = uint32_t(random());
    message.offer = random();
    MessageBytes bytes = encode_message(message);
    for (auto flips = unsigned(random() % 3); flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= std::byte(1u << (random() % 8));
    }
    const auto decoded = decode_message(bytes);
    if (!decoded) continue;
    ++passed;
    REQUIRE(encode_message(*decoded) == bytes);
  }
  CHECK(passed > 6000);
  CHECK(passed < 20'000);
}

TEST_CASE("a worker's configuration travels whole") {
  WorkerConfig config;
  config.log_level = shm::log::Level::debug;
  config.user = "näme \"quoted\"";
  config.upstream_address = "::1";
  config.upstream_port = 1445;
  config.iwarp_crc = false;
  config.buffered_bytes_per_worker = uint64_t{1} << 40;
  const std::string text = config.to_json();
  const auto copy = WorkerConfig::from_json(text);
  REQUIRE(copy);
  CHECK(copy->to_json() == text);
  CHECK(copy->user == config.user);
  CHECK(copy->log_level == config.log_level);
  CHECK(copy->iwarp_crc == false);
  CHECK(copy->buffered_bytes_per_worker == config.buffered_bytes_per_worker);
}

TEST_CASE("a configuration with anything missing, added or of another kind is refused") {
  const auto good = nlohmann::json::parse(WorkerConfig{}.to_json());
  REQUIRE(WorkerConfig::from_json(good.dump()));
  for (const auto& [name, value] : good.items()) {
    INFO(name);
    auto missing = good;
    missing.erase(name);
    const auto refused = WorkerConfig::from_json(missing.dump());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find(name + " is missing") != std::string::npos);
    auto wrong = good;
    wrong[name] = nlohmann::json::array();
    CHECK(WorkerConfig::from_json(wrong.dump()).error().what.find(name) != std::string::npos);
    if (value.is_number()) {
      wrong[name] = -1;
      CHECK_FALSE(WorkerConfig::from_json(wrong.dump()));
      wrong[name] = 1e30;
      CHECK_FALSE(WorkerConfig::from_json(wrong.dump()));
    }
  }
  auto more = good;
  more["extra"] = 1;
  CHECK_FALSE(WorkerConfig::from_json(more.dump()));
  auto large = good;
  large["upstream_port"] = 65536;
  CHECK_FALSE(WorkerConfig::from_json(large.dump()));
  for (const char* text : {"", "[]", "{", "null", "\"x\""}) CHECK_FALSE(WorkerConfig::from_json(text));
}
