// SPDX-License-Identifier: MIT
// The worker's words to a supervisor that does not read for a while: none is lost, and they keep their order.
#include "workers/process/control_sender.h"

#include <fcntl.h>
#include <memory>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/shm/connection_literal.h"
#include "tests/unit/unix_sockets.h"

namespace shm = smbdirect::shm;
using smbdirect::operator""_c;
using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using smbdirect::daemon::FromWorker;
namespace message = smbdirect::daemon::message;

namespace {

constexpr uint32_t kGeneration = 3;
constexpr uint64_t kMany = 20'000;  // more than a control socket holds

struct Line {
  smbdirect::shm::UniqueFd worker, supervisor;
  std::vector<bool> backlog;
  std::unique_ptr<ControlSender> sender;

  Line() {
    std::tie(worker, supervisor) = smbdirect::test::socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
    sender = std::make_unique<ControlSender>(worker.get(), kGeneration,
                                             [this](bool waits) { backlog.push_back(waits); });
  }
  /// Everything the supervisor can read now.
  std::vector<smbdirect::daemon::Received<FromWorker>> read() {
    std::vector<smbdirect::daemon::Received<FromWorker>> all;
    while (true) {
      auto received = smbdirect::daemon::receive_message<FromWorker>(supervisor.get());
      REQUIRE(received);
      if (!*received) return all;
      all.push_back(std::move(**received));
    }
  }
};

}  // namespace

TEST_CASE("where there is room, a word is sent at once") {
  Line line;
  CHECK(line.sender->send(message::Closed{{9_c}}));
  CHECK_FALSE(line.sender->send(message::WantModule{{9_c}, {}}));  // which has a descriptor
  CHECK(line.sender->queued() == 0);
  const auto said = line.read();
  REQUIRE(said.size() == 1);
  CHECK(said[0].generation == kGeneration);
  CHECK(std::get<message::Closed>(said[0].message).connection == 9_c);
  CHECK(line.backlog.empty());
}

TEST_CASE("what a busy supervisor has no room for comes later, in order, descriptors too") {
  Line line;
  int ends[2] = {-1, -1};
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const smbdirect::shm::UniqueFd in(ends[0]);
  smbdirect::shm::UniqueFd out(ends[1]);
  const ino_t passed = smbdirect::test::inode(out.get());
  for (uint64_t number = 1; number <= kMany; ++number) {
    line.sender->send(message::Closed{{shm::ConnectionId{number}}});
  }
  REQUIRE(line.sender->queued() > 0);
  line.sender->send(message::Pass{{shm::ConnectionId{kMany + 1}}, {}}, out.get());
  out.reset();  // a copy waits
  line.sender->send(message::Closed{{shm::ConnectionId{kMany + 2}}});
  CHECK(line.backlog == std::vector<bool>{true});
  line.sender->send_queued();  // no room yet
  CHECK(line.backlog == std::vector<bool>{true});
  uint64_t next = 1;
  while (next <= kMany + 2) {
    const auto said = line.read();
    REQUIRE_FALSE(said.empty());
    for (const auto& received : said) {
      const auto* closed = std::get_if<message::Closed>(&received.message);
      CHECK((closed != nullptr ? closed->connection : std::get<message::Pass>(received.message).connection) ==
            shm::ConnectionId{next});
      CHECK(received.descriptor.valid() == (next == kMany + 1));
      if (received.descriptor.valid()) CHECK(smbdirect::test::inode(received.descriptor.get()) == passed);
      ++next;
    }
    line.sender->send_queued();
  }
  CHECK(line.sender->queued() == 0);
  CHECK(line.backlog == std::vector<bool>{true, false});
}

TEST_CASE("a supervisor that is gone is told nothing, and nothing is kept for it") {
  Line line;
  for (uint64_t number = 1; number <= kMany; ++number) {
    line.sender->send(message::Closed{{shm::ConnectionId{number}}});
  }
  REQUIRE(line.sender->queued() > 0);
  line.sender->close();
  CHECK(line.sender->queued() == 0);
  const size_t before = line.read().size();
  CHECK(before > 0);
  line.sender->send(message::Closed{{7_c}});
  CHECK(line.read().empty());
}
