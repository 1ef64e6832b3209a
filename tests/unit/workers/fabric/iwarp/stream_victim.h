// SPDX-License-Identifier: MIT
// A stream that a test feeds with FPDUs made by hand, and what it must answer to those that break a rule.
// Owned by the test.
#pragma once

#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "bytes.h"
#include "support.h"
#include "wire.h"
#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/stream.h"

namespace smbdirect::test {

inline constexpr iwarp::StreamLimits kLimits{
    .max_send_work = 8, .max_receive_work = 8, .max_inbound_reads = 2, .max_outbound_reads = 4};

/// A stream that hand-made FPDUs are fed to.
struct Victim {
  explicit Victim(bool crc = true) : stream(kLimits), memory(4096) {
    stream.establish({.crc = crc, .ird = 2, .ord = 4}, 1448, true);
  }
  fabric::RemoteMemory expose(fabric::Access access, size_t size = 1000) {
    return *stream.expose(std::span(memory).first(size), access);
  }
  iwarp::Stream stream;
  std::vector<std::byte> memory;
};

/// Feeds the bytes whole and byte by byte into equal victims; both must fault with this code.
template <class Prepare>
void must_terminate(iwarp::TerminateCode code, bool shows_header, Prepare prepare) {
  for (const size_t piece : {size_t{1} << 20, size_t{1}, size_t{7}}) {
    Victim victim;
    const std::vector<std::byte> bytes = prepare(victim);
    feed(victim.stream, bytes, piece);
    REQUIRE(victim.stream.fault().has_value());
    const auto& fault = *victim.stream.fault();
    CHECK_MESSAGE(fault.code == code, iwarp::terminate_text(fault.code));
    CHECK_FALSE(fault.from_peer);
    CHECK(std::string_view(fault.why) != "");
    CHECK(victim.stream.completions().empty());
    // And what goes out is that Terminate, once, with the segment it is about.
    const std::vector<std::byte> before = take_all(victim.stream);
    victim.stream.terminate(fault);
    const std::vector<std::byte> wire = take_all(victim.stream);
    CHECK(victim.stream.terminate_sent());
    CHECK(take_all(victim.stream).empty());
    REQUIRE(wire.size() >= 28);
    const auto header = iwarp::parse_ddp_header(std::span(wire).subspan(2));
    REQUIRE(header.has_value());
    CHECK(header->opcode == 7);
    CHECK(header->queue == 2);
    CHECK(header->msn == 1);
    CHECK(header->last);
    const size_t ulpdu = iwarp::get_be16(wire.data());
    const auto message = iwarp::parse_terminate(std::span(wire).subspan(20, ulpdu - 18));
    REQUIRE(message.has_value());
    CHECK(message->code == code);
    CHECK(message->header.has_value() == shows_header);
  }
}

inline iwarp::DdpHeader send_header(uint32_t msn, uint32_t mo = 0, bool last = true) {
  return {.last = last, .opcode = 3, .queue = 0, .msn = msn, .mo = mo};
}

inline std::vector<std::byte> bytes_of(size_t n) { return std::vector<std::byte>(n, std::byte{0x5a}); }

}  // namespace smbdirect::test
