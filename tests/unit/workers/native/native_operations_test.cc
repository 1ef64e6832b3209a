// SPDX-License-Identifier: MIT
// RDMA that a server process asks for: between its data area and the client's memory.
#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::native_test;
using fabric::Access;
using smbdirect::protocol::proxy::FrameType;

namespace {

Bytes at_area(const ExchangeRig& rig, size_t offset, size_t length) {
  return {rig.area + offset, rig.area + offset + length};
}

/// Bytes of the RDMA READs that there were, in their order.
std::vector<uint32_t> pieces(ExchangeRig& rig) {
  std::vector<uint32_t> sizes;
  constexpr std::string_view kWord = " rdma_read bytes=";
  const std::string text = rig.server->events().text(0);
  for (size_t at = text.find(kWord); at != std::string::npos; at = text.find(kWord, at + 1)) {
    sizes.push_back(uint32_t(std::stoul(text.substr(at + kWord.size()))));
  }
  return sizes;
}

}  // namespace

TEST_CASE("a read gathers the client's memory in order, in pieces, and is done once") {
  ExchangeRig rig;
  rig.open();
  // One descriptor of several pieces, one of less than a piece, one of which only the beginning is wanted.
  Bytes large = pattern(600'000, 1), small = pattern(100, 2), last = pattern(300'000, 3);
  const std::vector memory{rig.expose(large, Access::remote_read), rig.expose(small, Access::remote_read),
                           rig.expose(last, Access::remote_read)};
  constexpr uint32_t kLength = 600'000 + 100 + 270'000;
  rig.say(ExchangeRig::operation(FrameType::rdma_read, 71, 1'000, kLength, memory));
  CHECK(rig.done() == 71);
  CHECK_FALSE(rig.peer.hear());
  Bytes expected = large + small;
  expected.insert(expected.end(), last.begin(), last.begin() + 270'000);
  CHECK(at_area(rig, 1'000, kLength) == expected);
  CHECK(at_area(rig, 0, 1'000) == Bytes(1'000));
  CHECK(at_area(rig, 1'000 + kLength, 1'000) == Bytes(1'000));
  CHECK(pieces(rig) == std::vector<uint32_t>{262'144, 262'144, 75'712, 100, 262'144, 7'856});
}

TEST_CASE("a write scatters the area over the client's memory in order, in pieces, and is done once") {
  ExchangeRig rig;
  rig.open();
  Bytes small(10), large(530'000), last(1'000);
  const std::vector memory{rig.expose(small, Access::remote_write), rig.expose(large, Access::remote_write),
                           rig.expose(last, Access::remote_write)};
  constexpr uint32_t kLength = 10 + 530'000 + 999;
  const Bytes data = pattern(kLength, 5);
  std::ranges::copy(data, rig.area + kAreaBytes - kLength);  // up to the area's last byte
  rig.say(ExchangeRig::operation(FrameType::rdma_write, 72, kAreaBytes - kLength, kLength, memory));
  CHECK(rig.done() == 72);
  CHECK_FALSE(rig.peer.hear());
  Bytes written = small + large;
  written.insert(written.end(), last.begin(), last.begin() + 999);
  CHECK(written == data);
  CHECK(last.back() == std::byte{0});
}

TEST_CASE("operations of each kind are done in the order of asking, before a reply that follows them") {
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(300'000, 1), target(300'000);
  const auto from = rig.expose(source, Access::remote_read);
  const auto to = rig.expose(target, Access::remote_write);
  Bytes said = ExchangeRig::operation(FrameType::rdma_read, 1, 0, 300'000, {from}) +
               ExchangeRig::operation(FrameType::rdma_write, 2, 1'000'000, 300'000, {to}) +
               ExchangeRig::operation(FrameType::rdma_read, 3, 300'000, 1, {from}) +
               ExchangeRig::operation(FrameType::rdma_write, 4, 1'400'000, 1, {to}) +
               ExchangeRig::reply(pattern(100, 9), {to.token});
  rig.say(said);
  std::vector<uint64_t> reads, writes;
  for (int i = 0; i < 4; ++i) {
    const uint64_t id = rig.done();
    (id % 2 == 1 ? reads : writes).push_back(id);
  }
  CHECK(reads == std::vector<uint64_t>{1, 3});
  CHECK(writes == std::vector<uint64_t>{2, 4});
  CHECK(rig.client_side.complete == 1);
  CHECK(rig.client_side.invalidated == std::vector<uint32_t>{to.token});  // the writes found it valid
}

TEST_CASE("an operation frame may come in any pieces, among others") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(100'000, 1);
  const auto from = rig.expose(source, Access::remote_read);
  std::vector<Bytes> answers;
  for (uint64_t id = 1; id <= 20; ++id) {
    const auto offset = uint32_t(random() % (kAreaBytes - 100'000));
    const auto length = uint32_t(1 + random() % 100'000);
    answers.push_back(pattern(1 + random() % 20'000, uint32_t(id)));
    Bytes said = ExchangeRig::operation(FrameType::rdma_read, id, offset, length, {from}) +
                 ExchangeRig::reply(answers.back()) + attached();
    while (!said.empty()) {
      const auto here = ptrdiff_t(1 + random() % said.size());
      rig.say({said.begin(), said.begin() + here});
      said.erase(said.begin(), said.begin() + here);
    }
    CHECK(rig.done() == id);
    CHECK(at_area(rig, offset, length) == Bytes(source.begin(), source.begin() + length));
  }
  CHECK(rig.client_side.messages == answers);
  CHECK(rig.attached_by.size() == 1);  // the same process again is no news
  CHECK(rig.broken.empty());
}

TEST_CASE("bytes outside the area are nobody's to name") {
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(1'000, 1);
  const auto from = rig.expose(source, Access::remote_read);
  uint64_t offset = 0;
  uint32_t length = 1;
  SUBCASE("from the end on") { offset = kAreaBytes; }
  SUBCASE("over the end") {
    offset = kAreaBytes - 999;
    length = 1'000;
  }
  SUBCASE("around the end of numbers") {
    offset = UINT64_MAX - 10;
    length = 1'000;
  }
  rig.say(ExchangeRig::operation(FrameType::rdma_read, 1, offset, length, {from}));
  CHECK(rig.broken == "the server named bytes outside its data area");
  CHECK_FALSE(rig.peer.hear());
  CHECK(pieces(rig).empty());
}

TEST_CASE("the last byte of the area is the area's") {
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(1'000, 1);
  const auto from = rig.expose(source, Access::remote_read);
  rig.say(ExchangeRig::operation(FrameType::rdma_read, 1, kAreaBytes - 1'000, 1'000, {from}));
  CHECK(rig.done() == 1);
  CHECK(at_area(rig, kAreaBytes - 1'000, 1'000) == source);
}

TEST_CASE("an operation that says less memory than its length, or no length, ends the channel") {
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(1'000, 1);
  const auto from = rig.expose(source, Access::remote_read);
  SUBCASE("too little memory") { rig.say(ExchangeRig::operation(FrameType::rdma_read, 1, 0, 1'001, {from})); }
  SUBCASE("nothing to move") { rig.say(ExchangeRig::operation(FrameType::rdma_write, 1, 0, 0, {from})); }
  SUBCASE("no memory") { rig.say(ExchangeRig::operation(FrameType::rdma_write, 1, 0, 1, {})); }
  CHECK(rig.broken.starts_with("the server's channel: "));
}

TEST_CASE("as many operations as were promised may be without their DONE, of both kinds together") {
  ExchangeRig rig;
  rig.open();
  Bytes source = pattern(1'000, 1), target(1'000);
  const auto from = rig.expose(source, Access::remote_read);
  const auto to = rig.expose(target, Access::remote_write);
  Bytes said;
  for (uint64_t id = 1; id <= kOperations; ++id) {
    said = said + (id % 2 == 0 ? ExchangeRig::operation(FrameType::rdma_read, id, 0, 10, {from})
                               : ExchangeRig::operation(FrameType::rdma_write, id, 0, 10, {to}));
  }
  for (int round = 0; round < 3; ++round) {  // and again, once they are done
    rig.say(said);
    for (int i = 0; i < kOperations; ++i) (void)rig.done();
  }
  CHECK(rig.broken.empty());
  rig.say(said + ExchangeRig::operation(FrameType::rdma_read, 9, 0, 10, {from}));
  CHECK(rig.broken.contains("more RDMA operations in flight"));
}
