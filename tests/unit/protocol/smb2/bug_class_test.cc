// SPDX-License-Identifier: MIT
// One test per defect other SMB Direct implementations had in this layer, named after it. "ksmbd <commit>"
// are fixes in its SMB Direct code.
#include <doctest/doctest.h>

#include "protocol/smb2/client_translator.h"
#include "protocol/smb2/server_translator.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using smb2::RewrittenRequest;
using smb2::ServerTranslator;
using smb2::Violation;

namespace {

const std::vector<BufferDescriptor> kMemory{{0x1000, 0x55, 4096}};

struct Server : PromptTranslator {
  explicit Server(const Limits& limits = {}) : PromptTranslator(limits) { agree(*this, 0x0311); }
  /// Sends one RDMA-channel request; true when smbd is made to refuse it.
  bool refuses(Bytes pdu) {
    const uint64_t before = refused_requests();
    RewrittenRequest out;
    REQUIRE(request(pdu, out));
    CHECK(out.fetches.empty() == (refused_requests() != before || get(pdu, 12, 2) == kRead));
    return refused_requests() != before;
  }
};

Violation refusal(const Bytes& pdu) {
  const auto info = smb2::classify_request(prefix_of(pdu), pdu.size());
  REQUIRE_FALSE(info);
  return info.error();
}

}  // namespace

TEST_CASE("CVE-2025-39943: offsets and lengths are held against the bytes received") {
  Server server;
  RewrittenRequest out;
  Bytes read = read_request({.message_id = 1}, {.length = 4096, .channel = 1, .memory = kMemory});
  REQUIRE(server.request(read, out));
  // 100 bytes arrived, the fields speak of 4096: the PDU's length decides, not what was asked for.
  Bytes response = read_response({.message_id = 1}, pattern(100, 1));
  put(response, 68, 4096, 4);
  CHECK(server.response(prefix_of(response), response.size()).error() == Violation::bad_body);
}

TEST_CASE("CVE-2026-43185: sizes with the top bit set stay large") {
  for (const uint32_t size : {0x7FFFFFFFu, 0x80000000u, 0x80000001u, 0xFFFFFFFFu}) {
    Server server;
    CHECK(server.refuses(
        read_request({.message_id = 1}, {.length = size, .channel = 1, .memory = {{0, 1, size}}})));
    CHECK(server.refuses(
        write_request({.message_id = 2}, {.length = size, .channel = 1, .memory = {{0, 1, size}}})));
    // As a descriptor's length it is simply more memory than is used.
    CHECK_FALSE(server.refuses(
        read_request({.message_id = 3}, {.length = 9, .channel = 1, .memory = {{0, 1, size}}})));
  }
}

