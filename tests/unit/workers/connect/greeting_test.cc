// SPDX-License-Identifier: MIT
// How clients begin, and what else than requests they may say: NetBIOS packets, SMB1's NEGOTIATE; and the
// server's addresses, tried in turn.
#include "workers/connect/greeting.h"

#include <chrono>
#include <random>
#include <string>
#include <sys/socket.h>

#include <doctest/doctest.h>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"
#include "rig.h"
#include "tests/unit/unix_sockets.h"
#include "workers/connect/address.h"
#include "workers/connect/probe.h"

namespace smbdirect::workers::connect::test {

namespace {

namespace smb2 = protocol::smb2;

Bytes bytes_of(std::initializer_list<int> values, size_t size = 0) {
  Bytes out;
  for (const int value : values) out.push_back(static_cast<std::byte>(value));
  out.resize(std::max(size, out.size()));
  return out;
}

const Bytes kKeepalive = bytes_of({0x85, 0, 0, 0});
const Bytes kSessionRequest = bytes_of({0x81, 0, 0, 68}, 72);

RigSettings by_rdma() {
  RigSettings settings;
  settings.options.rdma_io = true;
  return settings;
}

/// Framed, as impacket sends it.
Bytes smb1_negotiate(std::initializer_list<std::string_view> dialects) {
  Bytes pdu = bytes_of({0xff, 'S', 'M', 'B', 0x72}, 35);
  for (const std::string_view name : dialects) {
    pdu.push_back(std::byte{2});
    for (const char c : name) pdu.push_back(std::byte(c));
    pdu.push_back(std::byte{0});
  }
  protocol::smb2::wire::store(pdu, 33, static_cast<uint16_t>(pdu.size() - 35));
  return pdu;
}

bool echoes(Client& client) {
  client.send_pdu(client.echo());
  const auto answer = client.receive_pdu();
  return answer && status_of(*answer) == 0;
}

bool writes_and_reads(Client& client) {
  const Bytes data = pattern(50'000, 7);
  client.send_pdu(client.write(0, data));
  if (!client.receive_pdu()) return false;
  client.send_pdu(client.read(0, 50'000));
  const auto answer = client.receive_pdu();
  return answer && read_data(*answer) == data;
}

/// What a Greeting makes of these bytes, sent in pieces of that size, and how many it has left.
std::string judged(const Bytes& bytes, size_t piece) {
  const auto [client, here] = smbdirect::test::socket_pair();
  Greeting greeting;
  std::string verdict = "hungry";
  size_t sent = 0;
  while (verdict == "hungry" && sent < bytes.size()) {
    const auto next = std::span(bytes).subspan(sent, std::min(piece, bytes.size() - sent));
    REQUIRE(::send(client.get(), next.data(), next.size(), 0) == static_cast<ssize_t>(next.size()));
    sent += next.size();
    const auto state = greeting.read(here.get());
    if (!state) return state.error().text();
    if (*state == Greeting::State::whole) verdict = "whole";
  }
  Bytes rest(bytes.size());
  const ssize_t n = ::recv(here.get(), rest.data(), rest.size(), MSG_DONTWAIT);
  const size_t taken = sent - static_cast<size_t>(std::max<ssize_t>(n, 0));
  // It keeps what it took, but for keepalives.
  REQUIRE(greeting.bytes().size() <= taken);
  CHECK(std::ranges::equal(
      greeting.bytes(), std::span(bytes).subspan(taken - greeting.bytes().size(), greeting.bytes().size())));
  return verdict + " after " + std::to_string(taken);
}

Bytes framed(const Bytes& pdu) {
  Bytes out(4 + pdu.size());
  std::ranges::copy(smb2::encode_nbt(static_cast<uint32_t>(pdu.size())), out.begin());
  std::ranges::copy(pdu, out.begin() + 4);
  return out;
}

/// A header of SMB2 and so many bytes behind it.
Bytes smb2_message(uint16_t command, size_t behind, uint32_t flags = 0) {
  Bytes pdu = bytes_of({0xfe, 'S', 'M', 'B', 64}, smb2::kHeaderBytes + behind);
  smb2::wire::store(pdu, smb2::header_at::kCommand, command);
  smb2::wire::store(pdu, smb2::header_at::kFlags, flags);
  return framed(pdu);
}

}  // namespace

TEST_CASE("the first message is judged alike however it comes, and nothing behind it is taken") {
  const auto judge = [](Bytes bytes) {
    bytes.resize(bytes.size() + 300, std::byte{0x55});
    const std::string whole = judged(bytes, bytes.size());
    CHECK(judged(bytes, 1) == whole);
    CHECK(judged(bytes, 61) == whole);
    return whole;
  };
  CHECK(judge(smb2_message(0, 40)) == "whole after 108");
  CHECK(judge(smb2_message(0, 65'000)) == "whole after 65068");
  CHECK(judge(framed(smb1_negotiate({"SMB 2.???"}))) == "whole after 50");
  CHECK(judge(kSessionRequest) == "whole after 72");
  Bytes kept_alive;
  for (int i = 0; i < 3; ++i) kept_alive.insert(kept_alive.end(), kKeepalive.begin(), kKeepalive.end());
  const Bytes negotiate = smb2_message(0, 40);
  kept_alive.insert(kept_alive.end(), negotiate.begin(), negotiate.end());
  CHECK(judge(kept_alive) == "whole after 120");

  CHECK(judge(smb2_message(9, 100)).find("not a NEGOTIATE") != std::string::npos);
  CHECK(judge(smb2_message(0, 70'000)).find("not a NEGOTIATE") != std::string::npos);
  CHECK(judge(smb2_message(0, 40, 1)).find("not a valid SMB2 request") != std::string::npos);
  CHECK(judge(framed(bytes_of({0xff, 'S', 'M', 'B'}, 5000))).find("not a valid SMB2") != std::string::npos);
  CHECK(judge(bytes_of({0, 0, 0, 0})).find("framing") != std::string::npos);
  CHECK(judge(bytes_of({'G', 'E', 'T', ' '})).find("framing") != std::string::npos);

  constexpr uint64_t kSeed = 20261128;
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 300; ++i) {
    // Mostly valid, so that every look is come to.
    Bytes bytes = smb2_message(0, random() % 200);
    for (size_t changed = random() % 3; changed > 0; --changed)
      bytes[random() % 72] = std::byte(random() % 256);
    CAPTURE(i);
    (void)judge(bytes);
  }
}

TEST_CASE("keepalives between requests are ignored, whole and in pieces") {
  Rig rig(by_rdma());
  bool served = false;
  rig.run([&](Client& client) {
    client.send(kKeepalive);
    client.greet();
    for (int i = 0; i < 50; ++i) client.send(kKeepalive);
    served = echoes(client);
    for (const std::byte byte : kKeepalive) client.send({&byte, 1});
    served = served && writes_and_reads(client);
  });
  CHECK(served);
  CHECK(rig.server().requests() == 4);
}

TEST_CASE("a NetBIOS session request is answered, once and before the first message only") {
  Rig rig(by_rdma());
  bool served = false;
  bool repeated = true;
  bool late = true;
  rig.run([&](Client& client) {
    client.send(kSessionRequest);
    Bytes answer(4);
    served = client.receive(answer) && answer == bytes_of({0x82, 0, 0, 0});
    client.greet();
    served = served && writes_and_reads(client);
    client.send(kSessionRequest);
    late = client.receive_pdu().has_value();
  });
  rig.run([&](Client& client) {
    client.send(kSessionRequest);
    client.send(kSessionRequest);
    Bytes answer(4);
    (void)client.receive(answer);
    repeated = client.receive(answer);
  });
  CHECK(served);
  CHECK_FALSE(late);
  CHECK_FALSE(repeated);
}

TEST_CASE("a client that begins in SMB1 and offers SMB2 goes on in SMB2, by RDMA too") {
  for (const size_t piece : {size_t{1}, size_t{1000}}) {
    CAPTURE(piece);
    Rig rig(by_rdma());
    std::optional<Bytes> answer;
    bool served = false;
    rig.run([&](Client& client) {
      const Bytes pdu = smb1_negotiate({"NT LM 0.12", "SMB 2.002", "SMB 2.???"});
      Bytes framed(4 + pdu.size());
      std::ranges::copy(smb2::encode_nbt(static_cast<uint32_t>(pdu.size())), framed.begin());
      std::ranges::copy(pdu, framed.begin() + 4);
      for (size_t at = 0; at < framed.size(); at += piece) {
        client.send(std::span(framed).subspan(at, std::min(piece, framed.size() - at)));
      }
      answer = client.receive_pdu();
      client.set_message_id(1);
      client.greet();
      served = writes_and_reads(client);
    });
    REQUIRE(answer);
    CHECK(smb2::parse_header(*answer)->command == smb2::Command::negotiate);
    CHECK(smb2::parse_header(*answer)->message_id == 0);
    CHECK(smb2::wire::load16(*answer, smb2::negotiate_at::kDialectRevision) == 0x02FF);
    CHECK(served);
    CHECK(rig.server().requests() == 4);
    CHECK(rig.server().rdma_channel_requests() == 2);
  }
}

TEST_CASE("a client of SMB1 alone is refused, and so is one that falls back to it") {
  Rig rig(by_rdma());
  bool alone = true;
  bool late = true;
  rig.run([&](Client& client) {
    client.send_pdu(smb1_negotiate({"NT LM 0.12"}));
    alone = client.receive_pdu().has_value();
  });
  CHECK(rig.server().requests() == 0);
  rig.run([&](Client& client) {
    client.greet();
    client.send_pdu(smb1_negotiate({"SMB 2.???"}));
    late = client.receive_pdu().has_value();
  });
  CHECK_FALSE(alone);
  CHECK_FALSE(late);
}

TEST_CASE("of several addresses the first that works is used, and then first") {
  RigSettings settings = by_rdma();
  ServerScript script;
  Rig other(by_rdma());
  settings.options.to = {*parse_address("127.0.0.1:1", {}), *parse_address("127.0.0.1:2", {}),
                         other.server().address()};
  Program program(
      other.loop(),
      [&] {
        Options options = settings.options;
        options.listen = *parse_address("127.0.0.1:0", {});
        return options;
      }(),
      [] {});
  REQUIRE(program.start());
  const sockaddr_storage address = *parse_address(program.address(), {});
  std::vector<bool> served;
  other.run([&](Client&) {
    for (int i = 0; i < 3; ++i) {
      Client client(address);
      client.greet();
      served.push_back(writes_and_reads(client));
    }
  });
  CHECK(served == std::vector{true, true, true});
  CHECK(program.counters().connections == 3);
  program.stop();
  other.until([&] { return program.sessions() == 0; });
}

TEST_CASE("when no address works each is named with its reason") {
  Options options;
  options.to = {*parse_address("127.0.0.1:1", {}), *parse_address("[::1]:2", {})};
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  const auto probed = probe(loop, options);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
  REQUIRE_FALSE(probed);
  const std::string text = probed.error().text();
  CAPTURE(text);
  CHECK(text.find("127.0.0.1:1: ") != std::string::npos);
  CHECK(text.find("[::1]:2: ") != std::string::npos);
  CHECK(text.find("refused") != std::string::npos);
}

}  // namespace smbdirect::workers::connect::test
