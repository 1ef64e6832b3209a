// SPDX-License-Identifier: MIT
// An ordinary client's READ and WRITE as RDMA-channel I/O, and the answers back.
#include "protocol/smb2/client_translator.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using smb2::ClientTranslator;
using smb2::Violation;
using Ask = smb2::ClientTranslator::Request::Kind;
using Answer = smb2::ClientTranslator::Response::Kind;

namespace {

struct Client : ClientTranslator {
  explicit Client(uint16_t dialect = 0x0311, bool rdma_io = true)
      : ClientTranslator({.rdma_io = rdma_io, .threshold = 4096, .max_read_write_size = 1 << 20}) {
    if (dialect == 0) return;
    const Bytes response = negotiate_response(dialect);
    REQUIRE(ClientTranslator::response(prefix_of(response), response.size()));
  }
  ClientTranslator::Request ask(const Bytes& pdu) {
    const auto made = request(prefix_of(pdu), pdu.size());
    REQUIRE(made);
    return *made;
  }
  Bytes channel(const Bytes& pdu, const std::vector<BufferDescriptor>& memory, uint64_t cookie = 1) {
    const auto wanted = ask(pdu);
    Bytes out(112 + 16 * memory.size());
    const auto size = rdma_channel_request(prefix_of(pdu), wanted, memory, cookie, out);
    REQUIRE(size);
    CHECK(*size == out.size());
    return out;
  }
  ClientTranslator::Response answer(const Bytes& pdu) {
    const auto made = ClientTranslator::response(prefix_of(pdu), pdu.size());
    REQUIRE(made);
    return *made;
  }
  Violation refusal(const Bytes& pdu) {
    const auto made = ClientTranslator::response(prefix_of(pdu), pdu.size());
    REQUIRE_FALSE(made);
    return made.error();
  }
};

const std::vector<BufferDescriptor> kMemory{{0xDCBA024, 0x1A00BC57, 0x2000}};

Bytes placed(uint64_t id, uint32_t n, uint32_t status = 0) {
  Bytes pdu = read_response({.message_id = id, .status = status}, {});
  put(pdu, 72, n, 4);
  return pdu;
}

}  // namespace

TEST_CASE("golden: READ becomes RDMA-channel READ") {
  const Bytes request =
      hex("fe534d42 4000 0100 0000 0000 0800 0100 00000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 5001 00200000 0010000000000000 11111111111111112222222222222222 07000000 00000000 33000000 "
          "0000 0000"
          "00");
  const Bytes expected =
      hex("fe534d42 4000 0100 0000 0000 0800 0100 00000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 5001 00200000 0010000000000000 11111111111111112222222222222222 07000000 02000000 00000000 "
          "7000 1000"
          "24a0cb0d00000000 57bc001a 00200000");
  Client client;
  const auto wanted = client.ask(request);
  CHECK(wanted.kind == Ask::rdma_channel_read);
  CHECK(wanted.length == 0x2000);
  CHECK(wanted.message_id == 6);
  CHECK(client.channel(request, kMemory) == expected);
}

TEST_CASE("golden: WRITE becomes RDMA-channel WRITE") {
  const Bytes request = hex("fe534d42 4000 0100 0000 0000 0900 0100 00000000 00000000 0500000000000000 "
                            "fffe0000 01000000 0900000000000000 00000000000000000000000000000000"
                            "3100 7000 00200000 0010000000000000 11111111111111112222222222222222 00000000 "
                            "00000000 0000 0000 01000000") +
                        pattern(0x2000, 1);
  const Bytes expected =
      hex("fe534d42 4000 0100 0000 0000 0900 0100 00000000 00000000 0500000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 0000 00000000 0010000000000000 11111111111111112222222222222222 01000000 00200000 7000 1000 "
          "01000000"
          "24a0cb0d00000000 57bc001a 00200000");
  Client client(0x0300);  // 3.0: channel 1
  const auto wanted = client.ask(request);
  CHECK(wanted.kind == Ask::rdma_channel_write);
  CHECK(wanted.data_offset == 112);
  CHECK(wanted.length == 0x2000);
  CHECK(client.channel(request, kMemory) == expected);
}

