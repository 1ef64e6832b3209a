// SPDX-License-Identifier: MIT
#include "protocol/smb2/connection_sessions.h"

#include <cstdint>
#include <initializer_list>

#include <doctest/doctest.h>

#include "protocol/smb2/fields.h"

using namespace smbdirect::protocol::smb2;

namespace {

constexpr uint32_t kMoreProcessing = 0xC0000016;
constexpr uint32_t kLogonFailure = 0xC000006D;
constexpr uint32_t kAccessDenied = 0xC0000022;

ConnectionSessions with(std::initializer_list<uint64_t> ids) {
  ConnectionSessions sessions;
  for (const uint64_t id : ids) sessions.answered(Command::session_setup, 0, id);
  return sessions;
}

}  // namespace

TEST_CASE("a session is the connection's once smbd has let it in there") {
  ConnectionSessions sessions;
  CHECK_FALSE(sessions.usable(0));
  sessions.answered(Command::session_setup, kMoreProcessing, 7);
  CHECK_FALSE(sessions.usable(7));
  sessions.answered(Command::session_setup, kLogonFailure, 7);
  CHECK_FALSE(sessions.usable(7));
  sessions.answered(Command::session_setup, 0, 7);
  CHECK(sessions.usable(7));
  for (const uint64_t other : {0ULL, 6ULL, 8ULL}) CHECK_FALSE(sessions.usable(other));
}

TEST_CASE("no other answer makes a session the connection's") {
  ConnectionSessions sessions = with({5});
  for (uint16_t command = 0; command <= uint16_t(Command::oplock_break); ++command) {
    if (Command(command) == Command::session_setup) continue;
    for (const uint32_t status : {0U, kStatusUserSessionDeleted, kStatusNetworkSessionExpired, kAccessDenied})
      sessions.answered(Command(command), status, 7);
  }
  CHECK_FALSE(sessions.usable(7));
  CHECK(sessions.usable(5));
}

TEST_CASE("who has logged off has no session, nor has whose session smbd does not know") {
  ConnectionSessions sessions = with({9, 3, 6});
  sessions.answered(Command::logoff, kAccessDenied, 6);
  CHECK(sessions.usable(6));
  sessions.answered(Command::logoff, 0, 6);
  CHECK_FALSE(sessions.usable(6));
  sessions.answered(Command::read, kStatusUserSessionDeleted, 3);
  CHECK_FALSE(sessions.usable(3));
  sessions.answered(Command::read, 0, 3);  // which nobody sends
  CHECK_FALSE(sessions.usable(3));
  CHECK(sessions.usable(9));
  sessions.answered(Command::session_setup, 0, 6);
  CHECK(sessions.usable(6));
}

TEST_CASE("a session that has expired is out until smbd does something in it") {
  for (const Command heard : {Command::read, Command::write, Command::create, Command::query_info}) {
    ConnectionSessions sessions = with({4, 8});
    sessions.answered(heard, kStatusNetworkSessionExpired, 4);
    CHECK_FALSE(sessions.usable(4));
    CHECK(sessions.may_close(4));
    CHECK_FALSE(sessions.may_close(5));
    CHECK(sessions.usable(8));
    // What smbd does in one that has expired as well says nothing (MS-SMB2 3.3.5.2.9).
    for (const Command other : {Command::close, Command::lock, Command::echo, Command::cancel})
      sessions.answered(other, 0, 4);
    sessions.answered(Command::read, kAccessDenied, 4);
    CHECK_FALSE(sessions.usable(4));
    SUBCASE("it was let in again here") { sessions.answered(Command::session_setup, 0, 4); }
    SUBCASE("by another channel, as a READ shows") { sessions.answered(Command::read, 0, 4); }
    SUBCASE("or a WRITE") { sessions.answered(Command::write, 0, 4); }
    CHECK(sessions.usable(4));
  }
}

TEST_CASE("while a client logs on anew, and when it has failed to, smbd is asked") {
  for (const uint32_t status : {kMoreProcessing, kLogonFailure}) {
    ConnectionSessions sessions = with({4});
    sessions.answered(Command::session_setup, status, 4);
    CHECK_FALSE(sessions.usable(4));
    sessions.answered(Command::write, 0, 4);
    CHECK(sessions.usable(4));
  }
}

TEST_CASE("sessions of one connection are bounded") {
  ConnectionSessions sessions;
  for (uint64_t id = 1; id <= ConnectionSessions::kMost + 10; ++id)
    sessions.answered(Command::session_setup, 0, id);
  CHECK(sessions.usable(1));
  CHECK(sessions.usable(ConnectionSessions::kMost));
  CHECK_FALSE(sessions.usable(ConnectionSessions::kMost + 1));
  CHECK(sessions.may_close(ConnectionSessions::kMost + 1));  // it is not known
  sessions.answered(Command::logoff, 0, 1);
  sessions.answered(Command::session_setup, 0, ConnectionSessions::kMost + 1);
  CHECK(sessions.usable(ConnectionSessions::kMost + 1));
}
