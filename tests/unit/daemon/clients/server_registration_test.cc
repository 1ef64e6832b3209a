// SPDX-License-Identifier: MIT
#include "daemon/clients/server_registration.h"

#include <cerrno>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

#include "peer_support.h"

using namespace smbdirect::daemon;        // NOLINT: a test of one part and what it speaks to
using namespace smbdirect::daemon::test;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

/// A registration, and what its owner is told.
struct Registration {
  shm::Loop loop;
  std::vector<std::pair<uint64_t, int>> failures;
  std::vector<std::string> gone;
  std::unique_ptr<ServerRegistration> main;
  std::optional<MainEnd> end;

  Registration() {
    auto [ours, theirs] = socket_pair();
    end.emplace(std::move(theirs));
    auto adopted = ServerRegistration::adopt(
        loop, std::move(ours), [this](uint64_t number, int error) { failures.emplace_back(number, error); },
        [this](const std::string& why) {
          gone.push_back(why);
          main.reset();  // as the channel router does
        });
    REQUIRE(adopted);
    main = std::move(*adopted);
    end->hear_registered();
  }
};

proxy::Start some_start() {
  proxy::Start start{
      .cookie = {std::byte{1}}, .client_guid = {std::byte{2}}, .client = {}, .socket = "/run/x"};
  start.client.port = 4;
  return start;
}

}  // namespace

TEST_CASE("a main process is told its registration, and then of clients, each in one frame") {
  Registration registration;
  CHECK(registration.main->pid() == getpid());
  REQUIRE(registration.main->start(12, some_start()));
  REQUIRE(registration.main->start(13, some_start()));
  for (const uint64_t number : {12, 13}) {
    const auto heard = registration.end->hear();
    REQUIRE(heard);
    CHECK(heard->header.type == proxy::FrameType::start);
    CHECK(heard->header.id == number);
    const auto start = proxy::parse_start(heard->body);
    REQUIRE(start);
    CHECK(start->cookie == some_start().cookie);
    CHECK(start->client_guid == some_start().client_guid);
    CHECK(start->client == some_start().client);
    CHECK(start->socket == "/run/x");
  }
  CHECK_FALSE(registration.end->hear());
}

TEST_CASE("its failures come in any pieces, several at once") {
  Registration registration;
  const Bytes one = failed(12, ENOMEM);
  registration.end->say(std::span(one).first(5));
  turn(registration.loop);
  CHECK(registration.failures.empty());
  Bytes rest(one.begin() + 5, one.end());
  for (const Bytes& more : {failed(13, 0), failed(14, 0xFFFF)})
    rest.insert(rest.end(), more.begin(), more.end());
  registration.end->say(rest);
  turn(registration.loop);
  CHECK(registration.failures == std::vector<std::pair<uint64_t, int>>{{12, ENOMEM}, {13, 0}, {14, 0xFFFF}});
  CHECK(registration.gone.empty());
}

TEST_CASE("the end of its connection, or a word that is none of its own, ends the registration once") {
  Registration registration;
  std::string why;
  SUBCASE("closed") {
    registration.end->close();
    why = "it has ended";
  }
  SUBCASE("closed, after a last word") {
    registration.end->say(failed(12, EIO));
    registration.end->close();
    why = "it has ended";
  }
  SUBCASE("a daemon's word") {
    Bytes word = failed(1, 0);
    word[4] = std::byte{uint8_t(proxy::FrameType::start)};
    registration.end->say(word);
    why = proxy::frame_error_text(proxy::FrameError::unknown_type);
  }
  SUBCASE("a body where there is none") {
    Bytes word = failed(1, 0);
    word[0] = std::byte{1};
    registration.end->say(word);
    why = proxy::frame_error_text(proxy::FrameError::bad_length);
  }
  until(registration.loop, [&] { return !registration.gone.empty(); });
  turn(registration.loop);
  CHECK(registration.gone == std::vector<std::string>{why});
}

TEST_CASE("who does not listen is told nothing, and that is said") {
  Registration registration;
  SUBCASE("it has gone") {
    registration.end->close();
    const auto told = registration.main->start(1, some_start());
    REQUIRE_FALSE(told);
    CHECK(told.error().system_errno == EPIPE);
  }
  SUBCASE("it does not read") {
    uint64_t told = 0;
    shm::Result<> last;
    while (told < 100'000 && (last = registration.main->start(told + 1, some_start()))) ++told;
    REQUIRE_FALSE(last);
    CHECK(last.error().system_errno == EAGAIN);
    for (uint64_t number = 1; number <= told; ++number) {  // what it was told is whole
      const auto heard = registration.end->hear();
      REQUIRE(heard);
      CHECK(heard->header.id == number);
    }
    CHECK_FALSE(registration.end->hear());
    CHECK(registration.main->start(1, some_start()));
  }
}

TEST_CASE("who is not taken hears why") {
  auto [ours, theirs] = socket_pair();
  MainEnd end(std::move(theirs));
  ServerRegistration::refuse(ours, EBUSY);
  ours.reset();
  const auto heard = end.hear();
  REQUIRE(heard);
  CHECK(heard->header.type == proxy::FrameType::refused);
  CHECK(heard->header.count == EBUSY);
  CHECK(end.ended());
  auto [deaf, gone] = socket_pair();
  gone.reset();
  ServerRegistration::refuse(deaf, EBUSY);
}

TEST_CASE("who has gone before it is taken is not registered") {
  shm::Loop loop;
  auto [ours, theirs] = socket_pair();
  theirs.reset();
  CHECK_FALSE(ServerRegistration::adopt(loop, std::move(ours), {}, {}));
  CHECK(ServerRegistration::pid_of(shm::UniqueFd()) == 0);
}
