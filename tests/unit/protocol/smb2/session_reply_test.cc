// SPDX-License-Identifier: MIT
#include "protocol/smb2/session_reply.h"

#include <doctest/doctest.h>

#include "build_pdu.h"

using namespace smb2_test;  // NOLINT: a test speaks of one thing
using smbdirect::protocol::smb2::kSessionReplyBytes;
using smbdirect::protocol::smb2::shows_session;

namespace {

Bytes reply(uint16_t command, uint32_t status) {
  Bytes bytes(64 + 9);
  put(bytes, 0, 0x424D53FE, 4);
  put(bytes, 4, 64, 2);
  put(bytes, 8, status, 4);
  put(bytes, 12, command, 2);
  put(bytes, 16, kResponse, 4);
  return bytes;
}

}  // namespace

TEST_CASE("a session shows in a SESSION_SETUP answered with success, and in an encrypted reply") {
  const Bytes whole = reply(kSessionSetup, 0);
  CHECK(shows_session(whole));
  CHECK(shows_session(std::span(whole).first(kSessionReplyBytes)));
  Bytes encrypted(52 + 64);
  put(encrypted, 0, 0x424D53FD, 4);
  CHECK(shows_session(encrypted));
}

TEST_CASE("nothing else shows one: a further leg, an interim answer, a refusal, another command") {
  constexpr uint32_t kMoreProcessing = 0xC0000016, kLogonFailure = 0xC000006D;
  for (const uint32_t status : {kMoreProcessing, kPending, kLogonFailure, kBufferOverflow}) {
    CHECK_FALSE(shows_session(reply(kSessionSetup, status)));
  }
  for (uint16_t command = 0; command < 20; ++command) {
    CHECK(shows_session(reply(command, 0)) == (command == kSessionSetup));
  }
  const Bytes whole = reply(kSessionSetup, 0);
  for (size_t length = 0; length < kSessionReplyBytes; ++length) {
    CHECK_FALSE(shows_session(std::span(whole).first(length)));
  }
  for (const uint32_t id : {0x424D53FCu, 0x424D53FFu, 0u}) {
    Bytes other = whole;
    put(other, 0, id, 4);
    CHECK_FALSE(shows_session(other));
  }
}
