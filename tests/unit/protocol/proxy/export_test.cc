// SPDX-License-Identifier: MIT
// A channel goes from one process to another at any moment, and nothing of it is lost.
#include <doctest/doctest.h>

#include "other_side.h"

using namespace proxy_test;  // NOLINT: the tests' own helpers

namespace {

/// What crosses from one process to the other.
struct Exported {
  std::array<UniqueFd, 2> descriptors;
  Bytes state;
};

Exported exported(Channel handle) {
  smbdirect_channel* channel = handle.release();  // which this ends
  std::array<int, 2> descriptors{-1, -1};
  size_t size = 0;
  REQUIRE(smbdirect_channel_export(channel, descriptors.data(), nullptr, &size) == -ENOSPC);
  REQUIRE(size > 0);
  Exported result;
  result.state.resize(size);
  size_t less = size - 1;
  REQUIRE(smbdirect_channel_export(channel, descriptors.data(), result.state.data(), &less) == -ENOSPC);
  CHECK(less == size);
  CHECK(descriptors[0] == -1);
  size = less + 100;  // more room than it takes
  result.state.resize(size);
  REQUIRE(smbdirect_channel_export(channel, descriptors.data(), result.state.data(), &size) == 0);
  result.state.resize(size);
  CHECK(size == less);
  result.descriptors = {UniqueFd(descriptors[0]), UniqueFd(descriptors[1])};
  return result;
}

int import_into(const Exported& from, Channel& into, const Bytes& state) {
  const std::array<int, 2> descriptors{from.descriptors[0].get(), from.descriptors[1].get()};
  smbdirect_channel* channel = nullptr;
  const int result = smbdirect_channel_import(descriptors.data(), state.data(), state.size(), &channel);
  into.reset(channel);
  return result;
}

Channel imported(Exported from) {
  Channel channel;
  REQUIRE(import_into(from, channel, from.state) == 0);
  for (UniqueFd& fd : from.descriptors) (void)fd.release();
  return channel;
}

}  // namespace

TEST_CASE("a channel that nothing was said on is handed over whole") {
  Opened opened;
  opened.channel = imported(exported(std::move(opened.channel)));
  CHECK(is_ours(smbdirect_channel_fd(*opened)));
  const smbdirect_facts* facts = smbdirect_channel_facts(*opened);
  CHECK(facts->negotiate_size == some_facts().negotiate.size());
  CHECK(facts->max_operations == some_facts().max_operations);
  facts->area[3] = 9;
  uint8_t byte = 0;
  CHECK(pread(opened.area.get(), &byte, 1, 3) == 1);
  CHECK(byte == 9);
  CHECK(opened.worker.silent());
  CHECK(read_one(*opened, 1) == -EINVAL);
  opened.attach();
  CHECK(send_pdu(*opened, pattern(64, 1)) == 0);
  CHECK(opened.worker.hear_frame().body == pattern(64, 1));
}

