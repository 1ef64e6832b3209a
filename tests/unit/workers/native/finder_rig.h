// SPDX-License-Identifier: MIT
// A peer finder with a supervisor that the test plays, and connections that ask it for their process.
// Owned by the test, on one loop.
#pragma once

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/un.h>
#include <vector>

#include <doctest/doctest.h>

#include "peer_end.h"
#include "shm/area.h"
#include "shm/loop/loop.h"
#include "shm/registry_writer.h"
#include "workers/native/peer_finder.h"

namespace smbdirect::workers::native_test {

using daemon::ClaimOutcome;
namespace message = daemon::message;

inline constexpr size_t kSmallArea = 4096;
/// What a connection has its process told first.
inline Bytes introduction() {
  proxy::Facts facts{};
  facts.area_bytes = kSmallArea;
  facts.negotiate = Bytes(100, std::byte{9});
  return frame({.type = proxy::FrameType::facts}, proxy::encode_facts(facts));
}

inline shm::Guid guid(uint8_t n) {
  shm::Guid made{};
  made.bytes.fill(std::byte(n));
  return made;
}

/// A connection's attempt, and what came of it.
struct Connection {
  std::unique_ptr<Upstream> upstream;
  ino_t area{};
  bool in_start = false;
  std::optional<shm::Result<shm::UniqueFd>> result;

  void start() {
    in_start = true;
    upstream->start([this](shm::Result<shm::UniqueFd> made) {
      CHECK_FALSE(in_start);
      CHECK_FALSE(result.has_value());
      result = std::move(made);
    });
    in_start = false;
  }
  [[nodiscard]] bool served() const { return result && result->has_value(); }
  [[nodiscard]] int error() const { return result && !*result ? result->error().system_errno : 0; }
};

struct FinderRig {
  static constexpr uint32_t kDeadlineMs = 30'000;

  explicit FinderRig(uint32_t deadline_ms = kDeadlineMs)
      : directory((std::filesystem::temp_directory_path() / "smbdirect-finder-XXXXXX").string()) {
    REQUIRE(uv_loop_init(&loop) == 0);
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    finder = std::make_unique<PeerFinder>(
        loop,
        [this](const daemon::FromWorker& message, int descriptor) {
          sent.push_back(
              {message, shm::UniqueFd(descriptor < 0 ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0))});
        },
        deadline_ms);
  }
  ~FinderRig() {
    finder.reset();
    uv_run(&loop, UV_RUN_DEFAULT);  // ends only when nothing is left on it
    CHECK(uv_loop_close(&loop) == 0);
    std::filesystem::remove_all(directory);
  }

  [[nodiscard]] sockaddr_un address() const {
    sockaddr_un made{};
    made.sun_family = AF_UNIX;
    const std::string path = directory + "/listener";
    REQUIRE(path.size() < sizeof made.sun_path);
    std::memcpy(made.sun_path, path.c_str(), path.size() + 1);
    return made;
  }
  void listen_for_peers() {
    shm::UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un at = address();
    REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::listen(listening.get(), 128) == 0);
    finder->listen_for_peers(std::move(listening));
  }
  /// Somebody comes to the listener.
  [[nodiscard]] PeerEnd knock() const {
    shm::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un at = address();
    REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    return PeerEnd(std::move(fd));
  }
  /// The registry has it that the client of this GUID is served by this process.
  void register_client(const shm::Guid& client, uint32_t process) {
    if (!registry) {
      registry.emplace(shm::RegistryWriter::create(16).value());
      (void)registry->worker_started(kWorker);
      finder->map_registry(shm::UniqueFd(::fcntl(registry->fd(), F_DUPFD_CLOEXEC, 0)));
    }
    REQUIRE(registry->channel_up(client, kWorker, {.pid = process, .start_time = 1}, shm::Host{}, 0) ==
            shm::Report::done);
  }

  std::unique_ptr<Connection> connect(uint64_t number, const shm::Guid& client = guid(1), bool claimed = true,
                                      bool with_area = true) {
    auto made = std::make_unique<Connection>();
    PeerRequest request{};
    request.client.connection = shm::ConnectionId{number};
    request.client.client_guid = client;
    request.client.claimed = claimed;
    request.introduction = introduction();
    if (with_area) {
      request.area = std::move(shm::make_area(kSmallArea).value());
      made->area = inode(request.area.get());
    }
    made->upstream = finder->request(std::move(request));
    return made;
  }

  void until(const std::function<bool()>& condition) {
    bool late = false;
    shm::Timer deadline(loop, [&] { late = true; });
    deadline.start(10'000);
    // A turn that begins with a timer that is due would wait for the next one.
    shm::Timer tick(loop, [] {});
    while (!condition() && !late) {
      tick.start(10);
      uv_run(&loop, UV_RUN_ONCE);
    }
    REQUIRE_FALSE(late);
  }
  /// All that can happen without waiting.
  void turn() {
    for (int i = 0; i < 10; ++i) uv_run(&loop, UV_RUN_NOWAIT);
  }
  PeerEnd::Heard hear(PeerEnd& peer) {
    std::optional<PeerEnd::Heard> heard;
    until([&] {
      turn();
      heard = peer.hear();
      return heard.has_value();
    });
    return std::move(*heard);
  }
  /// The last message to the supervisor, which is this one.
  template <class Row>
  Row last() {
    REQUIRE_FALSE(sent.empty());
    CHECK(daemon::message_name(sent.back().message) == Row::kName);
    return std::get<Row>(sent.back().message);
  }
  /// The cookie of the process that was asked for last.
  proxy::Cookie wanted(uint64_t number) {
    const auto asked = last<message::WantProcess>();
    CHECK(asked.connection == shm::ConnectionId{number});
    return asked.cookie;
  }
  /// The channel that was passed last.
  PeerEnd passed(uint64_t number) {
    CHECK(last<message::Pass>().connection == shm::ConnectionId{number});
    REQUIRE(sent.back().descriptor.valid());
    return PeerEnd(std::move(sent.back().descriptor));
  }
  void hear_facts(PeerEnd& peer, const Connection& connection) {
    const auto facts = hear(peer);
    CHECK(facts.header.type == proxy::FrameType::facts);
    CHECK(frame(facts.header, facts.body) == introduction());
    CHECK(inode(facts.descriptor.get()) == connection.area);
  }

  static constexpr shm::WorkerRef kWorker{.slot = 3, .generation = 7};
  struct Sent {
    daemon::FromWorker message;
    shm::UniqueFd descriptor;
  };
  uv_loop_t loop{};
  std::string directory;
  std::vector<Sent> sent;
  std::optional<shm::RegistryWriter> registry;
  std::unique_ptr<PeerFinder> finder;
};

inline Bytes hello(const proxy::Cookie& cookie) {
  return frame({.type = proxy::FrameType::hello}, proxy::encode_hello(cookie));
}

inline const auto kProcess = uint32_t(::getpid());  // who attaches itself here

/// A process that has a channel with this worker: takes those that are passed to it.
struct Served {
  std::vector<PeerEnd> channels;

  void serve(FinderRig& rig, uint64_t offer, uint32_t process) {
    rig.finder->serving(shm::ConnectionId{offer}, process, [this](shm::UniqueFd& socket) {
      channels.emplace_back(std::move(socket));
      return true;
    });
  }
};

}  // namespace smbdirect::workers::native_test
