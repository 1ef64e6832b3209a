// SPDX-License-Identifier: MIT
// Which requests READs and WRITEs that are done here must not overtake, and when smbd has one.
#include "protocol/smb2/file_order.h"

#include <doctest/doctest.h>

#include "build_pdu.h"
#include "protocol/smb2/request_body.h"

using namespace smbdirect::protocol::smb2;  // NOLINT: a test speaks of one thing
using namespace smb2_test;

namespace {

FileId file(uint8_t number) {
  FileId id;
  id.bytes.fill(std::byte{number});
  return id;
}

Bytes request(uint16_t command, size_t file_at, size_t size, uint64_t id = 7) {
  Bytes bytes = plain(command, {.message_id = id}, size);
  for (size_t i = 0; file_at != 0 && i < 16; ++i) bytes[file_at + i] = std::byte{9};
  return bytes;
}

OnFile on(const Bytes& bytes) { return file_of(*parse_header(bytes), bytes); }

Bytes answer(uint16_t command, uint64_t id = 7) {
  return plain(command, {.message_id = id, .flags = kResponse}, 60);
}

/// It goes to smbd: the ticket, not yet forwarded.
Ticket note(ServerTranslator& translator, const Bytes& bytes) {
  const auto prefix = std::span(bytes).first(std::min(bytes.size(), kPrefixBytes));
  const auto info = translator.classify(prefix, bytes.size());
  REQUIRE(info);
  const auto noted = translator.note(*info);
  REQUIRE(noted);
  return *noted;
}

}  // namespace

TEST_CASE("what a request is about, by its command") {
  constexpr uint16_t kFlush = 7, kSetInfo = 17, kTreeDisconnect = 4, kLogoff = 2, kOplockBreak = 18;
  for (const auto& [command, at] :
       {std::pair<uint16_t, size_t>{kClose, 72}, {kFlush, 72}, {kLock, 72}, {kIoctl, 72}, {kSetInfo, 80}}) {
    INFO("command " << command);
    const Bytes bytes = request(command, at, 60);
    CHECK(on(bytes).holds == Holds::file);
    CHECK(on(bytes).file_id == file(9));
    CHECK(on(Bytes(bytes.begin(), bytes.begin() + ptrdiff_t(at) + 15)).holds == Holds::all);
    Bytes related = bytes, first = bytes;
    put(related, 16, kRelated, 4);
    put(first, 20, 128, 4);
    CHECK(on(related).holds == Holds::all);
    CHECK(on(first).holds == Holds::all);
  }
  for (const uint16_t command : {kTreeDisconnect, kLogoff, kOplockBreak})
    CHECK(on(request(command, 0, 4)).holds == Holds::all);
  for (const uint16_t command : {kRead, kWrite}) {
    CHECK(on(request(command, 80, 60)).holds == Holds::nothing);
    CHECK(on(request(command, 80, 60)).file_id == file(9));
  }
  CHECK(on(request(kCreate, 0, 60)).holds == Holds::sends);
  for (const uint16_t command : {kEcho, kQueryInfo, kQueryDirectory, kChangeNotify})
    CHECK(on(request(command, 0, 60)).holds == Holds::nothing);
}

TEST_CASE("smbd has it from its last byte to its answer, each for itself") {
  ServerTranslator translator({});
  agree(translator, 0x0302);
  const Ticket first = note(translator, request(kClose, 72, 24, 7));
  CHECK_FALSE(translator.holds(file(9)));
  translator.forwarded(first);
  const Ticket second = note(translator, request(kLock, 72, 48, 8));
  translator.forwarded(second);
  CHECK(translator.holds(file(9)));
  CHECK_FALSE(translator.holds(file(8)));
  REQUIRE(translator.response(interim_response(kLock, {.message_id = 8}), 73));
  REQUIRE(translator.response(answer(kClose, 7), 124));
  CHECK(translator.holds(file(9)));
  Bytes locked = answer(kLock, 8);
  put(locked, 16, kResponse | kAsync, 4);
  REQUIRE(translator.response(locked, locked.size()));
  CHECK_FALSE(translator.holds(file(9)));
}

TEST_CASE("what is about everything, and what nobody can read") {
  ServerTranslator translator({});
  agree(translator, 0x0302);
  translator.forwarded(note(translator, plain(2, {.message_id = 7})));
  CHECK(translator.holds(file(1)));
  REQUIRE(translator.response(answer(2), 124));
  CHECK_FALSE(translator.holds(file(1)));
  Bytes encrypted = pattern(300, 1);
  put(encrypted, 0, 0x424D53FD, 4);
  translator.forwarded(note(translator, encrypted));
  CHECK(translator.holds(file(1)));
}

TEST_CASE("a WRITE that smbd has done is told of") {
  ServerTranslator translator({});
  agree(translator, 0x0302);
  const Bytes write = write_request({.message_id = 7}, {.file = 0x0909090909090909, .data = pattern(10, 1)});
  for (const bool done : {false, true}) {
    translator.forwarded(note(translator, write));
    const Bytes said = done ? write_response({.message_id = 7}, 10)
                            : error_response(kWrite, {.message_id = 7, .status = 0xC000007F});
    const auto plan = translator.response(said, said.size());
    REQUIRE(plan);
    CHECK(plan->written.has_value() == done);
    if (done) CHECK(*plan->written == file(9));
  }
}