TEST_CASE("CVE-2025-38501: what was reserved is given back on every path, refusals too") {
  Server server;
  uint64_t reserved = 0, released = 0;
  for (uint64_t id = 1; id <= 40; ++id) {
    const Io io{.length = 4096, .channel = static_cast<uint32_t>(1 + id % 4), .memory = kMemory};
    Bytes pdu = id % 2 ? read_request({.message_id = id}, io) : write_request({.message_id = id}, io);
    RewrittenRequest out;
    REQUIRE(server.request(pdu, out));
    reserved += out.reply_bytes;
    const auto command = id % 2 ? kRead : kWrite;
    const Bytes answer = id % 3 ? error_response(command, {.message_id = id, .status = kInvalidParameter})
                         : command == kWrite || io.channel > 2
                             ? error_response(command, {.message_id = id, .status = kCancelled})
                             : read_response({.message_id = id}, pattern(10, 1));
    const auto plan = server.response(prefix_of(answer), answer.size());
    REQUIRE(plan);
    released += plan->released;
  }
  CHECK(reserved == released);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("CVE-2024-50285: requests in flight and their memory are bounded") {
  Server server({.max_requests = 100});
  Violation violation{};
  uint64_t id = 1;
  for (; id < 1000; ++id) {
    const auto info = smb2::classify_request(plain(kEcho, {.message_id = id}), 68);
    if (const auto noted = server.note(*info); !noted) {
      violation = noted.error();
      break;
    }
  }
  CHECK(violation == Violation::too_many_requests);
  CHECK(id == 101);

  SUBCASE("descriptors, the largest thing a request makes us keep") {
    Server greedy;
    const std::vector<BufferDescriptor> memory(4095, {0, 1, 4096});
    uint32_t accepted = 0;
    for (uint64_t i = 1; i <= 200; ++i)
      accepted +=
          greedy.refuses(read_request({.message_id = i}, {.length = 4096, .channel = 1, .memory = memory}))
              ? 0
              : 1;
    CHECK(accepted == smb2::RequestTable::kMaxPooledDescriptors / 4096);
  }
}

TEST_CASE(
    "CVE-2026-68431: a PDU shorter than a header is refused before anything is read, encrypted ones too") {
  for (const uint32_t id : {0xFEu, 0xFDu, 0xFCu}) {
    for (size_t size = 4; size < 64; ++size) {
      Bytes pdu(size);
      put(pdu, 0, 0x424D5300u | id, 4);
      CHECK(refusal(pdu) == Violation::too_short);
      RewrittenRequest out;
      Server server;
      CHECK(server.request(pdu, out).error() == Violation::too_short);
      CHECK(server.response(pdu, pdu.size()).error() == Violation::too_short);
    }
  }
}

TEST_CASE("CVE-2023-38432: a length field that disagrees with the bytes is refused") {
  // total says more than was gathered: a caller's lie is caught like a peer's.
  const Bytes pdu = read_request({}, {.length = 10});
  CHECK(smb2::classify_request(std::span(pdu).first(80), 4096).error() == Violation::too_short);
  CHECK(refusal(cut(pdu, 100)) == Violation::bad_body);
}

TEST_CASE("CVE-2023-3865: NextCommand is checked before it is followed") {
  for (const uint32_t next : {1u, 7u, 8u, 60u, 65u, 0x80000000u, 0xFFFFFFF8u, 0xFFFFFFFFu}) {
    Bytes pdu = plain(kEcho, {}, 64);
    put(pdu, 20, next, 4);
    CHECK(refusal(pdu) == Violation::bad_next_command);
    RewrittenRequest out;
    Server server;
    CHECK(server.request(pdu, out).error() == Violation::bad_next_command);
  }
}

TEST_CASE("CVE-2024-26952: a buffer offset that points below Buffer is refused") {
  for (const int offset : {0, 1, 63, 64, 96, 111}) {
    Server server;
    Bytes pdu = read_request({.message_id = 1}, {.length = 16, .channel = 1, .memory = kMemory});
    put(pdu, 108, static_cast<uint64_t>(offset), 2);
    CHECK(server.refuses(pdu));
  }
  for (const int offset : {1, 64, 79}) {
    Server server;
    CHECK_FALSE(
        server.refuses(read_request({.message_id = 1}, {.length = 16, .channel = 1, .memory = kMemory})));
    Bytes response = read_response({.message_id = 1}, pattern(8, 1));
    put(response, 66, static_cast<uint64_t>(offset), 1);
    CHECK(server.response(prefix_of(response), response.size()).error() == Violation::bad_body);
  }
}

TEST_CASE("ksmbd 6d896d3b: ChannelInfoOffset and ChannelInfoLength lie within the request") {
  for (const auto& [offset, length] :
       {std::pair{112, 32}, {128, 16}, {120, 16}, {0xFFF0, 0xFFF0}, {0xFFFF, 16}, {113, 16}}) {
    Server server;
    Bytes pdu = write_request({.message_id = 1}, {.length = 16, .channel = 1, .memory = kMemory});
    put(pdu, 104, static_cast<uint64_t>(offset), 2);
    put(pdu, 106, static_cast<uint64_t>(length), 2);
    CHECK(server.refuses(pdu));
    // In a chain the request ends where the next begins.
    Bytes whole = chain({pdu, plain(kEcho, {.message_id = 2}, 1000)});
    Server chained;
    CHECK(chained.refuses(whole));
  }
}

TEST_CASE("ksmbd 03a38d84: no RDMA-channel I/O where there is no RDMA") {
  // Before a dialect that has it ...
  ServerTranslator unnegotiated({});
  RewrittenRequest out;
  Bytes pdu = read_request({.message_id = 1}, {.length = 16, .channel = 1, .memory = kMemory});
  const Bytes same = pdu;
  REQUIRE(unnegotiated.request(pdu, out));
  CHECK(unnegotiated.refused_requests() == 1);
  // ... and from a TCP client of smbdirect-connect, whose tokens could only be ours.
  smb2::ClientTranslator client({});
  CHECK(client.request(prefix_of(same), same.size()).error() == Violation::rdma_channel_over_tcp);
}

TEST_CASE("ksmbd fdcb300: a descriptor longer than the data gets the data and no more") {
  Server server;
  RewrittenRequest out;
  const std::vector<BufferDescriptor> roomy{{0, 1, 10}, {0, 2, 0xFFFFFFFF}};
  Bytes write = write_request({.message_id = 1}, {.length = 15, .channel = 1, .memory = roomy});
  REQUIRE(server.request(write, out));
  REQUIRE(out.fetches.size() == 1);
  CHECK(out.fetches[0].length == 15);
  CHECK(out.total == 112 + 15);
  Bytes read = read_request({.message_id = 2}, {.length = 15, .channel = 1, .memory = roomy});
  REQUIRE(server.request(read, out));
  const Bytes response = read_response({.message_id = 2}, pattern(12, 1));
  const auto plan = server.response(prefix_of(response), response.size());
  REQUIRE(plan);
  CHECK(plan->data_length == 12);
}

TEST_CASE("ksmbd b8d98e3: all descriptors count, not only the first") {
  Server server;
  RewrittenRequest out;
  const std::vector<BufferDescriptor> memory{{0, 1, 10}, {64, 2, 1}, {128, 3, 5}};
  Bytes read = read_request({.message_id = 2}, {.length = 16, .channel = 2, .memory = memory});
  REQUIRE(server.request(read, out));
  CHECK(server.refused_requests() == 0);
  const Bytes response = read_response({.message_id = 2}, pattern(16, 1));
  const auto plan = server.response(prefix_of(response), response.size());
  REQUIRE(plan);
  REQUIRE(plan->to.size() == 3);
  CHECK(plan->to[2].token == 3);
  CHECK(plan->to[2].offset == 128);
  CHECK(plan->invalidate == 1);
}

TEST_CASE("CVE-2026-64269, CVE-2026-89526: lengths from the wire never steer a copy of ours") {
  // Descriptor offsets are the client's addresses: carried, never added to or looked behind.
  Server server;
  RewrittenRequest out;
  Bytes write =
      write_request({.message_id = 1}, {.length = 16, .channel = 1, .memory = {{~uint64_t{0}, 1, 16}}});
  REQUIRE(server.request(write, out));
  REQUIRE(out.fetches.size() == 1);
  CHECK(out.fetches[0].descriptor(0)->offset == ~uint64_t{0});
}

}  // namespace smb2_test
