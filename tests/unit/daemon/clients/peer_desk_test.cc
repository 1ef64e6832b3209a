// SPDX-License-Identifier: MIT
// The server's main process, and the children that it is asked for. Channels that are passed have tests of
// their own (peer_desk_pass_test.cc).
#include <cerrno>
#include <filesystem>
#include <sys/stat.h>
#include <sys/un.h>

#include <doctest/doctest.h>

#include "peer_desk_rig.h"
#include "shm/registry_reader.h"

using namespace smbdirect::daemon;        // NOLINT: a test of one part and what it speaks to
using namespace smbdirect::daemon::test;  // NOLINT
namespace shm = smbdirect::shm;
namespace fs = std::filesystem;

TEST_CASE("one main process is registered at a time, and another once it has gone") {
  Desk desk;
  CHECK(desk.desk.main_pid() == 0);
  MainEnd first = desk.register_main();
  first.hear_registered();
  CHECK(desk.desk.main_pid() == getpid());
  MainEnd second = desk.register_main();
  const auto refused = second.hear();
  REQUIRE(refused);
  CHECK(refused->header.type == proxy::FrameType::refused);
  CHECK(refused->header.count == EBUSY);
  CHECK(second.ended());
  CHECK_FALSE(first.ended());
  first.close();
  until(desk.loop, [&] { return desk.desk.main_pid() == 0; });
  MainEnd third = desk.register_main();
  third.hear_registered();
  third.say(Bytes(16, std::byte{0xFF}));  // nonsense ends it
  until(desk.loop, [&] { return desk.desk.main_pid() == 0; });
  CHECK(third.ended());
}

TEST_CASE("a process is asked for with all that its child must know; what failed is told to its worker") {
  Desk desk;
  MainEnd main = desk.register_main();
  main.hear_registered();
  desk.connect(1, 0, "192.0.2.7");
  desk.clients->claimed(desk.ref(0), 1, guid(9));
  desk.answered(0, 1, ClaimOutcome::granted);
  desk.connect(2, 1, "2001:db8::7");  // without a GUID that counts
  desk.desk.wanted(0, 1, guid(4));
  desk.desk.wanted(1, 2, guid(5));
  std::vector<uint64_t> numbers;
  for (uint8_t n = 0; n < 2; ++n) {
    const auto heard = main.hear();
    REQUIRE(heard);
    CHECK(heard->header.type == proxy::FrameType::start);
    numbers.push_back(heard->header.id);
    const auto start = proxy::parse_start(heard->body);
    REQUIRE(start);
    CHECK(start->cookie == proxy::Cookie(guid(uint8_t(4 + n))));
    CHECK(start->client_guid == (n == 0 ? guid(9) : shm::Guid{}));
    const auto host = shm::host_of(*shm::address_from_text(n == 0 ? "192.0.2.7" : "2001:db8::7", 1));
    CHECK(start->client == proxy::address_of_host(host, 40'000));
    CHECK(start->socket == desk.directory.path + "/channel-" + std::to_string(n));
  }
  CHECK(desk.desk.totals() == "processes_asked=2 channels_passed=0");
  CHECK(desk.silent());
  main.say(failed(numbers[1], ENOMEM));
  main.say(failed(numbers[0], 0));
  main.say(failed(12'345, EIO));  // nobody's
  turn(desk.loop);
  desk.refused(1, 2, ENOMEM);
  desk.refused(0, 1, ECONNREFUSED);
  CHECK(desk.silent());
  desk.desk.forget(0, 1);  // its connection has ended
  desk.desk.forget_worker(1);
  main.say(failed(numbers[0], EIO));
  main.say(failed(numbers[1], EIO));
  turn(desk.loop);
  CHECK(desk.silent());
}

TEST_CASE("who asks for what is not to be had is refused: no main process, twice, another's connection") {
  Desk desk;
  desk.connect(1, 0);
  desk.desk.wanted(0, 1, guid(4));
  desk.refused(0, 1, ENOTCONN);
  MainEnd main = desk.register_main();
  main.hear_registered();
  desk.desk.wanted(0, 1, guid(4));  // it was not asked for yet
  REQUIRE(main.hear());
  desk.desk.wanted(0, 1, guid(4));
  desk.refused(0, 1, EPERM);
  desk.desk.wanted(1, 1, guid(4));
  desk.refused(1, 1, EPERM);
  desk.desk.wanted(1, 99, guid(4));
  desk.refused(1, 99, EPERM);
  desk.desk.use(nullptr);  // a pool without native peers
  desk.connect(2, 0);
  desk.desk.wanted(0, 2, guid(4));
  desk.refused(0, 2, EPERM);
  CHECK_FALSE(main.hear());
  CHECK(desk.desk.totals() == "processes_asked=1 channels_passed=0");
}

TEST_CASE("a main process that reads nothing costs the clients of that time, no more") {
  Desk desk;
  MainEnd main = desk.register_main();
  uint64_t number = 0;
  do {
    desk.connect(++number, 0);
    desk.desk.wanted(0, number, guid(4));
  } while (desk.silent() && number < 100'000);
  CHECK(number < 100'000);
  CHECK(desk.desk.main_pid() == getpid());
  main.hear_registered();
  while (main.hear()) {
  }
  desk.desk.wanted(0, number, guid(4));  // again: it was not asked for
  CHECK(main.hear());
}

TEST_CASE("a worker gets the registry, and a door of its own that goes with it") {
  Desk desk;
  desk.serve(1, 0, guid(1));
  desk.desk.worker_ready(0);
  const auto registry = desk.tell(0, MessageType::registry);
  const auto reader = shm::RegistryReader::open(registry.descriptor.get());
  REQUIRE(reader);
  CHECK(reader->find(guid(1))->peer.pid == uint32_t(getpid()));
  const auto door = desk.tell(0, MessageType::door);
  const std::string path = desk.directory.path + "/channel-0";
  struct stat status{};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  const auto address = unix_address(path);
  const shm::UniqueFd comer = unix_socket();
  REQUIRE(connect(comer.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0);
  CHECK(shm::UniqueFd(accept4(door.descriptor.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid());
  desk.desk.forget_worker(0);
  CHECK_FALSE(fs::exists(path));
  desk.desk.worker_ready(0);  // its successor
  CHECK(fs::exists(path));
  fs::remove(path);
  fs::create_directory(path);  // no socket can be made: it has the registry, and nothing else
  while (desk.told(0)) {
  }
  desk.desk.worker_ready(0);
  (void)desk.tell(0, MessageType::registry);
  CHECK(desk.silent());
}
