// SPDX-License-Identifier: MIT
#include "daemon/contract/contract.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

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

constexpr uint32_t kGeneration = 7;

/// Puts something into every field of a row.
struct Filler {
  template <class T>
  void number(size_t at, T& value) const {
    value = T(0x1122334455667788 + at);
  }
  template <class E>
  void choice(size_t /*at*/, const char* /*what*/, E& value, E largest) const {
    value = largest;
  }
  void octets(size_t /*at*/, std::span<std::byte> value) const {
    for (size_t i = 0; i < value.size(); ++i) value[i] = std::byte(0xa0 + i);
  }
  void address(size_t at, sockaddr_storage& value) const {
    value =
        at == 40 ? *shm::address_from_text("192.0.2.1", 40000) : *shm::address_from_text("2001:db8::1", 5445);
  }
};

template <class Row>
Row full() {
  Row row;
  Filler filler;
  Row::lay(row, filler);
  return row;
}

template <class Said, class... Rows>
std::vector<Said> full_list(std::variant<Rows...>* /*list*/) {
  return {Said(full<Rows>())...};
}
/// Every message of a side's, with something in every field.
template <class Said>
std::vector<Said> all() {
  return full_list<Said>(static_cast<Said*>(nullptr));
}

template <class Row>
MessageBytes encoded(const Row& row) {
  return encode_message(kGeneration, row);
}

/// What each message looks like, told a second time: its fields are an offer (o), a sequence (s), a number at
/// 12 (n), the largest of an enumeration there (its digit), a guid (g), a descriptor (d), a client (c), its
/// addresses alone (a).
struct OnTheWire {
  uint16_t type;
  const char* name;
  const char* fields;
};
constexpr OnTheWire kFromWorker[] = {
    {1, "ready", ""},        {2, "take", "o"},          {3, "refuse", "o"},         {4, "closed", "o"},
    {5, "pong", "s"},        {6, "want_smbd", "o"},     {7, "claim", "og"},         {8, "channel_up", "on"},
    {9, "scoreboard", "d"},  {10, "reported", "s"},     {11, "want_process", "og"}, {12, "pass", "od"},
    {13, "not_passed", "s"}, {14, "channel_down", "o"}, {15, "session_up", "o"},    {16, "left", ""},
    {17, "kept", "oa"},      {18, "want_module", "od"},
};
constexpr OnTheWire kFromSupervisor[] = {
    {64, "offer", "oc"},    {65, "grant", "od"},   {66, "ping", "s"},          {67, "drain", "n"},
    {68, "stop", "n"},      {69, "dump", ""},      {70, "smbd", "od"},         {71, "no_smbd", "on"},
    {72, "report", "sd"},   {73, "registry", "d"}, {74, "peer_listener", "d"}, {75, "claimed", "o2"},
    {76, "pass_to", "snd"}, {77, "end", "o3"},     {78, "log_level", "4"},     {79, "adoption_socket", "d"},
    {80, "adopt", "n"},     {81, "module", "od"},  {82, "no_module", "on"},
};

MessageBytes bytes_of(const OnTheWire& wire) {
  MessageBytes bytes{};
  const auto put = [&](size_t at, std::initializer_list<unsigned> values) {
    for (const unsigned value : values) bytes[at++] = std::byte(value);
  };
  put(0, {'S', 'D', 'C', '1', 4, 0, wire.type, 0, kGeneration});
  for (const char field : std::string_view(wire.fields)) {
    if (field == 'o') put(16, {0x98, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11});
    if (field == 's') put(24, {0xa0, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11});
    if (field == 'n') put(12, {0x94, 0x77, 0x66, 0x55});
    if (field >= '1' && field <= '4') put(12, {unsigned(field - '0')});
    if (field == 'g') Filler().octets(40, std::span(bytes).subspan(40, 16));
    if (field == 'c') put(32, {1, 0xa9, 0xaa, 0xab, 0xac, 0x77, 0x66, 0x55});
    if (field == 'c') put(87, {1, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7});
    if (field != 'c' && field != 'a') continue;
    put(40, {4, 0, 0x40, 0x9c, 0, 0, 0, 0, 192, 0, 2, 1});
    put(64, {6, 0, 0x45, 0x15, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8});
    put(87, {1});
  }
  return bytes;
}

