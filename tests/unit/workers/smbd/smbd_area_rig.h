// SPDX-License-Identifier: MIT
// A session whose smbd has the module: both are played by the test, which has the module's end of the link
// and its mapping of the memory. One test, one thread.
#pragma once

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

namespace smbdirect::workers::session_test {

using fabric::Access;
using smb2_test::get;
using smb2_test::pattern;
using smb2_test::put;

inline constexpr uint32_t kThreshold = 65536, kAreaBytes = 1 << 20;
inline constexpr uint64_t kSession = 0x1122334455;
inline constexpr uint32_t kTree = 7;

/// A session with smbd, and the module's end of a link.
struct Area final : SmbdExchangeRig {
  explicit Area(uint32_t bytes = kAreaBytes, bool direct = false) : SmbdExchangeRig({}, direct) {
    areas.bytes = bytes;
    open();
  }
  ~Area() override {
    if (memory != nullptr) munmap(memory, areas.bytes);
  }

  void say(uint32_t type, uint32_t number = 0, uint64_t session = 0) {
    Bytes packet(256);
    put(packet, 0, type, 4);
    put(packet, 4, number, 4);
    put(packet, 8, session, 8);
    std::ranges::copy(token, packet.begin() + 16);
    REQUIRE(::send(module.get(), packet.data(), packet.size(), MSG_NOSIGNAL) == 256);
    wait(0);
  }
  /// The first READ asks; it goes inline.
  void ask() {
    Bytes into(kThreshold);
    const auto at = expose(into, Access::remote_write);
    from_client(smb2_test::read_request({.message_id = 100, .credit_charge = 16},
                                        {.length = kThreshold, .channel = 1, .memory = {at}}));
    settle();
    REQUIRE(smbd.heard.size() == 1);
    REQUIRE(get(smbd.heard[0], 12, 2) == smb2_test::kRead);
    smbd.answer(smb2_test::read_response({.message_id = 100}, pattern(kThreshold, 3)));
    settle();
    REQUIRE(into == pattern(kThreshold, 3));
    smbd.heard.clear();
    client_side = {};
  }
  void link() {
    shm::UniqueFd ours;
    std::tie(module, ours) = test::socket_pair(SOCK_SEQPACKET);
    exchange->module_answered(std::move(ours));
  }
  /// What the worker says, with the descriptor that came along.
  std::optional<std::pair<Bytes, shm::UniqueFd>> heard() {
    Bytes packet(256);
    auto seen = test::receive_with(module.get(), packet, MSG_DONTWAIT);
    if (!seen) return std::nullopt;
    REQUIRE(seen->bytes == 256);
    REQUIRE(seen->descriptors.size() == 1);
    return std::pair{packet, std::move(seen->descriptors[0])};
  }
  /// The link stands, the memory is mapped; nothing is announced.
  void attach() {
    link();
    say(1, SMBDIRECT_LINK_VERSION);
    auto area = heard();
    REQUIRE(area);
    REQUIRE(get(area->first, 0, 4) == 5);
    std::copy_n(area->first.begin() + 16, 16, token.begin());
    REQUIRE(area->second.valid());
    const int seals = fcntl(area->second.get(), F_GET_SEALS);
    REQUIRE((seals & F_SEAL_SHRINK) != 0);
    memory = static_cast<std::byte*>(
        mmap(nullptr, areas.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, area->second.get(), 0));
    REQUIRE(memory != MAP_FAILED);
    say(6);
  }
  void use() {
    ask();
    CHECK(asked == 1);
    attach();
    say(2, kTree, kSession);
  }
  bool gone() {
    char byte = 0;
    return ::recv(module.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }

  shm::UniqueFd module;
  std::array<std::byte, 16> token{};
  std::byte* memory = nullptr;
};

inline Bytes read_of(uint64_t id, uint32_t length, const std::vector<smb2::BufferDescriptor>& memory,
                     uint32_t channel = 1) {
  return smb2_test::read_request({.message_id = id, .credit_charge = 16},
                                 {.length = length, .channel = channel, .memory = memory});
}

}  // namespace smbdirect::workers::session_test
