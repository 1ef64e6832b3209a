// SPDX-License-Identifier: MIT
#include "daemon/os/process_streams.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <optional>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"
#include "tests/unit/daemon/upstream/module_rig.h"

using namespace smbdirect::daemon;        // NOLINT: a test of one part
using namespace smbdirect::daemon::test;  // NOLINT: and its rig

namespace {

bool holds(const std::vector<HeldStream>& streams, const TcpStream& stream, int number) {
  return std::ranges::any_of(
      streams, [&](const HeldStream& held) { return held.stream == stream && held.number == number; });
}

}  // namespace

TEST_CASE("the two ends of a stream are each other's other end, whatever the family of their sockets") {
  for (const auto& [client, server] :
       {std::pair{"127.0.0.1", "127.0.0.1"}, std::pair{"127.0.0.1", "::ffff:127.0.0.1"}}) {
    const Stream stream(client, server);
    const auto worker = tcp_stream(stream.worker.get()), smbd = tcp_stream(stream.smbd.get());
    REQUIRE(worker);
    REQUIRE(smbd);
    CHECK(worker->other_end() == *smbd);
    CHECK(smbd->other_end() == *worker);
    CHECK(*worker != *smbd);
    CHECK(smbdirect::shm::host_text(worker->remote) == "127.0.0.1");
  }
}

TEST_CASE("what is no established TCP connection is no stream") {
  const auto none = [](const smbdirect::shm::UniqueFd& fd) {
    REQUIRE(fd.valid());
    CHECK_FALSE(tcp_stream(fd.get()));
  };
  none(smbdirect::shm::UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));  // not connected
  none(smbdirect::shm::UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)));
  none(smbdirect::test::socket_pair(SOCK_STREAM).first);
  // A UDP socket may have a peer, too.
  const smbdirect::shm::UniqueFd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto somewhere = *smbdirect::shm::address_from_text("127.0.0.1", 9);
  REQUIRE(connect(udp.get(), reinterpret_cast<const sockaddr*>(&somewhere), sizeof(sockaddr_in)) == 0);
  none(udp);
  Stream ended;
  ended.smbd.reset();
  CHECK_FALSE(tcp_stream(ended.worker.get()));  // CLOSE_WAIT
}

TEST_CASE("streams of one pair of addresses in two networks are two, and are seen from either") {
  if (geteuid() != 0) {
    MESSAGE("skipped: only root can make a network namespace");
    return;
  }
  const Stream here;
  std::optional<Stream> there;
  std::thread([&] {
    ifreq loopback{.ifr_ifrn = {.ifrn_name = "lo"}, .ifr_ifru = {.ifru_flags = IFF_UP}};
    if (unshare(CLONE_NEWNET) != 0) return;
    const smbdirect::shm::UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (ioctl(any.get(), SIOCSIFFLAGS, &loopback) == 0) there.emplace();
  }).join();
  REQUIRE(there);
  const auto ours = *tcp_stream(here.smbd.get()), others = *tcp_stream(there->smbd.get());
  CHECK(others.network != 0);
  CHECK(others.network != ours.network);
  CHECK(tcp_stream(there->worker.get())->other_end() == others);
  const auto both = streams_of(getpid());
  REQUIRE(both);
  CHECK(holds(*both, ours, here.smbd.get()));
  CHECK(holds(*both, others, there->smbd.get()));
}

TEST_CASE("a process has the streams that it has, under their numbers") {
  Stream own, childs;
  const auto mine = *tcp_stream(own.smbd.get()), its = *tcp_stream(childs.smbd.get());
  const int number = childs.smbd.get();
  Child child([&] {
    own.smbd.reset();
    return smbdirect::shm::UniqueFd{};
  });
  childs.smbd.reset();

  const auto here = streams_of(getpid()), there = streams_of(child.pid());
  REQUIRE(here);
  REQUIRE_MESSAGE(there, there.error().text());
  CHECK(holds(*here, mine, own.smbd.get()));
  CHECK_FALSE(holds(*here, its, number));
  CHECK(holds(*there, its, number));
  CHECK_FALSE(holds(*there, mine, own.smbd.get()));

  CHECK(has_stream(child.pid(), {its, number}));
  CHECK_FALSE(has_stream(child.pid(), {mine, number}));
  CHECK_FALSE(has_stream(child.pid(), {its, number + 1000}));
  CHECK_FALSE(has_stream(getpid(), {its, number}));
  const pid_t gone = child.pid();
  child.end();
  CHECK_FALSE(has_stream(gone, {its, number}));
  CHECK(streams_of(gone).error().system_errno == ESRCH);
}