template <class Said>
void check_bytes(std::span<const OnTheWire> wire) {
  const std::vector<Said> messages = all<Said>();
  REQUIRE(messages.size() == wire.size());
  for (size_t i = 0; i < wire.size(); ++i) {
    INFO(wire[i].name);
    CHECK(message_name(messages[i]) == wire[i].name);
    CHECK(encode_message(kGeneration, messages[i]) == bytes_of(wire[i]));
    const auto decoded = decode_message<Said>(bytes_of(wire[i]));
    REQUIRE(decoded);
    CHECK(decoded->generation == kGeneration);
    CHECK(decoded->message.index() == i);
    CHECK(encode_message(kGeneration, decoded->message) == bytes_of(wire[i]));
  }
}

template <class Said>
void check_ways(std::span<const OnTheWire> wire) {
  const Pair pair;
  const std::vector<Said> messages = all<Said>();
  for (size_t i = 0; i < wire.size(); ++i) {
    INFO(wire[i].name);
    const bool carries = std::string_view(wire[i].fields).ends_with('d');
    const shm::UniqueFd passed(carries ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1);
    REQUIRE(send_message(pair.a.get(), kGeneration, messages[i], passed.get()));
    const auto received = receive_message<Said>(pair.b.get());
    REQUIRE(received);
    REQUIRE(*received);
    CHECK((*received)->generation == kGeneration);
    CHECK(encode_message(kGeneration, (*received)->message) == bytes_of(wire[i]));
    CHECK((*received)->descriptor.valid() == carries);
    if (carries) {
      CHECK((*received)->descriptor.get() != passed.get());
      CHECK((fcntl((*received)->descriptor.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
    CHECK_FALSE(send_message(pair.a.get(), kGeneration, messages[i], carries ? -1 : 0));
  }
  CHECK_FALSE(receive_message<Said>(pair.b.get()).value());  // nothing more
}

/// Of one side; the other side has to say it.
template <class Said, class Hearer>
void check_refused(const char* says) {
  for (const Said& message : all<Said>()) {
    INFO(std::string(message_name(message)));
    const Pair pair;
    send_bytes(pair.a, encode_message(kGeneration, message));
    const auto received = receive_message<Hearer>(pair.b.get());
    REQUIRE_FALSE(received);
    CHECK(received.error().system_errno == EPROTO);
    CHECK(received.error().what.find("'" + std::string(message_name(message)) + "', which only " + says) !=
          std::string::npos);
  }
}

}  // namespace

TEST_CASE("the bytes of every message are what they have been, and mean it") {
  check_bytes<FromWorker>(kFromWorker);
  check_bytes<FromSupervisor>(kFromSupervisor);
}

TEST_CASE("every message arrives as it was sent, with the descriptor that belongs to it and no other") {
  check_ways<FromWorker>(kFromWorker);
  check_ways<FromSupervisor>(kFromSupervisor);
}

TEST_CASE("what is the other side's to say is refused") {
  check_refused<FromWorker, FromSupervisor>("a worker sends");
  check_refused<FromSupervisor, FromWorker>("the supervisor sends");
}

TEST_CASE("an outcome or a reason that is none of those there are is refused") {
  const auto refused = [](const FromSupervisor& message) {
    MessageBytes bytes = encode_message(kGeneration, message);
    CHECK(decode_message<FromSupervisor>(bytes));
    bytes[12] = std::byte(unsigned(bytes[12]) + 1);
    const auto decoded = decode_message<FromSupervisor>(bytes);
    REQUIRE_FALSE(decoded);
    CHECK(decoded.error().what.find("is not a valid value") != std::string::npos);
  };
  refused(full<message::Claimed>());
  refused(full<message::End>());
}

TEST_CASE("an offer says who the client is, and what a worker needs to accept it") {
  const auto sent = full<message::Offer>();
  const auto decoded = decode_message<FromSupervisor>(encoded(sent));
  REQUIRE(decoded);
  const auto& got = std::get<message::Offer>(decoded->message);
  CHECK(got.connection == sent.connection);
  CHECK(got.fabric == Fabric::verbs);
  CHECK(shm::address_text(got.peer) == "192.0.2.1:40000");
  CHECK(shm::address_text(got.local) == "[2001:db8::1]:5445");
  CHECK(got.cm.id == sent.cm.id);
  CHECK(got.cm.responder_resources == sent.cm.responder_resources);
  CHECK(got.cm.initiator_depth == sent.cm.initiator_depth);
  CHECK(got.cm.private_data_length == sent.cm.private_data_length);
  CHECK(got.cm.private_data == sent.cm.private_data);
}

TEST_CASE("malformed datagrams are refused, every one, and leave no descriptor behind") {
  auto iwarp_offer = full<message::Offer>();
  iwarp_offer.fabric = Fabric::iwarp;
  const MessageBytes good = encoded(iwarp_offer);
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
  const MessageBytes ping = encoded(full<message::Ping>());
  auto ping_with_offer = std::vector(ping.begin(), ping.end());
  ping_with_offer[16] = std::byte(1);
  const Case cases[] = {
      {"short", std::vector(good.begin(), good.end() - 1), "95 bytes instead of 96"},
      {"one byte", std::vector(good.begin(), good.begin() + 1), "1 bytes instead of 96"},
      {"magic", changed(0, 0), "magic"},
      {"version", changed(4, 2), "different releases"},
      {"type 0", changed(6, 0), "unknown type 0"},
      {"type 19", changed(6, 19), "unknown type 19"},
      {"type 63", changed(6, 63), "unknown type 63"},
      {"type 83", changed(6, 83), "unknown type 83"},
      {"type high", changed(7, 1), "unknown type"},
      {"deadline in offer", changed(12, 1), "do not belong"},
      {"sequence in offer", changed(31, 1), "do not belong"},
      {"fabric", changed(32, 2), "fabric 2, which is not a valid value"},
      {"request in an iwarp offer", changed(39, 1), "do not belong"},
      {"private data in an iwarp offer", changed(95, 1), "do not belong"},
      {"family", changed(40, 5), "unknown address family"},
      {"second family", changed(64, 2), "unknown address family"},
      {"IPv4 with scope", changed(44, 1), "do not belong"},
      {"IPv4 with 5 bytes", changed(52, 1), "do not belong"},
      {"ping with an offer", ping_with_offer, "do not belong"},
  };
  const size_t before = open_descriptors();
  for (const Case& one : cases) {
    INFO(one.name);
    CHECK_FALSE(decode_message<FromSupervisor>(one.bytes));
    for (const bool with_descriptor : {false, true}) {
      const Pair pair;
      send_bytes(pair.a, one.bytes, with_descriptor ? std::vector{0} : std::vector<int>{});
      const auto received = receive_message<FromSupervisor>(pair.b.get());
      REQUIRE_FALSE(received);
      CHECK(received.error().system_errno == EPROTO);
      CHECK_MESSAGE(received.error().what.find(one.says) != std::string::npos, received.error().what);
    }
  }
  const Pair pair;
  send_bytes(pair.a, std::vector(kMessageSize + 1, std::byte(0)));
  CHECK(receive_message<FromSupervisor>(pair.b.get()).error().what.find("97 bytes instead of 96") !=
        std::string::npos);
  send_bytes(pair.a, std::vector(100'000, std::byte(0)), {0});
  CHECK(receive_message<FromSupervisor>(pair.b.get()).error().what.find("too long") != std::string::npos);
  CHECK(open_descriptors() == before + 2);  // the pair
}

TEST_CASE("a descriptor comes with a grant, one, and with nothing else") {
  const size_t before = open_descriptors();
  const auto grant = encoded(full<message::Grant>());
  const auto ping = encoded(full<message::Ping>());
  const Pair pair;
  const auto refused = [&](std::span<const std::byte> bytes, const std::vector<int>& fds, const char* says) {
    send_bytes(pair.a, bytes, fds);
    const auto received = receive_message<FromSupervisor>(pair.b.get());
    REQUIRE_FALSE(received);
    CHECK(received.error().system_errno == EPROTO);
    CHECK_MESSAGE(received.error().what.find(says) != std::string::npos, received.error().what);
  };
  refused(grant, {}, "0 descriptors instead of 1");
  refused(grant, {0, 0}, "2 descriptors instead of 1");
  refused(ping, {0}, "1 descriptors instead of 0");
  // More than there is room for: the kernel drops the rest and says MSG_CTRUNC.
  refused(grant, {0, 0, 0, 0, 0, 0, 0, 0}, "4 descriptors instead of 1");
  CHECK(open_descriptors() == before + 2);
}

TEST_CASE("a descriptor that finds no room in our table is told as lost") {
  const Pair pair;
  REQUIRE(send_message(pair.a.get(), kGeneration, full<message::Grant>(), 0));
  send_bytes(pair.a, encoded(full<message::Ping>()), {0});
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlimit tight = limit;
  tight.rlim_cur = 3;  // nothing above standard error
  REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
  const auto grant = receive_message<FromSupervisor>(pair.b.get());
  const auto ping = receive_message<FromSupervisor>(pair.b.get());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(grant);
  REQUIRE(*grant);
  CHECK(std::get<message::Grant>((*grant)->message).connection == full<message::Grant>().connection);
  CHECK_FALSE((*grant)->descriptor.valid());
  // Where none belongs, none is missing.
  REQUIRE(ping);
  CHECK(std::holds_alternative<message::Ping>((*ping)->message));
}

TEST_CASE("the end of the other side, and a full socket, are told apart") {
  Pair pair;
  CHECK_FALSE(receive_message<FromSupervisor>(pair.a.get()).value());
  size_t sent = 0;
  for (;; ++sent) {
    const auto result = send_message(pair.a.get(), kGeneration, full<message::Dump>());
    if (result) continue;
    CHECK(result.error().system_errno == EAGAIN);
    CHECK(result.error().what.find("'dump'") != std::string::npos);
    break;
  }
  CHECK(sent > 10);
  pair.a.reset();
  for (size_t i = 0; i < sent; ++i) REQUIRE(receive_message<FromSupervisor>(pair.b.get()).value());
  CHECK(receive_message<FromSupervisor>(pair.b.get()).error().system_errno == ECONNRESET);
  CHECK(send_message(pair.b.get(), kGeneration, full<message::Pong>()).error().system_errno == EPIPE);
}

TEST_CASE("property: whatever decodes encodes to the same bytes; random damage never passes unseen") {
  constexpr uint32_t kSeed = 4711;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  const std::vector<FromWorker> workers = all<FromWorker>();
  const std::vector<FromSupervisor> supervisors = all<FromSupervisor>();
  size_t passed = 0;
  for (int round = 0; round < 20'000; ++round) {
    const size_t pick = random() % (workers.size() + supervisors.size());
    const auto generation = uint32_t(random());
    MessageBytes bytes = pick < workers.size()
                             ? encode_message(generation, workers[pick])
                             : encode_message(generation, supervisors[pick - workers.size()]);
    for (auto flips = unsigned(random() % 3); flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= std::byte(1u << (random() % 8));
    }
    const auto by_worker = decode_message<FromWorker>(bytes);
    const auto by_supervisor = decode_message<FromSupervisor>(bytes);
    REQUIRE_FALSE((by_worker && by_supervisor));
    if (!by_worker && !by_supervisor) continue;
    ++passed;
    REQUIRE((by_worker ? encode_message(by_worker->generation, by_worker->message)
                       : encode_message(by_supervisor->generation, by_supervisor->message)) == bytes);
  }
  CHECK(passed > 6000);
  CHECK(passed < 20'000);
}
