// SPDX-License-Identifier: MIT
// WRITEs of a mapped file's bytes: they arrive as the file has them, and a file that becomes shorter under
// them ends that connection, with nothing else at the peer than what the file had.
#include <algorithm>
#include <array>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "support.h"

namespace smbdirect::test {
namespace {

using fabric::CloseCause;
using fabric::Op;

constexpr uint32_t kBytes = 2 << 20, kPiece = 256 << 10, kPage = 4096;

/// A file in memory and a window on it.
struct File {
  explicit File(std::span<const std::byte> contents) : fd(::memfd_create("sent", MFD_CLOEXEC)) {
    REQUIRE(::write(fd.get(), contents.data(), contents.size()) == ssize_t(contents.size()));
    void* at = ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    REQUIRE(at != MAP_FAILED);
    window = {static_cast<std::byte*>(at), kBytes};
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::munmap(window.data(), window.size()); }
  shm::UniqueFd fd;
  std::span<std::byte> window;
};

/// A server that writes the file into its client's memory, and then sends a byte.
struct Sending {
  explicit Sending(const PairOptions& sockets, std::span<const std::byte> contents)
      : file(contents), pair(loop, without_crc(), without_crc(), sockets), into(kBytes, std::byte{0xEE}) {
    REQUIRE(pair.establish());
    REQUIRE(pair.server->attributes().sends_files);
    std::array<std::byte, 8> hello{};
    REQUIRE(pair.server->post_receive(1, sge(greeting)));
    REQUIRE(pair.client->post_receive(2, sge(last)));
    const fabric::Sge pieces[] = {sge(hello)};
    REQUIRE(pair.client->post_send(3, pieces));
    pair.client->ring();
    REQUIRE(loop.until([&] { return pair.server_events.count(Op::receive) == 1; }));
    const auto at = pair.client->expose(into, fabric::Access::remote_write);
    REQUIRE(at);
    for (uint32_t from = 0; from < kBytes; from += kPiece) {
      const fabric::Sge piece[] = {sge(file.window.subspan(from, kPiece))};
      REQUIRE(pair.server->post_write(from, piece, {.offset = at->offset + from, .token = at->token}));
    }
    const fabric::Sge end[] = {sge(std::span(hello).first(1))};
    REQUIRE(pair.server->post_send(4, end));
  }
  static iwarp::Options without_crc() {
    iwarp::Options options;
    options.want_crc = false;
    return options;
  }
  [[nodiscard]] bool arrived() const { return pair.client_events.count(Op::receive) == 1; }

  Loop loop;
  File file;
  EndpointPair pair;
  std::vector<std::byte> into;
  std::array<std::byte, 8> greeting{}, last{};
};

TEST_CASE("the bytes of a file are sent from where they are") {
  const auto contents = random_bytes(kBytes, 5);
  Sending sending({}, contents);
  sending.pair.server->ring();
  REQUIRE(sending.loop.until([&] { return sending.arrived(); }));
  CHECK(sending.into == contents);
  CHECK(sending.pair.server_events.count(Op::rdma_write) == kBytes / kPiece);
}

TEST_CASE("not where CRCs are counted: that would read them") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  REQUIRE(pair.establish());
  CHECK(!pair.server->attributes().sends_files);
}

TEST_CASE("a file that becomes shorter ends the connection, wherever that is") {
  const uint64_t seed = 20261130;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const auto contents = random_bytes(kBytes, seed);
  int whole = 0, ended = 0, inside = 0;
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const PairOptions tiny{.send_buffer = 1, .receive_buffer = 1};
    Sending sending(round % 3 == 0 ? PairOptions{} : tiny, contents);
    const bool at_once = round % 4 == 0;
    if (!at_once) {
      sending.pair.server->ring();
      sending.loop.turn(int(random() % 40));
    }
    REQUIRE(::ftruncate(sending.file.fd.get(), off_t(random() % (kBytes / kPage) * kPage)) == 0);
    if (at_once) sending.pair.server->ring();
    REQUIRE(sending.loop.until([&] {
      return sending.arrived() ||
             (sending.pair.server_events.closed_calls == 1 && sending.pair.client_events.closed_calls == 1);
    }));
    uint32_t placed = 0;
    while (placed < kBytes && sending.into[placed] == contents[placed]) ++placed;
    if (sending.arrived()) {
      ++whole;
      CHECK(placed == kBytes);
      continue;
    }
    ++ended;
    CHECK(sending.pair.server_events.close.cause == CloseCause::source_gone);
    CHECK(sending.pair.client_events.close.cause != CloseCause::peer_closed);
    // What has not come is as it was; a byte of the file's may look like that, by chance.
    CHECK(std::all_of(sending.into.begin() + placed + (placed < kBytes ? 1 : 0), sending.into.end(),
                      [&](const std::byte& b) {
                        return b == std::byte{0xEE} || b == contents[size_t(&b - sending.into.data())];
                      }));
    if (placed > 0) ++inside;
  }
  CHECK(whole > 0);
  CHECK(ended > 10);
  CHECK(inside > 5);
}

}  // namespace
}  // namespace smbdirect::test