TEST_CASE("the Channel follows the dialect") {
  for (const auto& [dialect, channel] : {std::pair{0x0300, 1}, {0x0302, 2}, {0x0311, 2}}) {
    Client client(static_cast<uint16_t>(dialect));
    CHECK(client.dialect() == dialect);
    CHECK(get(client.channel(read_request({}, {.length = 8192}), kMemory), 100, 4) ==
          static_cast<uint64_t>(channel));
  }
}

TEST_CASE("memory that cannot be revoked from afar is not offered for it") {
  Client client(0x0311);
  client.set_remote_invalidate(false);
  CHECK(get(client.channel(read_request({}, {.length = 8192}), kMemory), 100, 4) == 1);
  client.set_remote_invalidate(true);
  CHECK(get(client.channel(read_request({.message_id = 2}, {.length = 8192}), kMemory), 100, 4) == 2);
}

TEST_CASE("what passes unchanged") {
  const auto passes = [](Client&& client, const Bytes& pdu) { return client.ask(pdu).kind == Ask::pass; };
  const Bytes read = read_request({}, {.length = 8192});
  const Bytes write = write_request({}, {.data = pattern(8192, 1)});
  CHECK_FALSE(passes(Client(), read));
  CHECK_FALSE(passes(Client(), write));
  CHECK(passes(Client(0x0311, false), read));
  CHECK(passes(Client(0), read));
  CHECK(passes(Client(0x0210), read));
  CHECK(passes(Client(), read_request({}, {.length = 4095})));
  CHECK_FALSE(passes(Client(), read_request({}, {.length = 4096})));
  CHECK_FALSE(passes(Client(), read_request({}, {.length = 1 << 20})));
  CHECK(passes(Client(), read_request({}, {.length = (1 << 20) + 1})));
  CHECK(passes(Client(), read_request({}, {.length = 0xFFFFFFFF})));
  CHECK(passes(Client(), write_request({}, {.data = pattern(4095, 1)})));
  CHECK(passes(Client(), read_request({.flags = kSigned}, {.length = 8192})));
  CHECK(passes(Client(), write_request({.flags = kSigned}, {.data = pattern(8192, 1)})));
  CHECK(passes(Client(), read_request({.flags = kRelated}, {.length = 8192})));
  CHECK(passes(Client(), chain({read, plain(kClose, {.message_id = 1}, 24)})));
  CHECK(passes(Client(), plain(kCreate, {}, 57)));
  CHECK(passes(Client(), negotiate_request({0x0311})));
  Bytes encrypted = pattern(300, 8);
  put(encrypted, 0, 0x424D53FD, 4);
  CHECK(passes(Client(), encrypted));

  // smbd answers these itself.
  Bytes bad = write;
  put(bad, 66, 111, 2);
  CHECK(passes(Client(), bad));
  put(bad, 66, 113, 2);
  CHECK(passes(Client(), bad));
  put(bad, 66, 112, 2);
  put(bad, 68, 8193, 4);
  CHECK(passes(Client(), bad));
  CHECK(passes(Client(), cut(read, 111)));
  bad = read;
  put(bad, 64, 50, 2);
  CHECK(passes(Client(), bad));
}

