// SPDX-License-Identifier: MIT
#include "daemon/upstream/module_requests.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>
#include <uv.h>

#include "shm/base/socket_address.h"
#include "tests/unit/daemon/upstream/module_rig.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon;        // NOLINT: a test of one part
using namespace smbdirect::daemon::test;  // NOLINT: and its rig
namespace shm = smbdirect::shm;

namespace {

/// Two workers, of which the first has the connections 1 to 3 and the second 4.
struct Rig {
  struct Told {
    size_t slot = 0;
    FromSupervisor message;
    shm::UniqueFd link;
  };
  ModuleDirectory directory;
  shm::Loop loop;
  PoolConfig config;
  ConnectionTable table{2};
  std::vector<Told> told;
  ModuleRequests modules{
      loop, config, table, [this](size_t slot, const FromSupervisor& message, int link) -> shm::Result<> {
        told.push_back({slot, message, shm::UniqueFd(link < 0 ? -1 : fcntl(link, F_DUPFD_CLOEXEC, 0))});
        return {};
      }};

  Rig() {
    config.module_directory = directory.path;
    for (uint64_t number = 1; number <= 4; ++number) {
      table.add(shm::ConnectionId{number}, number == 4 ? 1 : 0, *shm::address_from_text("192.0.2.7", 40'000),
                *shm::address_from_text("192.0.2.1", 5445));
    }
  }
  ~Rig() { modules.close(); }
  [[nodiscard]] std::string path(pid_t process) const {
    return directory.path + "/" + std::to_string(process);
  }
  /// In the calling process.
  [[nodiscard]] shm::UniqueFd listen_here() const { return listen_as_module(path(getpid())); }
  /// Runs the loop until so much has been told in all.
  void wait_for(size_t answers) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (told.size() < answers) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      uv_run(loop.get(), UV_RUN_ONCE);
    }
  }
  /// The errno of the only answer; nothing: a link.
  std::optional<uint32_t> ask(const Stream& stream) {
    told.clear();
    modules.wanted(0, 1_c, stream.copy());
    wait_for(1);
    REQUIRE(told.size() == 1);
    CHECK(told[0].slot == 0);
    return error_of(told[0]);
  }
  static std::optional<uint32_t> error_of(const Told& one) {
    if (const auto* no = std::get_if<message::NoModule>(&one.message)) return no->error;
    REQUIRE(std::holds_alternative<message::Module>(one.message));
    CHECK(one.link.valid());
    return std::nullopt;
  }
};

}  // namespace

TEST_CASE("the link is to the module of the process that has the other end, and asked for again") {
  Rig rig;
  const Stream stream, mapped("127.0.0.1", "::ffff:127.0.0.1");
  const auto listener = rig.listen_here();
  CHECK_FALSE(rig.ask(stream));
  CHECK(std::get<message::Module>(rig.told[0].message).connection == 1_c);
  CHECK(is_link_of(listener, rig.told[0].link));
  CHECK_FALSE(rig.ask(stream));
  CHECK(is_link_of(listener, rig.told[0].link));
  CHECK_FALSE(rig.ask(mapped));
  CHECK(shm::totals_text(rig.modules.totals()) == "modules_asked=3 modules_linked=3");
}

TEST_CASE("of many smbds it is the right one's, also when another has the stream later") {
  Rig rig;
  std::vector<std::unique_ptr<Child>> others;
  for (int i = 0; i < 20; ++i) others.push_back(std::make_unique<Child>([&] { return rig.listen_here(); }));
  Stream stream;
  CHECK(rig.ask(stream) == ENOENT);  // this process has no module
  const auto listener = rig.listen_here();
  CHECK_FALSE(rig.ask(stream));
  CHECK(is_link_of(listener, rig.told[0].link));

  const Child heir([&] { return rig.listen_here(); });
  stream.smbd.reset();
  CHECK_FALSE(rig.ask(stream));
  CHECK(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC) == -1);  // it is the heir's
  ucred peer{};
  socklen_t length = sizeof peer;
  REQUIRE(getsockopt(rig.told[0].link.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0);
  CHECK(peer.pid == heir.pid());
}

