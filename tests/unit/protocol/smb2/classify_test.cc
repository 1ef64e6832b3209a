// SPDX-License-Identifier: MIT
// What may stream, what must be gathered, what a reply may cost, what may overtake an RDMA READ.
#include "protocol/smb2/classify.h"

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using smb2::RequestInfo;
using smb2::Violation;
using Route = smb2::RequestInfo::Route;

namespace {

RequestInfo classify(const Bytes& pdu) {
  const auto info = smb2::classify_request(prefix_of(pdu), pdu.size());
  REQUIRE(info);
  return *info;
}
Violation refusal(const Bytes& pdu) {
  const auto info = smb2::classify_request(prefix_of(pdu), pdu.size());
  REQUIRE_FALSE(info);
  return info.error();
}
const std::vector<BufferDescriptor> kMemory{{0x1000, 0x55, 65536}};

}  // namespace

TEST_CASE("plain single requests stream; only READ, WRITE and ECHO may overtake") {
  for (const uint16_t command :
       {kSessionSetup, kCreate, kClose, kIoctl, kQueryDirectory, kQueryInfo, kCancel, kChangeNotify}) {
    const RequestInfo info = classify(plain(command, {.message_id = 9}, 57));
    CHECK(info.route == Route::stream);
    CHECK_FALSE(info.may_pass);
    CHECK_FALSE(info.rdma_channel);
    CHECK_FALSE(info.opaque);
    CHECK(info.message_id == 9);
    CHECK(info.command == static_cast<smb2::Command>(command));
  }
  const RequestInfo read = classify(read_request({.message_id = 3}, {.length = 5000, .file = 0x1234}));
  CHECK(read.route == Route::stream);
  CHECK(read.may_pass);
  CHECK(get(read.file_id.bytes, 0, 8) == 0x1234);
  CHECK(get(read.file_id.bytes, 8, 8) == 0x1234);
  CHECK(read.session_id == 0x1122334455);
  CHECK(read.tree_id == 7);
  const RequestInfo write = classify(write_request({}, {.file = 0x99, .data = pattern(3000, 1)}));
  CHECK(write.route == Route::stream);
  CHECK(write.may_pass);
  CHECK(get(write.file_id.bytes, 0, 8) == 0x99);
  CHECK(classify(plain(kEcho, {})).may_pass);
}

TEST_CASE("a SESSION_SETUP says which session ends with it, if all of it is there and it is alone") {
  Bytes setup = plain(kSessionSetup, {}, 24);
  CHECK(classify(setup).previous_session == 0);
  put(setup, 80, 0x1122334455667788, 8);  // MS-SMB2 2.2.5
  CHECK(classify(setup).previous_session == 0x1122334455667788);
  CHECK(classify(setup).route == Route::stream);
  put(setup, 16, kSigned, 4);
  CHECK(classify(setup).previous_session == 0x1122334455667788);
  CHECK(classify(Bytes(setup.begin(), setup.end() - 1)).previous_session == 0);
  CHECK(classify(chain({setup, plain(kClose, {}, 24)})).previous_session == 0);
  Bytes other = plain(kCreate, {}, 57);
  put(other, 80, 0x1122334455667788, 8);
  CHECK(classify(other).previous_session == 0);
}

TEST_CASE("a signed plain READ streams and may overtake: nothing of it changes") {
  const RequestInfo info = classify(read_request({.flags = kSigned}, {.length = 10}));
  CHECK(info.signed_io);
  CHECK_FALSE(classify(read_request({}, {.length = 10})).signed_io);
  CHECK_FALSE(classify(plain(kEcho, {.flags = kSigned})).signed_io);
  CHECK(info.route == Route::stream);
  CHECK(info.may_pass);
}

TEST_CASE("a related READ stands behind the request that names its file") {
  const RequestInfo info = classify(read_request({.flags = kRelated}, {.length = 10}));
  CHECK(info.route == Route::stream);
  CHECK_FALSE(info.may_pass);
}

TEST_CASE("NEGOTIATE, compounds and RDMA-channel I/O are gathered") {
  CHECK(classify(negotiate_request({0x0300, 0x0311})).route == Route::gather);

  const RequestInfo compound = classify(chain({plain(kCreate, {}, 57), plain(kClose, {}, 24)}));
  CHECK(compound.route == Route::gather);
  CHECK_FALSE(compound.may_pass);
  CHECK_FALSE(compound.rdma_channel);

  for (const uint32_t channel : {1u, 2u, 3u, 4u, 0xFFFFFFFFu}) {
    for (const Bytes& pdu : {read_request({}, {.length = 65536, .channel = channel, .memory = kMemory}),
                             write_request({}, {.length = 65536, .channel = channel, .memory = kMemory})}) {
      const RequestInfo info = classify(pdu);
      CHECK(info.route == Route::gather);
      CHECK(info.rdma_channel);
      CHECK_FALSE(info.may_pass);
    }
  }
  // In a chain only request() can tell.
  const RequestInfo in_chain = classify(
      chain({read_request({}, {.length = 100, .channel = 1, .memory = kMemory}), plain(kClose, {}, 24)}));
  CHECK(in_chain.route == Route::gather);
  CHECK_FALSE(in_chain.rdma_channel);
}

TEST_CASE("encrypted and compressed PDUs are opaque") {
  for (const uint32_t id : {0xFDu, 0xFCu}) {
    Bytes pdu = pattern(500, 4);
    put(pdu, 0, 0x424D5300u | id, 4);
    const RequestInfo info = classify(pdu);
    CHECK(info.opaque);
    CHECK(info.route == Route::stream);
    CHECK_FALSE(info.may_pass);
    CHECK(info.reply_bytes == 65536);
    pdu.resize(121);
    CHECK(classify(pdu).reply_bytes == 65536);
    pdu.resize(120);  // a CANCEL, or something with an answer as short
    CHECK(classify(pdu).reply_bytes == 0);
    pdu.resize(63);
    CHECK(refusal(pdu) == Violation::too_short);
  }
}