TEST_CASE(
    "a request that is refused goes as an ECHO, and its answer comes back as an error with its credits") {
  for (const bool read : {true, false}) {
    Client client;
    const Bytes request =
        read ? read_request({.message_id = 9, .credit_charge = 4}, {.length = 8192})
             : write_request({.message_id = 9, .credit_charge = 4}, {.data = pattern(8192, 1)});
    Bytes echo(smb2::ClientTranslator::kRefusedRequestBytes);
    const auto size = client.refused_request(prefix_of(request), echo);
    REQUIRE(size);
    CHECK(*size == 68);
    const auto head = smb2::parse_header(echo);
    REQUIRE(head);
    CHECK(head->command == smb2::Command::echo);
    CHECK(head->message_id == 9);
    CHECK(head->credit_charge == 4);
    CHECK(get(echo, 64, 2) == 4);
    CHECK(client.in_flight() == 1);
    CHECK(client.refused_request(prefix_of(request), echo).error() == Violation::duplicate_message_id);

    Bytes answer = header(kEcho, {.message_id = 9, .flags = kResponse}) + Bytes(4);
    put(answer, 14, 17, 2);
    put(answer, 64, 4, 2);
    const auto made = client.response(prefix_of(answer), answer.size());
    REQUIRE(made);
    CHECK(made->kind == smb2::ClientTranslator::Response::Kind::refused);
    CHECK(made->header_size == 73);
    CHECK(get(made->header, 8, 4) == 0xC000009A);
    CHECK(get(made->header, 12, 2) == (read ? 8 : 9));
    CHECK(get(made->header, 14, 2) == 17);
    CHECK(get(made->header, 64, 2) == 9);
    CHECK_FALSE(made->finished);
    CHECK(client.in_flight() == 0);
  }
  Client client;
  Bytes echo(68);
  CHECK(client.refused_request(prefix_of(plain(kCreate, {}, 57)), echo).error() == Violation::bad_body);
  const Bytes request = read_request({.message_id = 1}, {.length = 8192});
  CHECK(client.refused_request(prefix_of(request), std::span(echo).first(67)).error() == Violation::bad_body);
  REQUIRE(client.refused_request(prefix_of(request), echo));
  // An answer to something else under its MessageId.
  const Bytes other = placed(1, 8192);
  CHECK_FALSE(client.response(prefix_of(other), other.size()));
}

TEST_CASE("the answer to a NEGOTIATE that is not the client's is for nobody, once") {
  Client client(0);
  client.expect_refused_negotiate();
  const Bytes refusal = error_response(0, {.status = 0xC00000BB});
  CHECK(client.answer(refusal).kind == smb2::ClientTranslator::Response::Kind::swallow);
  CHECK(client.answer(refusal).kind == smb2::ClientTranslator::Response::Kind::pass);
  CHECK(client.dialect() == 0);
  CHECK(client.answer(negotiate_response(0x0311)).kind == smb2::ClientTranslator::Response::Kind::pass);
  CHECK(client.dialect() == 0x0311);
}

TEST_CASE("what the local client may not send") {
  Client client;
  const auto refused = [&](const Bytes& pdu) {
    const auto made = client.request(prefix_of(pdu), pdu.size());
    REQUIRE_FALSE(made);
    return made.error();
  };
  Bytes smb1 = Bytes(80);
  put(smb1, 0, 0x424D53FF, 4);
  CHECK(refused(smb1) == Violation::smb1);
  CHECK(refused(Bytes(80)) == Violation::not_smb2);
  CHECK(refused(Bytes(20)) == Violation::too_short);
  CHECK(refused(plain(kEcho, {.flags = kResponse})) == Violation::wrong_direction);
  CHECK(refused(read_request({}, {.length = 8192, .channel = 1, .memory = kMemory})) ==
        Violation::rdma_channel_over_tcp);
  CHECK(refused(write_request({.flags = kSigned}, {.length = 8192, .channel = 2, .memory = kMemory})) ==
        Violation::rdma_channel_over_tcp);
  Bytes bad = plain(kEcho, {});
  put(bad, 20, 12, 4);
  CHECK(refused(bad) == Violation::bad_next_command);
}

