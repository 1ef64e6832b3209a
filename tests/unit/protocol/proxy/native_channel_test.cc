// SPDX-License-Identifier: MIT
// Opening a channel, and what a worker may say on it, honest or not.
#include <chrono>
#include <netinet/in.h>
#include <sys/resource.h>

#include <doctest/doctest.h>

#include "other_side.h"

using namespace proxy_test;  // NOLINT: the tests' own helpers

namespace {

/// What opening comes to with a worker that answers HELLO with `answer`.
int opened_against(const std::function<void(OtherSide&)>& answer) {
  Place place;
  smbdirect_channel* channel = nullptr;
  const smbdirect_start start = place.start();
  const int result = place.against(
      [&] {
        OtherSide worker = place.accept();
        const auto hello = worker.hear_frame();
        CHECK(hello.header.type == FrameType::hello);
        CHECK(proxy::parse_hello(hello.body) == kCookie);
        answer(worker);
      },
      [&] { return smbdirect_channel_open(&start, &channel); });
  CHECK((result == 0) == (channel != nullptr));
  smbdirect_channel_close(channel);
  return result;
}

int opened_with(int area, const proxy::Facts& facts = some_facts()) {
  return opened_against([&](OtherSide& worker) { worker.say(facts_frame(facts), area); });
}

/// A pipe whose reader sees when the last writer is closed.
struct Watched {
  UniqueFd reader;
  UniqueFd writer;
  Watched() {
    std::array<int, 2> ends{};
    REQUIRE(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }
  [[nodiscard]] bool closed() const {
    char byte = 0;
    return read(reader.get(), &byte, 1) == 0;
  }
};

/// The next event is the end of the channel, for this reason, and it stays so.
void check_broken(smbdirect_channel* channel, int reason = -EPROTO) {
  smbdirect_event event{};
  CHECK(smbdirect_channel_next(channel, &event) == reason);
  CHECK(smbdirect_channel_next(channel, &event) == reason);
}

}  // namespace

TEST_CASE("the facts are the worker's, and the area is shared with it") {
  const Opened opened;
  CHECK(is_ours(smbdirect_channel_fd(*opened)));
  CHECK(smbdirect_channel_events(*opened) == POLLIN);
  const smbdirect_facts* facts = smbdirect_channel_facts(*opened);
  const proxy::Facts said = some_facts();
  CHECK(facts->max_pdu == said.max_pdu);
  CHECK(facts->max_read_write == said.max_read_write);
  CHECK(facts->max_operations == said.max_operations);
  CHECK(std::memcmp(facts->client_guid, said.client_guid.bytes.data(), 16) == 0);
  REQUIRE(facts->negotiate_size == said.negotiate.size());
  CHECK(std::memcmp(facts->negotiate, said.negotiate.data(), said.negotiate.size()) == 0);
  sockaddr_in client{};
  std::memcpy(&client, &facts->client, sizeof client);
  CHECK(client.sin_family == AF_INET);
  CHECK(client.sin_port == htons(50001));
  sockaddr_in6 server{};
  std::memcpy(&server, &facts->server, sizeof server);
  CHECK(server.sin6_family == AF_INET6);
  CHECK(server.sin6_port == htons(445));
  CHECK(server.sin6_addr.s6_addr[0] == 0x20);
  CHECK(server.sin6_addr.s6_addr[15] == 1);

  REQUIRE(facts->area_size == kAreaBytes);
  facts->area[0] = 0x5A;
  facts->area[kAreaBytes - 1] = 0xA5;
  uint8_t byte = 0;
  CHECK(pread(opened.area.get(), &byte, 1, 0) == 1);
  CHECK(byte == 0x5A);
  byte = 0x77;
  CHECK(pwrite(opened.area.get(), &byte, 1, 1) == 1);
  CHECK(facts->area[1] == 0x77);
  CHECK(pread(opened.area.get(), &byte, 1, kAreaBytes - 1) == 1);
  CHECK(byte == 0xA5);
}

TEST_CASE("a worker that does not know the cookie closes") {
  CHECK(opened_against([](OtherSide&) {}) == -EACCES);
  const UniqueFd area = make_area();
  CHECK(opened_against([&](OtherSide& worker) {
          Bytes cut = facts_frame();
          cut.resize(40);
          worker.say(cut, area.get());
        }) == -EACCES);
}

TEST_CASE("where no worker listens, or the start is none") {
  Place place;
  smbdirect_channel* channel = nullptr;
  smbdirect_start start = place.start();
  place.stop_listening();
  CHECK(smbdirect_channel_open(&start, &channel) == -ECONNREFUSED);
  std::memset(start.socket, 'x', sizeof start.socket);
  CHECK(smbdirect_channel_open(&start, &channel) == -EINVAL);
  start.socket[0] = 0;
  CHECK(smbdirect_channel_open(&start, &channel) == -EINVAL);
  std::strcpy(start.socket, "/nonexistent/socket");
  CHECK(smbdirect_channel_open(&start, &channel) == -ENOENT);
}

TEST_CASE("an area that could go away, or is not what was said, is refused") {
  CHECK(opened_with(make_area().get()) == 0);
  CHECK(opened_with(make_area(kAreaBytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL).get()) == 0);
  CHECK(opened_with(make_area(kAreaBytes - 1).get()) == -EPROTO);
  CHECK(opened_with(make_area(kAreaBytes + 4096).get()) == -EPROTO);
  CHECK(opened_with(make_area(kAreaBytes, F_SEAL_SHRINK).get()) == -EPROTO);
  CHECK(opened_with(make_area(kAreaBytes, F_SEAL_GROW).get()) == -EPROTO);
  CHECK(opened_with(make_area(kAreaBytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE).get()) == -EPROTO);
  const Watched pipe;
  CHECK(opened_with(pipe.writer.get()) == -EPROTO);
  proxy::Facts facts = some_facts();
  facts.area_bytes = 0;
  CHECK(opened_with(make_area(0).get(), facts) == -EPROTO);
  facts.area_bytes = UINT64_MAX;
  CHECK(opened_with(make_area().get(), facts) == -EPROTO);
}

TEST_CASE("a worker that begins with something else than facts and their descriptor is refused") {
  const UniqueFd area = make_area();
  const auto answered = [&](const Bytes& bytes, bool with_area) {
    return opened_against([&](OtherSide& worker) {
      if (with_area) {
        worker.say(bytes, area.get());
      } else {
        worker.say(bytes);
      }
    });
  };
  CHECK(answered(facts_frame(), false) == -EPROTO);
  CHECK(answered(frame(FrameType::pdu, pattern(70, 1)), true) == -EPROTO);
  CHECK(answered(frame(FrameType::registered, Bytes(4)), true) == -EPROTO);
  CHECK(answered(frame(FrameType(0xFFFF)), true) == -EPROTO);
  CHECK(answered(frame(FrameType::facts, Bytes(100)), true) == -EPROTO);  // version 0
  proxy::Facts facts = some_facts();
  facts.max_operations = 0;
  CHECK(answered(facts_frame(facts), true) == -EPROTO);
  facts = some_facts();
  facts.negotiate.resize(proxy::kMaxNegotiate);
  CHECK(answered(facts_frame(facts), true) == 0);
  facts.negotiate.resize(proxy::kMaxNegotiate + 1);
  CHECK(answered(facts_frame(facts), true) == -EPROTO);
}

TEST_CASE("the descriptor is the one that came with the frame's first byte") {
  const Bytes facts = facts_frame();
  const Bytes head(facts.begin(), facts.begin() + 1);
  const Bytes rest(facts.begin() + 1, facts.end());
  const UniqueFd area = make_area();
  CHECK(opened_against([&](OtherSide& worker) {
          worker.say(head, area.get());
          worker.say(rest);
        }) == 0);
  const Watched extra;
  CHECK(opened_against([&](OtherSide& worker) {
          worker.say(facts, std::array{area.get(), extra.writer.get(), extra.writer.get()});
        }) == 0);
  // On the second byte it is no frame's.
  CHECK(opened_against([&](OtherSide& worker) {
          worker.say(head);
          std::this_thread::sleep_for(std::chrono::milliseconds(100));
          worker.say(rest, area.get());
        }) == -EPROTO);
}

TEST_CASE("messages, completions and channels come as events, split at every byte and all at once") {
  Opened opened;
  opened.attach();
  auto [ours, other_end] = socket_pair();
  OtherSide other(std::move(ours));
  other.say(facts_frame(), opened.area.get());
  REQUIRE(read_one(*opened, 41) == 0);
  REQUIRE(read_one(*opened, 42) == 0);
  const std::vector<Bytes> frames = {
      frame(FrameType::pdu, pattern(300, 1)), frame(FrameType::done, {}, 42), frame(FrameType::channel),
      frame(FrameType::pdu, pattern(1, 2)),   frame(FrameType::done, {}, 41),
  };
  std::vector<smbdirect_event> events;
  std::vector<Bytes> pdus;
  const auto collect = [&] {
    smbdirect_event event{};
    int got = 0;
    while ((got = smbdirect_channel_next(*opened, &event)) == 1) {
      events.push_back(event);
      if (event.type == SMBDIRECT_EVENT_PDU) pdus.push_back(pdu_of(event));
    }
    CHECK(got == 0);
  };
  SUBCASE("at every byte") {
    size_t expected = 0;
    for (const Bytes& bytes : frames) {
      for (size_t i = 0; i < bytes.size(); ++i) {
        CHECK(events.size() == expected);
        if (i == 0 && &bytes == &frames[2]) {
          opened.worker.say({bytes[i]}, other_end.get());
        } else {
          opened.worker.say({bytes[i]});
        }
        collect();
      }
      ++expected;
    }
  }
  SUBCASE("at once") {
    opened.worker.say(frames[0] + frames[1]);
    opened.worker.say(frames[2] + frames[3], other_end.get());
    opened.worker.say(frames[4]);
    collect();
  }
  SUBCASE("nothing is glued to what brings a descriptor") {
    opened.worker.say(frames[0]);
    opened.worker.say(frames[1]);
    opened.worker.say(frames[2], other_end.get());
    opened.worker.say(frames[3] + Bytes(frames[4].begin(), frames[4].begin() + 3));
    collect();
    CHECK(events.size() == 4);
    opened.worker.say(Bytes(frames[4].begin() + 3, frames[4].end()));
    collect();
  }
  REQUIRE(events.size() == 5);
  CHECK(pdus == std::vector{pattern(300, 1), pattern(1, 2)});
  CHECK(events[1].type == SMBDIRECT_EVENT_DONE);
  CHECK(events[1].id == 42);
  REQUIRE(events[2].type == SMBDIRECT_EVENT_CHANNEL);
  CHECK(events[4].type == SMBDIRECT_EVENT_DONE);
  CHECK(events[4].id == 41);

  const Channel second(events[2].channel);
  CHECK(is_ours(smbdirect_channel_fd(second.get())));
  CHECK(smbdirect_channel_facts(second.get())->area_size == kAreaBytes);
  CHECK(send_pdu(second.get(), pattern(10, 1)) == -EINVAL);  // not attached, whatever the first one is
  REQUIRE(smbdirect_channel_attach(second.get()) == 0);
  const auto heard = other.hear_frame();
  CHECK(heard.header.type == FrameType::attached);
  CHECK(proxy::parse_version(heard.body));
}

TEST_CASE("a channel that ends before it is there is no event and no harm") {
  Opened opened;
  auto [ours, other_end] = socket_pair();
  const Bytes pdu = frame(FrameType::pdu, pattern(64, 3));
  SUBCASE("it is closed") { ours.reset(); }
  SUBCASE("its facts come without area") { OtherSide(std::move(ours)).say(facts_frame()); }
  SUBCASE("it is no socket") {
    Watched pipe;
    other_end = std::move(pipe.writer);
  }
  opened.worker.say(frame(FrameType::channel), other_end.get());
  opened.worker.say(pdu);
  smbdirect_event event{};
  REQUIRE(await_event(*opened, event) == 1);
  CHECK(event.type == SMBDIRECT_EVENT_PDU);
  CHECK(pdu_of(event) == pattern(64, 3));
}

TEST_CASE("a channel that this process has no descriptor left for is no harm either") {
  Opened opened;
  auto [ours, other_end] = socket_pair();
  opened.worker.say(frame(FrameType::channel), other_end.get());
  opened.worker.say(frame(FrameType::pdu, pattern(64, 3)));
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{.rlim_cur = 3, .rlim_max = limit.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  smbdirect_event event{};
  const int got = smbdirect_channel_next(*opened, &event);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(got == 1);
  CHECK(event.type == SMBDIRECT_EVENT_PDU);
}

TEST_CASE("descriptors that no frame has are closed") {
  Opened opened;
  Watched pipe;
  auto [ours, other_end] = socket_pair();
  OtherSide(std::move(ours)).say(facts_frame(), opened.area.get());
  opened.worker.say(frame(FrameType::pdu, pattern(64, 1)), std::array{pipe.writer.get(), pipe.writer.get()});
  opened.worker.say(frame(FrameType::channel), std::array{other_end.get(), pipe.writer.get()});
  const Bytes large = frame(FrameType::pdu, pattern(100, 2));
  for (const std::byte byte : large) opened.worker.say({byte}, pipe.writer.get());
  opened.worker.say(frame(FrameType::pdu, pattern(1, 2)));
  pipe.writer.reset();
  smbdirect_event event{};
  for (int i = 0; i < 4; ++i) {
    REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
    if (event.type == SMBDIRECT_EVENT_CHANNEL) smbdirect_channel_close(event.channel);
  }
  CHECK(smbdirect_channel_next(*opened, &event) == 0);
  opened.channel.reset();
  CHECK(pipe.closed());
}

TEST_CASE("what a worker may not say ends the channel") {
  Opened opened;
  opened.attach();
  smbdirect_event event{};
  SUBCASE("a channel without its descriptor") { opened.worker.say(frame(FrameType::channel)); }
  SUBCASE("facts again") { opened.worker.say(facts_frame(), opened.area.get()); }
  SUBCASE("a completion of nothing") { opened.worker.say(frame(FrameType::done, {}, 0)); }
  SUBCASE("a completion twice") {
    REQUIRE(read_one(*opened, 5) == 0);
    opened.worker.say(frame(FrameType::done, {}, 5) + frame(FrameType::done, {}, 5));
    CHECK(smbdirect_channel_next(*opened, &event) == 1);
  }
  SUBCASE("a peer's type") { opened.worker.say(frame(FrameType::attached, Bytes(4))); }
  SUBCASE("an unknown type") { opened.worker.say(frame(FrameType(99))); }
  SUBCASE("an empty message") { opened.worker.say(frame(FrameType::pdu)); }
  SUBCASE("a message larger than any") {
    const auto header = proxy::encode_header({.length = proxy::kMaxPdu + 1, .type = FrameType::pdu});
    opened.worker.say({header.begin(), header.end()});
  }
  SUBCASE("a length beyond everything") {
    const auto header = proxy::encode_header({.length = UINT32_MAX, .type = FrameType::pdu});
    opened.worker.say({header.begin(), header.end()});
  }
  check_broken(*opened);
}

TEST_CASE("the end comes after everything before it") {
  Opened opened;
  opened.attach();
  opened.worker.say(frame(FrameType::pdu, pattern(64, 1)) + frame(FrameType::pdu, pattern(64, 2)));
  SUBCASE("between frames") {}
  SUBCASE("within one") { opened.worker.say(frame(FrameType(2), Bytes(3))); }
  opened.worker.close();
  CHECK(send_pdu(*opened, pattern(10, 1)) == -ECONNRESET);
  CHECK(smbdirect_channel_flush(*opened) == -ECONNRESET);
  smbdirect_event event{};
  CHECK(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(smbdirect_channel_next(*opened, &event) == 1);
  CHECK(pdu_of(event) == pattern(64, 2));
  if (smbdirect_channel_next(*opened, &event) == 1) CHECK(pdu_of(event) == Bytes(3));
  check_broken(*opened, -ECONNRESET);
}
