// SPDX-License-Identifier: MIT
// The server's main process, and the children that it is asked for. Channels that are passed have tests of
// their own (channel_router_pass_test.cc).
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include <doctest/doctest.h>

#include "channel_router_rig.h"
#include "shm/registry_reader.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon;        // NOLINT: a test of one part and what it speaks to
using namespace smbdirect::daemon::test;  // NOLINT
namespace shm = smbdirect::shm;
namespace fs = std::filesystem;

TEST_CASE("one main process is registered at a time, and another once it has gone") {
  RouterRig router;
  CHECK(router.router.main_pid() == 0);
  MainEnd first = router.register_main();
  first.hear_registered();
  CHECK(router.router.main_pid() == getpid());
  MainEnd second = router.register_main();
  const auto refused = second.hear();
  REQUIRE(refused);
  CHECK(refused->header.type == proxy::FrameType::refused);
  CHECK(refused->header.count == EBUSY);
  CHECK(second.ended());
  CHECK_FALSE(first.ended());
  first.close();
  until(router.loop, [&] { return router.router.main_pid() == 0; });
  MainEnd third = router.register_main();
  third.hear_registered();
  third.say(Bytes(16, std::byte{0xFF}));  // nonsense ends it
  until(router.loop, [&] { return router.router.main_pid() == 0; });
  CHECK(third.ended());
}

