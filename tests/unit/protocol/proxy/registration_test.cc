// SPDX-License-Identifier: MIT
// A main process's registration, against a daemon that is a thread of the test.
#include <chrono>
#include <netinet/in.h>

#include <doctest/doctest.h>

#include "other_side.h"

using namespace proxy_test;  // NOLINT: the tests' own helpers

namespace {

Bytes version_body(unsigned version = 1) {
  return {static_cast<std::byte>(version), std::byte{}, std::byte{}, std::byte{}};
}

Bytes start_frame(uint64_t id, const std::string& socket) {
  proxy::Start start{.cookie = kCookie, .client_guid = {}, .client = some_facts().client, .socket = socket};
  start.client_guid.bytes[15] = static_cast<std::byte>(id);
  return frame(FrameType::start, proxy::encode_start(start), id);
}

void hear_line(OtherSide& daemon) {
  const Bytes line = daemon.hear(proxy::kRegisterLine.size());
  CHECK(std::memcmp(line.data(), proxy::kRegisterLine.data(), line.size()) == 0);
  CHECK(daemon.silent());
}

/// What opening is answered with by a daemon that answers with this and closes.
int opened_against(const Bytes& answer) {
  Place place;
  smbdirect_main* main_process = nullptr;
  const int result = place.against(
      [&] {
        OtherSide daemon = place.accept();
        hear_line(daemon);
        if (!answer.empty()) daemon.say(answer);
      },
      [&] { return smbdirect_main_open(place.path().c_str(), &main_process); });
  CHECK((result == 0) == (main_process != nullptr));
  smbdirect_main_close(main_process);
  return result;
}

Bytes text(std::string_view characters) {
  const auto bytes = std::as_bytes(std::span(characters));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("the daemon's answer decides") {
  CHECK(opened_against(frame(FrameType::registered, version_body())) == 0);
  CHECK(opened_against(frame(FrameType::refused, {}, 0, EBUSY)) == -EBUSY);
  CHECK(opened_against(frame(FrameType::refused, {}, 0, EOPNOTSUPP)) == -EOPNOTSUPP);
  CHECK(opened_against(frame(FrameType::refused, {}, 0, 0)) == -EPROTO);
  CHECK(opened_against(frame(FrameType::refused, {}, 0, 0xFFFF)) == -EPROTO);
  CHECK(opened_against(text("{\"error\":\"unknown command\"}\n")) == -EOPNOTSUPP);
  CHECK(opened_against(text("{}\n")) == -EOPNOTSUPP);
  CHECK(opened_against(frame(FrameType::registered, version_body(2))) == -EPROTO);
  CHECK(opened_against(frame(FrameType::pdu, version_body())) == -EPROTO);
  CHECK(opened_against(start_frame(1, "/s")) == -EPROTO);
  CHECK(opened_against(text("HTTP/1.1 400 Bad Request\r\n")) == -EPROTO);
  CHECK(opened_against({}) == -ECONNRESET);
  CHECK(opened_against(text("abc")) == -ECONNRESET);
}

TEST_CASE("where no daemon listens") {
  smbdirect_main* main_process = nullptr;
  Place place;
  CHECK(smbdirect_main_open((place.path() + "-not").c_str(), &main_process) == -ENOENT);
  CHECK(smbdirect_main_open("", &main_process) == -ENOENT);
  CHECK(smbdirect_main_open(std::string(200, 'x').c_str(), &main_process) == -ENAMETOOLONG);
  place.stop_listening();
  CHECK(smbdirect_main_open(place.path().c_str(), &main_process) == -ECONNREFUSED);
  CHECK(main_process == nullptr);
}

TEST_CASE("clients are announced, in whatever pieces, until the daemon goes") {
  Place place;
  OtherSide daemon;
  smbdirect_main* opened = nullptr;
  const Bytes first = start_frame(7, "/run/smbdirectd/worker-0");
  REQUIRE(place.against(
              [&] {
                daemon = place.accept();
                hear_line(daemon);
                daemon.say(frame(FrameType::registered, version_body()) + first);
              },
              [&] { return smbdirect_main_open(place.path().c_str(), &opened); }) == 0);
  const Main main_process(opened);
  CHECK(is_ours(smbdirect_main_fd(main_process.get())));
  smbdirect_start start{};
  REQUIRE(smbdirect_main_next(main_process.get(), &start) == 1);
  CHECK(start.number == 7);
  CHECK(std::memcmp(start.cookie, kCookie.bytes.data(), kCookie.bytes.size()) == 0);
  CHECK(start.client_guid[15] == 7);
  sockaddr_in client{};
  std::memcpy(&client, &start.client, sizeof client);
  CHECK(client.sin_family == AF_INET);
  CHECK(client.sin_port == htons(50001));
  CHECK(client.sin_addr.s_addr == htonl(0xC0000207));
  CHECK(std::string(start.socket) == "/run/smbdirectd/worker-0");
  CHECK(smbdirect_main_next(main_process.get(), &start) == 0);

  const std::string longest(proxy::kMaxSocketPath, 's');
  const Bytes second = start_frame(8, longest);
  for (size_t i = 0; i < second.size(); ++i) {
    CHECK(smbdirect_main_next(main_process.get(), &start) == 0);
    daemon.say({second[i]});
  }
  REQUIRE(smbdirect_main_next(main_process.get(), &start) == 1);
  CHECK(start.number == 8);
  CHECK(std::string(start.socket) == longest);

  daemon.say(start_frame(9, "/a") + start_frame(10, "/b"));
  daemon.close();
  CHECK(smbdirect_main_next(main_process.get(), &start) == 1);
  CHECK(smbdirect_main_next(main_process.get(), &start) == 1);
  CHECK(start.number == 10);
  CHECK(smbdirect_main_next(main_process.get(), &start) == -ECONNRESET);
  CHECK(smbdirect_main_next(main_process.get(), &start) == -ECONNRESET);
  CHECK(smbdirect_main_failed(main_process.get(), 10, EAGAIN) == -ECONNRESET);
}

TEST_CASE("the daemon learns whom no child was started for; what it may not say ends the registration") {
  Place place;
  OtherSide daemon;
  smbdirect_main* opened = nullptr;
  REQUIRE(place.against(
              [&] {
                daemon = place.accept();
                hear_line(daemon);
                daemon.say(frame(FrameType::registered, version_body()));
              },
              [&] { return smbdirect_main_open(place.path().c_str(), &opened); }) == 0);
  const Main main_process(opened);
  const std::pair<int, int> cases[] = {
      {ENOMEM, ENOMEM}, {-EMFILE, EMFILE}, {0, 1}, {100'000, 4095}, {INT_MIN, 1}};
  for (const auto& [given, said] : cases) {
    CHECK(smbdirect_main_failed(main_process.get(), 0x1234567890, given) == 0);
    const auto heard = daemon.hear_frame(Sender::main);
    CHECK(heard.header.type == FrameType::failed);
    CHECK(heard.header.id == 0x1234567890);
    CHECK(heard.header.count == said);
  }
  smbdirect_start start{};
  SUBCASE("a second answer") {
    daemon.say(frame(FrameType::registered, version_body()));
    CHECK(smbdirect_main_next(main_process.get(), &start) == -EPROTO);
  }
  SUBCASE("a client that makes no sense") {
    daemon.say(start_frame(1, std::string("a\0b", 3)));
    CHECK(smbdirect_main_next(main_process.get(), &start) == -EPROTO);
  }
  SUBCASE("a refusal after all") {
    daemon.say(frame(FrameType::refused, {}, 0, ESHUTDOWN));
    CHECK(smbdirect_main_next(main_process.get(), &start) == -ECONNRESET);
  }
  daemon.say(start_frame(1, "/a"));
  CHECK(smbdirect_main_next(main_process.get(), &start) < 0);  // and it stays at that
}

TEST_CASE("who does not answer is waited for 5 s, in all") {
  Place daemon;
  Place worker;
  const auto begin = std::chrono::steady_clock::now();
  int channel_result = 0;
  smbdirect_main* main_process = nullptr;
  const int main_result = daemon.against(
      [&] {
        smbdirect_channel* channel = nullptr;
        const smbdirect_start start = worker.start();
        channel_result = smbdirect_channel_open(&start, &channel);
        CHECK(channel == nullptr);
      },
      [&] { return smbdirect_main_open(daemon.path().c_str(), &main_process); });
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(main_result == -ETIMEDOUT);
  CHECK(channel_result == -ETIMEDOUT);
  CHECK(took >= std::chrono::milliseconds(4900));
  CHECK(took < std::chrono::seconds(9));
}