TEST_CASE("reply cost") {
  CHECK(classify(read_request({}, {.length = 5000})).reply_bytes == 5000);
  CHECK(classify(read_request({}, {.length = 10})).reply_bytes == 256);  // our entry for it costs so much
  CHECK(classify(read_request({}, {.length = 8 << 20})).reply_bytes == 8 << 20);
  CHECK(classify(read_request({}, {.length = 0xFFFFFFFF})).reply_bytes == (16 << 20) + 65536);
  // A WRITE's CreditCharge pays for its payload; the reply is 80 bytes.
  CHECK(classify(write_request({.credit_charge = 128}, {.data = pattern(100, 1)})).reply_bytes == 256);
  CHECK(classify(plain(kCreate, {.credit_charge = 0}, 57)).reply_bytes == 65536);
  CHECK(classify(plain(kCreate, {.credit_charge = 1}, 57)).reply_bytes == 65536);
  CHECK(classify(plain(kCreate, {.credit_charge = 3}, 57)).reply_bytes == 3 * 65536);
  CHECK(classify(plain(kCreate, {.credit_charge = 0xFFFF}, 57)).reply_bytes == (16 << 20) + 65536);
  CHECK(classify(plain(kCancel, {})).reply_bytes == 0);
  for (const uint16_t fixed : {kClose, kEcho, kLock})
    CHECK(classify(plain(fixed, {.credit_charge = 9}, 57)).reply_bytes == 256);

  const auto output = [](uint16_t command, size_t at, uint32_t value) {
    Bytes pdu = plain(command, {.credit_charge = 2}, 57);
    put(pdu, at, value, 4);
    return classify(pdu).reply_bytes;
  };
  CHECK(output(kQueryDirectory, 92, 1 << 20) == 1 << 20);
  CHECK(output(kQueryInfo, 68, 4096) == 4096);
  CHECK(output(kChangeNotify, 68, 12345) == 12345);
  CHECK(output(kIoctl, 108, 70000) == 70000);
  CHECK(output(kIoctl, 108, 0xFFFFFFFF) == (16 << 20) + 65536);
  // Too short to hold the field: smbd refuses it; the credits bound what it can say.
  CHECK(classify(plain(kIoctl, {.credit_charge = 2}, 40)).reply_bytes == 2 * 65536);
}

TEST_CASE("refusals") {
  CHECK(refusal(hex("ff534d42 72000000 00000000000000000000000000000000000000000000000000000000")) ==
        Violation::smb1);
  CHECK(refusal(Bytes(63)) == Violation::not_smb2);
  CHECK(refusal(cut(plain(kEcho, {}), 63)) == Violation::too_short);
  CHECK(refusal({}) == Violation::too_short);
  CHECK(refusal(plain(kEcho, {.flags = kResponse})) == Violation::wrong_direction);

  Bytes bad = plain(kEcho, {});
  put(bad, 4, 63, 2);
  CHECK(refusal(bad) == Violation::bad_header_size);

  bad = chain({plain(kCreate, {}, 57), plain(kClose, {}, 24)});
  for (const uint32_t next : {1u, 8u, 63u, 124u, 0x7FFFFFF8u, 0xFFFFFFFFu}) {
    put(bad, 20, next, 4);
    CHECK(refusal(bad) == Violation::bad_next_command);
  }

  bad = read_request({}, {.length = 10});
  put(bad, 64, 48, 2);
  CHECK(refusal(bad) == Violation::bad_structure_size);
  CHECK(refusal(cut(read_request({}, {}), 111)) == Violation::bad_body);
  CHECK(refusal(cut(write_request({}, {}), 111)) == Violation::bad_body);
  // In a chain the body ends where the element does, whatever follows.
  bad = chain({cut(read_request({}, {}), 104), plain(kClose, {}, 240)});
  CHECK(refusal(bad) == Violation::bad_body);

  CHECK(refusal(read_request({.flags = kSigned}, {.length = 9, .channel = 1, .memory = kMemory})) ==
        Violation::signed_rdma_channel_request);
  CHECK(refusal(write_request({.flags = kSigned}, {.length = 9, .channel = 2, .memory = kMemory})) ==
        Violation::signed_rdma_channel_request);
}

TEST_CASE("a message that a stream's length word cannot say is refused, whatever it is") {
  for (const Bytes& pdu : {plain(kIoctl, {}, 100), write_request({}, {.data = pattern(100, 1)})}) {
    CHECK(smb2::classify_request(prefix_of(pdu), 0xFFFFFF));
    CHECK(smb2::classify_request(prefix_of(pdu), 0x1000000).error() == Violation::too_long);
  }
  Bytes opaque = pattern(500, 4);
  put(opaque, 0, 0x424D53FD, 4);
  CHECK(smb2::classify_request(prefix_of(opaque), 0xFFFFFF));
  CHECK(smb2::classify_request(prefix_of(opaque), 0x1000000).error() == Violation::too_long);
}

TEST_CASE("a prefix shorter than promised is refused, a longer one is cut") {
  const Bytes pdu = read_request({}, {.length = 9, .channel = 1, .memory = kMemory});
  CHECK(smb2::classify_request(std::span(pdu).first(111), pdu.size()).error() == Violation::too_short);
  CHECK(smb2::classify_request(pdu, pdu.size()));
  CHECK(smb2::classify_request(pdu, 100).error() == Violation::bad_body);
}

}  // namespace smb2_test