TEST_CASE("rdma_channel_request checks the memory it is given") {
  Client client;
  const Bytes pdu = read_request({.message_id = 5}, {.length = 8192});
  const auto wanted = client.ask(pdu);
  const auto fails = [&](const std::vector<BufferDescriptor>& memory, size_t room) {
    Bytes out(room);
    const auto made = client.rdma_channel_request(prefix_of(pdu), wanted, memory, 1, out);
    return !made && made.error() == Violation::bad_body;
  };
  CHECK(fails({}, 1000));
  CHECK(fails({{0, 1, 8191}}, 1000));
  CHECK(fails({{0, 1, 8192}}, 127));
  CHECK(fails({{0, 1, 0}, {0, 2, 8192}}, 1000));
  CHECK(fails(std::vector<BufferDescriptor>(257, {0, 1, 8192}), 16 * 257 + 112));
  CHECK(client.in_flight() == 0);
  Bytes out(128);
  REQUIRE(client.rdma_channel_request(prefix_of(pdu), wanted, kMemory, 1, out));
  CHECK(client.rdma_channel_request(prefix_of(pdu), wanted, kMemory, 1, out).error() ==
        Violation::duplicate_message_id);
}

TEST_CASE("RDMA-channel READ answers: placed, short, empty, error, warning, interim, inline") {
  Client client;
  const Bytes pdu = read_request({.message_id = 5}, {.length = 8192});
  (void)client.channel(pdu, kMemory, 77);

  SUBCASE("interim") {
    const auto interim = client.answer(interim_response(kRead, {.message_id = 5}));
    CHECK(interim.kind == Answer::pass);
    CHECK_FALSE(interim.finished);
    CHECK(client.in_flight() == 1);
    CHECK(client.refusal(placed(5, 10)) == Violation::response_bad_pending);
    Bytes end = placed(5, 10);
    put(end, 16, kResponse | kAsync, 4);
    put(end, 32, 1, 8);
    CHECK(client.refusal(end) == Violation::response_bad_pending);
    put(end, 32, uint64_t{7} << 32, 8);  // as the interim response had it
    CHECK(client.answer(end).kind == Answer::from_memory);
  }
  SUBCASE("a refused CANCEL is no answer to it") {
    const Bytes refused = error_response(kCancel, {.message_id = 5, .status = 0xC0000022});
    CHECK_FALSE(client.answer(refused).finished);
    CHECK(client.in_flight() == 1);
    CHECK(client.answer(placed(5, 10)).kind == Answer::from_memory);
  }
  SUBCASE("placed") {
    for (const uint32_t n : {8192u, 100u, 0u}) {
      const auto answer = client.answer(placed(5, n));
      CHECK(answer.kind == Answer::from_memory);
      CHECK(answer.length == n);
      CHECK(answer.finished == 77);
      const Bytes inline_answer = read_response({.message_id = 5}, Bytes(n));
      CHECK(std::ranges::equal(answer.header, std::span(inline_answer).first(80)));
      (void)client.channel(pdu, kMemory, 77);
    }
  }
  SUBCASE("error") {
    const auto answer = client.answer(error_response(kRead, {.message_id = 5, .status = kEndOfFile}));
    CHECK(answer.kind == Answer::pass);
    CHECK(answer.finished == 77);
    CHECK(client.in_flight() == 0);
  }
  SUBCASE("warning with data") {
    const auto answer = client.answer(placed(5, 8192, kBufferOverflow));
    CHECK(answer.kind == Answer::from_memory);
    CHECK(get(answer.header, 8, 4) == kBufferOverflow);
  }
  SUBCASE("inline all the same") {
    const auto answer = client.answer(read_response({.message_id = 5}, pattern(50, 1)));
    CHECK(answer.kind == Answer::pass);
    CHECK(answer.finished == 77);
  }
  SUBCASE("lies") {
    CHECK(client.refusal(placed(5, 8193)) == Violation::response_too_long);
    CHECK(client.refusal(placed(5, 0xFFFFFFFF)) == Violation::response_too_long);
    CHECK(client.refusal(write_response({.message_id = 5}, 1)) == Violation::response_wrong_command);
    CHECK(client.refusal(error_response(kRead, {.message_id = 5})) == Violation::bad_structure_size);
    CHECK(client.refusal(placed(5, 10, kEndOfFile)) == Violation::bad_structure_size);
    CHECK(client.refusal(read_response({.message_id = 5}, pattern(8193, 1))) == Violation::response_too_long);
    Bytes bad = read_response({.message_id = 5}, pattern(50, 1));
    put(bad, 68, 51, 4);
    CHECK(client.refusal(bad) == Violation::bad_body);
    put(bad, 68, 50, 4);
    put(bad, 72, 50, 4);
    CHECK(client.refusal(bad) == Violation::bad_body);
    bad = placed(5, 10);
    put(bad, 16, kResponse | kSigned, 4);
    CHECK(client.refusal(bad) == Violation::signed_rdma_channel_response);
    CHECK(client.refusal(cut(placed(5, 10), 79)) == Violation::bad_body);
    CHECK(client.refusal(chain({placed(5, 10), plain(kClose, {.flags = kResponse})})) ==
          Violation::bad_next_command);
    bad = placed(5, 10);
    put(bad, 16, 0, 4);
    CHECK(client.refusal(bad) == Violation::wrong_direction);
  }
}