TEST_CASE(
    "there is no module: a directory that is missing or empty, a process without one, one that is gone") {
  Rig rig;
  const Stream stream;
  CHECK(rig.ask(stream) == ENOENT);
  {
    const auto gone = rig.listen_here();
  }
  CHECK(rig.ask(stream) == ENOENT);  // its name is still there
  std::ofstream(rig.directory.path + "/0");
  std::ofstream(rig.directory.path + "/-1");
  std::ofstream(rig.directory.path + "/x");
  Child other([&] { return rig.listen_here(); });
  Stream others;
  other.end();
  CHECK(rig.ask(others) == ENOENT);
  std::filesystem::remove_all(rig.directory.path);
  CHECK(rig.ask(stream) == ENOENT);
}

TEST_CASE("a module that does not accept is not waited for") {
  Rig rig;
  const Stream stream;
  const auto listener = listen_as_module(rig.path(getpid()), 0);
  std::optional<uint32_t> error;
  for (int i = 0; i < 10 && !error; ++i) error = rig.ask(stream);
  CHECK(error == EAGAIN);
}

TEST_CASE("another process that listens under the number of the right one is refused") {
  Rig rig;
  const Stream stream;
  const pid_t ours = getpid();
  const Child impostor([&] { return listen_as_module(rig.path(ours)); });
  CHECK(rig.ask(stream) == EPERM);
}

TEST_CASE("another user's process is refused, and so is another user's directory") {
  if (geteuid() != 0) {
    MESSAGE("skipped: only root can be another user");
    return;
  }
  Rig rig;
  Stream stream;
  REQUIRE(chmod(rig.directory.path.c_str(), 0700) == 0);
  REQUIRE(chown(rig.directory.path.c_str(), 65534, 0) == 0);
  const auto listener = rig.listen_here();
  CHECK(rig.ask(stream) == EPERM);
  REQUIRE(chown(rig.directory.path.c_str(), 0, 0) == 0);
  REQUIRE(chmod(rig.directory.path.c_str(), 0777) == 0);
  CHECK(rig.ask(stream) == EPERM);
  const Child somebody([&] {
    if (setuid(65534) != 0) _exit(1);
    return rig.listen_here();
  });
  REQUIRE(chmod(rig.directory.path.c_str(), 0700) == 0);
  std::filesystem::remove(rig.path(getpid()));
  stream.smbd.reset();
  CHECK(rig.ask(stream) == EPERM);
}

TEST_CASE("what is no stream to smbd is refused at once") {
  Rig rig;
  const auto listener = rig.listen_here();
  const auto error_of = [&](shm::UniqueFd fd) {
    rig.told.clear();
    rig.modules.wanted(0, 1_c, std::move(fd));
    REQUIRE(rig.told.size() == 1);
    return Rig::error_of(rig.told[0]);
  };
  CHECK(error_of(shm::UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))) == ENOTCONN);
  CHECK(error_of(smbdirect::test::socket_pair(SOCK_STREAM).first) == ENOTCONN);
  CHECK(error_of(shm::UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC))) == ENOTCONN);
  CHECK(error_of(shm::UniqueFd{}) == EMFILE);
  Stream ended;
  ended.smbd.reset();
  CHECK(error_of(ended.copy()) == ENOTCONN);
}

TEST_CASE("a worker may ask for its own connections, one at a time for each") {
  Rig rig;
  const Stream stream;
  const auto listener = rig.listen_here();
  rig.modules.wanted(0, 4_c, stream.copy());  // another's
  rig.modules.wanted(1, 1_c, stream.copy());
  rig.modules.wanted(0, 9_c, stream.copy());  // nobody's
  REQUIRE(rig.told.size() == 3);
  for (const auto& one : rig.told) CHECK(Rig::error_of(one) == EPERM);
  rig.told.clear();
  rig.modules.wanted(0, 1_c, stream.copy());
  rig.modules.wanted(0, 1_c, stream.copy());
  REQUIRE(rig.told.size() == 1);
  CHECK(Rig::error_of(rig.told[0]) == EAGAIN);
  rig.modules.wanted(0, 2_c, stream.copy());
  rig.modules.wanted(1, 4_c, stream.copy());
  rig.wait_for(4);
  for (size_t i = 1; i < 4; ++i) CHECK_FALSE(Rig::error_of(rig.told[i]));
}

TEST_CASE("what nobody waits for any more is not connected to") {
  Rig rig;
  const Stream stream;
  const auto listener = rig.listen_here();
  for (uint64_t number = 1; number <= 3; ++number)
    rig.modules.wanted(0, shm::ConnectionId{number}, stream.copy());
  rig.modules.wanted(1, 4_c, stream.copy());
  rig.modules.forget(0, 1_c);
  rig.modules.forget_worker(1);
  rig.wait_for(2);
  CHECK(std::get<message::Module>(rig.told[0].message).connection == 2_c);
  CHECK(std::get<message::Module>(rig.told[1].message).connection == 3_c);
  rig.modules.wanted(0, 1_c, stream.copy());
  rig.modules.close();
  for (int i = 0; i < 20; ++i) uv_run(rig.loop.get(), UV_RUN_NOWAIT);
  CHECK(rig.told.size() == 2);
}

