// SPDX-License-Identifier: MIT
// A server translator after NEGOTIATE, driven by whole PDUs: the client's side of it and smbd's.
#pragma once

#include <optional>

#include <doctest/doctest.h>

#include "protocol/smb2/server_translator.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;

inline constexpr uint32_t kReadTooLong = 0xFFFFFFFF;  // what makes smbd refuse a READ
inline const std::vector<BufferDescriptor> kOneDescriptor{{0xABCDE012, 0x1A00BC56, 0x100000}};
inline const std::vector<BufferDescriptor> kThreeDescriptors{
    {0xDCBA024, 0x1A00BC57, 60}, {0, 0x1A00BC58, 0}, {9, 0x1A00BC59, 40}};

/// Requests and what becomes of them.
struct RequestSide : PromptTranslator {
  explicit RequestSide(uint16_t dialect = 0x0302, uint32_t max_read = 8 << 20, uint32_t max_write = 8 << 20)
      : PromptTranslator(Limits{}) {
    if (dialect != 0) agree(*this, dialect, max_read, max_write);
  }
  /// What smbd gets; fetched bytes are `fill`.
  Bytes rewritten(const Bytes& pdu, std::byte fill = std::byte{0xEE}) {
    sent = exact(pdu);
    const auto done = request(sent, out);
    REQUIRE(done);
    Bytes wire = assemble(out, [&](const smb2::Fetch& fetch) { return Bytes(fetch.length, fill); });
    CHECK(wire.size() == out.total);
    return wire;
  }
  smb2::Violation refusal(const Bytes& pdu) {
    sent = exact(pdu);
    const auto done = request(sent, out);
    REQUIRE_FALSE(done);
    return done.error();
  }
  bool poisons(const Bytes& pdu) {
    const uint64_t before = refused_requests();
    const Bytes wire = rewritten(pdu);
    const bool read = get(wire, 12, 2) == kRead;
    const bool poisoned = read ? get(wire, 68, 4) == kReadTooLong : get(wire, 66, 2) == 0;
    CHECK(refused_requests() == before + (poisoned ? 1 : 0));
    CHECK(get(wire, read ? 100 : 96, 4) == 0);  // whatever happens, smbd never sees a Channel
    CHECK(wire.size() >= (read ? 113u : 112u));
    if (poisoned) {
      CHECK(wire.size() == (read ? 113u : 112u));
      CHECK(out.fetches.empty());
      CHECK(out.reply_bytes == 256);
    }
    return poisoned;
  }
  /// The token the final error response to request `id` invalidates.
  std::optional<uint32_t> invalidates(uint16_t command, uint64_t id) {
    const Bytes error = error_response(command, {.message_id = id, .status = kInvalidParameter});
    const auto plan = response(prefix_of(error), error.size());
    REQUIRE(plan);
    CHECK(plan->kind == smb2::ResponsePlan::Kind::pass);
    return plan->invalidate;
  }
  Bytes sent;
  smb2::RewrittenRequest out;
};

/// Requests noted, responses planned.
struct ResponseSide : PromptTranslator {
  explicit ResponseSide(uint16_t dialect = 0x0302) : PromptTranslator(Limits{}) { agree(*this, dialect); }
  void send(Bytes pdu) {
    smb2::RewrittenRequest out;
    REQUIRE(request(pdu, out));
    reserved += out.reply_bytes;
  }
  void read(uint64_t id, uint32_t channel = 2, uint32_t length = 100) {
    send(read_request({.message_id = id},
                      {.length = length, .channel = channel, .memory = kThreeDescriptors}));
  }
  void write(uint64_t id, uint32_t channel = 2) {
    send(write_request({.message_id = id}, {.length = 100, .channel = channel, .memory = kThreeDescriptors}));
  }
  void plain_read(uint64_t id) { noted(read_request({.message_id = id}, {.length = 100})); }
  void noted(const Bytes& pdu) {
    const auto info = smb2::classify_request(prefix_of(pdu), pdu.size());
    REQUIRE(info);
    REQUIRE(note(*info));
    reserved += info->reply_bytes;
  }
  smb2::ResponsePlan plan(const Bytes& pdu) {
    const auto made = response(prefix_of(pdu), pdu.size());
    REQUIRE(made);
    return *made;
  }
  smb2::Violation refusal(const Bytes& pdu) {
    const auto made = response(prefix_of(pdu), pdu.size());
    REQUIRE_FALSE(made);
    return made.error();
  }
  uint64_t reserved = 0;
};

inline void check_same(std::span<const BufferDescriptor> got, const std::vector<BufferDescriptor>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    CHECK(got[i].offset == want[i].offset);
    CHECK(got[i].token == want[i].token);
    CHECK(got[i].length == want[i].length);
  }
}

}  // namespace smb2_test