TEST_CASE("a channel is handed over in the middle of frames, in both directions") {
  Opened opened;
  opened.attach();
  REQUIRE(read_one(*opened, 100) == 0);
  REQUIRE(read_one(*opened, 200) == 0);
  const Bytes large = pattern(4 * 1024 * 1024, 1);
  REQUIRE(send_pdu(*opened, large) == 0);
  REQUIRE(send_pdu(*opened, pattern(100, 2)) == 0);
  const int64_t unsent = smbdirect_channel_flush(*opened);
  REQUIRE(unsent > 0);

  // Two messages and a part of a third have been read, and the first was returned.
  const Bytes third = frame(FrameType::pdu, pattern(900, 5));
  opened.worker.say(frame(FrameType::pdu, pattern(64, 3)) + frame(FrameType::pdu, pattern(65, 4)) +
                    frame(FrameType::done, {}, 200) + Bytes(third.begin(), third.begin() + 20));
  smbdirect_event event{};
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);

  const int times = 3;
  for (int i = 0; i < times; ++i) opened.channel = imported(exported(std::move(opened.channel)));
  CHECK(smbdirect_channel_events(*opened) == (POLLIN | POLLOUT));
  REQUIRE(smbdirect_channel_attach(*opened) == 0);
  REQUIRE(send_pdu(*opened, pattern(7, 6)) == 0);
  CHECK(read_one(*opened, 100) == -EEXIST);

  opened.worker.say(Bytes(third.begin() + 20, third.end()));
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(pdu_of(event) == pattern(65, 4));
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(event.id == 200);
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(pdu_of(event) == pattern(900, 5));
  opened.worker.say(frame(FrameType::done, {}, 100));
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(event.id == 100);

  std::vector<OtherSide::Heard> heard;
  {
    const std::jthread worker([&] {
      for (int i = 0; i < 6; ++i) heard.push_back(opened.worker.hear_frame());
    });
    while (smbdirect_channel_flush(*opened) > 0) {
      pollfd entry{.fd = smbdirect_channel_fd(*opened), .events = POLLOUT, .revents = 0};
      REQUIRE(poll(&entry, 1, 10'000) == 1);
    }
  }
  CHECK(heard[0].header.id == 100);
  CHECK(heard[1].header.id == 200);
  CHECK(heard[2].body == large);
  CHECK(heard[3].body == pattern(100, 2));
  CHECK(heard[4].header.type == FrameType::attached);
  CHECK(heard[5].body == pattern(7, 6));
}

TEST_CASE("what waits may begin within a frame that was wholly copied") {
  Opened opened;
  opened.attach();
  const Bytes large = pattern(1024 * 1024, 1);
  REQUIRE(send_pdu(*opened, large) == 0);
  REQUIRE(send_pdu(*opened, large) == 0);
  REQUIRE(send_pdu(*opened, large) == 0);
  // Until the second one is being sent.
  Bytes heard;
  while (smbdirect_channel_flush(*opened) > int64_t(large.size() * 3 / 2)) {
    heard = heard + opened.worker.hear(64 * 1024);
  }
  opened.channel = imported(exported(std::move(opened.channel)));
  REQUIRE(smbdirect_channel_attach(*opened) == 0);
  while (smbdirect_channel_flush(*opened) > 0) heard = heard + opened.worker.hear(64 * 1024);
  const Bytes whole = frame(FrameType::reply, large);
  const auto version = proxy::encode_version();
  const Bytes expected = whole + whole + whole + frame(FrameType::attached, {version.begin(), version.end()});
  heard = heard + opened.worker.hear(expected.size() - heard.size());
  CHECK(heard == expected);
}

TEST_CASE("a channel does not leave one behind that came with it") {
  Opened opened;
  auto [ours, other_end] = socket_pair();
  OtherSide(std::move(ours)).say(facts_frame(), opened.area.get());
  opened.worker.say(frame(FrameType::pdu, pattern(64, 1)));
  opened.worker.say(frame(FrameType::channel), other_end.get());
  smbdirect_event event{};
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(event.type == SMBDIRECT_EVENT_PDU);
  std::array<int, 2> descriptors{};
  Bytes state(64 * 1024);
  size_t size = state.size();
  CHECK(smbdirect_channel_export(*opened, descriptors.data(), state.data(), &size) == -EBUSY);
  CHECK(size == state.size());
  REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
  REQUIRE(event.type == SMBDIRECT_EVENT_CHANNEL);
  smbdirect_channel_close(event.channel);
  opened.channel = imported(exported(std::move(opened.channel)));
  opened.attach();
}

TEST_CASE("a channel that has ended is not handed over") {
  Opened opened;
  opened.attach();
  opened.worker.close();
  smbdirect_event event{};
  std::array<int, 2> descriptors{};
  size_t size = 0;
  SUBCASE("as reading found") { CHECK(smbdirect_channel_next(*opened, &event) == -ECONNRESET); }
  SUBCASE("as sending found") { CHECK(send_pdu(*opened, pattern(10, 1)) == -ECONNRESET); }
  CHECK(smbdirect_channel_export(*opened, descriptors.data(), nullptr, &size) == -ECONNRESET);
}

TEST_CASE("what is no state is refused, and the descriptors stay the caller's") {
  Opened opened;
  opened.attach();
  REQUIRE(read_one(*opened, 1) == 0);
  REQUIRE(read_one(*opened, 2) == 0);
  const Exported from = exported(std::move(opened.channel));
  Channel channel;
  for (size_t size = 0; size < from.state.size(); ++size) {
    // On the heap in its exact size, for the sanitizers.
    const Bytes cut(from.state.begin(), from.state.begin() + std::ptrdiff_t(size));
    CHECK(import_into(from, channel, cut) == -EPROTO);
  }
  CHECK(import_into(from, channel, from.state + Bytes(1)) == -EPROTO);
  CHECK(import_into(from, channel, from.state + Bytes(8)) == -EPROTO);
  // The fixed part: none of its bytes may be another.
  for (size_t at = 0; at < 40; ++at) {
    for (const int bit : {0x01, 0x80}) {
      Bytes state = from.state;
      state[at] ^= static_cast<std::byte>(bit);
      CHECK(import_into(from, channel, state) == -EPROTO);
    }
  }
  Bytes state = from.state;
  std::swap_ranges(state.end() - 16, state.end() - 8, state.end() - 8);  // operations out of order
  CHECK(import_into(from, channel, state) == -EPROTO);

  const std::array<int, 2> swapped{from.descriptors[1].get(), from.descriptors[0].get()};
  smbdirect_channel* none = nullptr;
  CHECK(smbdirect_channel_import(swapped.data(), from.state.data(), from.state.size(), &none) == -EPROTO);
  const UniqueFd small = make_area(4096);
  const std::array<int, 2> other{from.descriptors[0].get(), small.get()};
  CHECK(smbdirect_channel_import(other.data(), from.state.data(), from.state.size(), &none) == -EPROTO);
  CHECK(none == nullptr);
  CHECK(fcntl(from.descriptors[0].get(), F_GETFD) >= 0);
  CHECK(import_into(from, channel, from.state) == 0);
  const Exported gone = exported(std::move(channel));
  (void)gone;
  // Both have them now: they were exported from the same numbers.
  for (const auto& fd : gone.descriptors) CHECK(fcntl(fd.get(), F_GETFD) >= 0);
}