TEST_CASE("RDMA-channel WRITE answers pass and say whose memory is free") {
  Client client;
  (void)client.channel(write_request({.message_id = 1}, {.data = pattern(8192, 1)}), kMemory, 10);
  (void)client.channel(write_request({.message_id = 2}, {.data = pattern(8192, 1)}), kMemory, 20);
  CHECK_FALSE(client.answer(interim_response(kWrite, {.message_id = 1})).finished);
  auto answer = client.answer(write_response({.message_id = 1, .flags = kAsync}, 8192));
  CHECK(answer.kind == Answer::pass);
  CHECK(answer.finished == 10);
  CHECK(client.refusal(write_response({.message_id = 2}, 8193)) == Violation::response_too_long);
  answer = client.answer(error_response(kWrite, {.message_id = 2, .status = kInvalidParameter}));
  CHECK(answer.kind == Answer::pass);
  CHECK(answer.finished == 20);
  CHECK(client.in_flight() == 0);
}

TEST_CASE("answers to what was passed on pass") {
  Client client;
  CHECK(client.answer(read_response({.message_id = 3}, pattern(10, 1))).kind == Answer::pass);
  CHECK(client.answer(chain({plain(kCreate, {.flags = kResponse}), plain(kClose, {.flags = kResponse})}))
            .kind == Answer::pass);
  Bytes encrypted = pattern(300, 8);
  put(encrypted, 0, 0x424D53FD, 4);
  CHECK(client.answer(encrypted).kind == Answer::pass);
  CHECK_FALSE(client.answer(plain(18, {.message_id = ~uint64_t{0}, .flags = kResponse}, 24)).finished);
}

TEST_CASE("a dialect that there is none of is no dialect") {
  for (const int dialect : {0x0000, 0x0201, 0x0303, 0x0310, 0x0312, 0xD0AF, 0xFFFF}) {
    ClientTranslator client({.rdma_io = true});
    const Bytes response = negotiate_response(static_cast<uint16_t>(dialect));
    const auto answer = client.response(prefix_of(response), response.size());
    REQUIRE_FALSE(answer);
    CHECK(answer.error() == Violation::response_bad_dialect);
    CHECK(client.dialect() == 0);
  }
}

TEST_CASE("the dialect is learned once; SMB1's multi-protocol answer is not one yet") {
  ClientTranslator client({.rdma_io = true});
  for (const uint16_t dialect : {uint16_t{0x02FF}, uint16_t{0x0302}}) {
    CHECK(client.dialect() == 0);
    const Bytes pdu = negotiate_response(dialect);
    REQUIRE(client.response(prefix_of(pdu), pdu.size()));
  }
  CHECK(client.dialect() == 0x0302);
  const Bytes again = negotiate_response(0x0311);
  CHECK(client.response(prefix_of(again), again.size()).error() == Violation::response_bad_dialect);
}

TEST_CASE("MaxReadWriteSize may be learned later") {
  Client client;
  client.set_max_read_write_size(4096);
  CHECK(client.ask(read_request({}, {.length = 4096})).kind == Ask::rdma_channel_read);
  CHECK(client.ask(read_request({}, {.length = 4097})).kind == Ask::pass);
}

}  // namespace smb2_test