TEST_CASE("a process is asked for with all that its child must know; what failed is told to its worker") {
  RouterRig router;
  MainEnd main = router.register_main();
  main.hear_registered();
  router.connect(1, 0, "192.0.2.7");
  router.clients->claimed(router.ref(0), 1_c, guid(9));
  router.answered(0, shm::ConnectionId{1}, ClaimOutcome::granted);
  router.connect(2, 1, "2001:db8::7");  // without a GUID that counts
  router.router.wanted(0, 1_c, cookie(4));
  router.router.wanted(1, 2_c, cookie(5));
  std::vector<uint64_t> numbers;
  for (uint8_t n = 0; n < 2; ++n) {
    const auto heard = main.hear();
    REQUIRE(heard);
    CHECK(heard->header.type == proxy::FrameType::start);
    numbers.push_back(heard->header.id);
    const auto start = proxy::parse_start(heard->body);
    REQUIRE(start);
    CHECK(start->cookie == cookie(uint8_t(4 + n)));
    CHECK(start->client_guid.bytes == (n == 0 ? guid(9) : shm::Guid{}).bytes);
    const auto host = shm::host_of(*shm::address_from_text(n == 0 ? "192.0.2.7" : "2001:db8::7", 1));
    CHECK(start->client == proxy::address_of_host(host, 40'000));
    CHECK(start->socket ==
          router.directory.path + "/channel-" + std::to_string(n) + "." + std::to_string(getpid()));
  }
  CHECK(shm::totals_text(router.router.totals()) == "processes_asked=2 channels_passed=0");
  CHECK(router.silent());
  main.say(failed(numbers[1], ENOMEM));
  main.say(failed(numbers[0], 0));
  main.say(failed(12'345, EIO));  // nobody's
  turn(router.loop);
  router.refused(1, shm::ConnectionId{2}, ENOMEM);
  router.refused(0, shm::ConnectionId{1}, ECONNREFUSED);
  CHECK(router.silent());
  router.router.forget(0, 1_c);  // its connection has ended
  router.router.forget_worker(1);
  main.say(failed(numbers[0], EIO));
  main.say(failed(numbers[1], EIO));
  turn(router.loop);
  CHECK(router.silent());
}

TEST_CASE("who asks for what is not to be had is refused: no main process, twice, another's connection") {
  RouterRig router;
  router.connect(1, 0);
  router.router.wanted(0, 1_c, cookie(4));
  router.refused(0, shm::ConnectionId{1}, ENOTCONN);
  MainEnd main = router.register_main();
  main.hear_registered();
  router.router.wanted(0, 1_c, cookie(4));  // it was not asked for yet
  REQUIRE(main.hear());
  router.router.wanted(0, 1_c, cookie(4));
  router.refused(0, shm::ConnectionId{1}, EPERM);
  router.router.wanted(1, 1_c, cookie(4));
  router.refused(1, shm::ConnectionId{1}, EPERM);
  router.router.wanted(1, 99_c, cookie(4));
  router.refused(1, shm::ConnectionId{99}, EPERM);
  router.router.use(nullptr);  // a pool without native peers
  router.connect(2, 0);
  router.router.wanted(0, 2_c, cookie(4));
  router.refused(0, shm::ConnectionId{2}, EPERM);
  CHECK_FALSE(main.hear());
  CHECK(shm::totals_text(router.router.totals()) == "processes_asked=1 channels_passed=0");
}

TEST_CASE(
    "a registration goes to the daemon that takes over, and what was asked for before is not mixed up with "
    "it") {
  RouterRig former, heir;
  MainEnd main = former.register_main();
  main.hear_registered();
  former.connect(1, 0);
  former.router.wanted(0, 1_c, cookie(4));
  const auto first = main.hear();
  REQUIRE(first);
  auto [socket, next] = former.router.hand_over();
  CHECK(former.router.main_pid() == 0);
  heir.router.inherit(std::move(socket), next);
  CHECK(heir.router.main_pid() == getpid());
  CHECK_FALSE(main.hear());  // it is not told twice that it is registered
  heir.connect(1, 0);
  heir.router.wanted(0, 1_c, cookie(5));
  const auto second = main.hear();
  REQUIRE(second);
  CHECK(second->header.type == proxy::FrameType::start);
  CHECK(second->header.id != first->header.id);
  main.say(failed(first->header.id, ENOMEM));
  turn(heir.loop);
  CHECK(heir.silent());
  main.say(failed(second->header.id, ENOMEM));
  turn(heir.loop);
  heir.refused(0, shm::ConnectionId{1}, ENOMEM);
  main.close();
  until(heir.loop, [&] { return heir.router.main_pid() == 0; });
  // Without a registration there is nothing to hand over.
  auto nothing = heir.router.hand_over();
  CHECK_FALSE(nothing.first.valid());
  former.router.inherit(std::move(nothing.first), nothing.second);
  CHECK(former.router.main_pid() == 0);
}

TEST_CASE("a main process that reads nothing costs the clients of that time, no more") {
  RouterRig router;
  MainEnd main = router.register_main();
  uint64_t number = 0;
  do {
    router.connect(++number, 0);
    router.router.wanted(0, shm::ConnectionId{number}, cookie(4));
  } while (router.silent() && number < 100'000);
  CHECK(number < 100'000);
  CHECK(router.router.main_pid() == getpid());
  main.hear_registered();
  while (main.hear()) {
  }
  router.router.wanted(0, shm::ConnectionId{number}, cookie(4));  // again: it was not asked for
  CHECK(main.hear());
}

TEST_CASE("sockets that a killed daemon left are removed, and no others") {
  RouterRig router;
  const fs::path at = router.directory.path;
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  REQUIRE(waitpid(gone, nullptr, 0) == gone);
  const std::string mine = "channel-7." + std::to_string(getpid());
  for (const std::string& name :
       {"channel-0." + std::to_string(gone), mine, std::string("channel-1"), std::string("channel-1.x"),
        "other-0." + std::to_string(gone), std::string("control")})
    REQUIRE(shm::UniqueFd(open((at / name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid());
  router.router.use(nullptr);
  CHECK_FALSE(fs::exists(at / ("channel-0." + std::to_string(gone))));
  for (const std::string& name : {mine, std::string("channel-1"), std::string("channel-1.x"),
                                  "other-0." + std::to_string(gone), std::string("control")})
    CHECK(fs::exists(at / name));
}

TEST_CASE("a worker gets the registry, and a socket of its own for server processes that goes with it") {
  RouterRig router;
  router.serve(1, 0, guid(1));
  router.router.worker_ready(0);
  const auto registry = router.tell<message::Registry>(0);
  const auto reader = shm::RegistryReader::open(registry.descriptor.get());
  REQUIRE(reader);
  CHECK(reader->find(guid(1))->peer.pid == uint32_t(getpid()));
  const auto listener = router.tell<message::PeerListener>(0);
  const std::string path = router.directory.path + "/channel-0." + std::to_string(getpid());
  struct stat status{};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  const auto address = unix_address(path);
  const shm::UniqueFd comer = unix_socket();
  REQUIRE(connect(comer.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0);
  CHECK(shm::UniqueFd(accept4(listener.descriptor.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid());
  router.router.forget_worker(0);
  CHECK_FALSE(fs::exists(path));
  router.router.worker_ready(0);  // its successor
  CHECK(fs::exists(path));
  fs::remove(path);
  fs::create_directory(path);  // no socket can be made: it has the registry, and nothing else
  while (router.told(0)) {
  }
  router.router.worker_ready(0);
  (void)router.tell<message::Registry>(0);
  CHECK(router.silent());
}