TEST_CASE("a worker that asks without end is told so, and costs the others nothing") {
  Rig rig;
  const Stream stream;
  size_t refused = 0;
  for (int i = 0; i < 20'000 && refused < 100; ++i) {
    rig.told.clear();
    rig.modules.wanted(0, 1_c, stream.copy());
    rig.modules.forget(0, 1_c);
    refused += rig.told.size();
  }
  REQUIRE(refused == 100);
  CHECK(Rig::error_of(rig.told.at(0)) == EAGAIN);
  rig.told.clear();
  const auto listener = rig.listen_here();
  rig.modules.wanted(1, 4_c, stream.copy());
  rig.wait_for(1);
  CHECK_FALSE(Rig::error_of(rig.told[0]));
}

TEST_CASE("however many wait, each process is looked into once for all of them") {
  Rig rig;
  std::vector<std::unique_ptr<Child>> smbds;
  for (int i = 0; i < 12; ++i) smbds.push_back(std::make_unique<Child>([&] { return rig.listen_here(); }));
  for (int i = 0; i < 300; ++i) std::ofstream(rig.path((1 << 22) + 1 + i));  // no process has such a number
  ModuleSearch search(rig.loop, rig.config.module_directory);
  const Stream stream;  // of none of them
  size_t answered = 0;
  for (int i = 0; i < 300; ++i) {
    static_cast<void>(search.find(tcp_stream(stream.worker.get())->other_end(), [&](auto link) {
      REQUIRE_FALSE(link);
      CHECK(link.error().system_errno == ENOENT);
      ++answered;
    }));
  }
  while (answered < 300) uv_run(rig.loop.get(), UV_RUN_ONCE);
  CHECK(search.processes_looked_into() == 12);
}

TEST_CASE("of smbds with many open files one is looked into at a time") {
  Rig rig;
  std::vector<std::unique_ptr<Child>> smbds;
  for (int i = 0; i < 4; ++i) {
    smbds.push_back(std::make_unique<Child>([&] {
      const rlimit many{8192, 8192};
      (void)setrlimit(RLIMIT_NOFILE, &many);
      while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) continue;
      close(int(many.rlim_max) - 1);
      return rig.listen_here();
    }));
  }
  ModuleSearch search(rig.loop, rig.config.module_directory);
  const Stream stream;  // of none of them
  bool answered = false;
  static_cast<void>(search.find(tcp_stream(stream.worker.get())->other_end(), [&](auto link) {
    CHECK_FALSE(link);
    answered = true;
  }));
  uint64_t most = 0;
  while (!answered) {
    const uint64_t before = search.processes_looked_into();
    uv_run(rig.loop.get(), UV_RUN_ONCE);
    most = std::max(most, search.processes_looked_into() - before);
  }
  CHECK(search.processes_looked_into() == 4);
  CHECK(most == 1);
}

TEST_CASE("there are no links where they are not wanted") {
  Rig rig;
  const Stream stream;
  const auto listener = rig.listen_here();
  SUBCASE("by the pool file") { rig.config.worker.module_area = rig.config.worker.direct = false; }
  SUBCASE("in mode channel") { rig.config.upstream_mode = UpstreamMode::native; }
  CHECK(rig.ask(stream) == ENOENT);
}

TEST_CASE("the directory is made where it is in the daemon's own, for nobody else to look into") {
  Rig rig;
  rig.config.run_directory = rig.directory.path;
  rig.config.module_directory = rig.directory.path + "/smbd";
  struct stat status{};
  SUBCASE("it is not wanted") {
    rig.config.worker.module_area = rig.config.worker.direct = false;
    rig.modules.open();
    CHECK(stat(rig.config.module_directory.c_str(), &status) != 0);
  }
  SUBCASE("it is elsewhere") {
    rig.config.run_directory = "/run/other";
    rig.modules.open();
    CHECK(stat(rig.config.module_directory.c_str(), &status) != 0);
  }
  SUBCASE("it is") {
    rig.modules.open();
    REQUIRE(stat(rig.config.module_directory.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0700);
    rig.modules.open();  // it is there
  }
}
