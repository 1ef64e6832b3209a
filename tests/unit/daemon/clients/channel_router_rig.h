// SPDX-License-Identifier: MIT
// A peer router with real clients, and workers that only lend their control sockets (lending_worker.cc), so
// that the test sees what the router tells them. Owned by the test, on one loop.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/clients/channel_router.h"
#include "daemon/os/unix_socket.h"
#include "peer_support.h"
#include "shm/base/socket_address.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon::test {

inline shm::Guid guid(uint8_t n) {
  shm::Guid made{};
  made.bytes.fill(std::byte(n));
  return made;
}

inline protocol::proxy::Cookie cookie(uint8_t n) { return {guid(n).bytes}; }

/// A router and its three workers, the last of which has no process; what the router tells the others is seen
/// here.
struct RouterRig : WorkerSlot::Observer {
  static std::string lending_worker() {
    const char* program = std::getenv("LENDING_WORKER");
    REQUIRE_MESSAGE(program != nullptr, "LENDING_WORKER: the program of lending_worker.cc");
    return program;
  }
  static PoolConfig three_workers() {
    PoolConfig config;
    config.workers = 3;
    return config;
  }
  struct Directory {
    std::string path = (std::filesystem::temp_directory_path() / "smbdirectd-peers-XXXXXX").string();
    Directory() { REQUIRE(mkdtemp(path.data()) != nullptr); }
    ~Directory() { std::filesystem::remove_all(path); }
  };
  Directory directory;
  shm::Loop loop;
  PoolConfig config = three_workers();
  WorkerPool workers{loop, config, lending_worker(), *this};
  ConnectionTable table{3};
  std::unique_ptr<ClientRegistry> clients =
      std::make_unique<ClientRegistry>(loop, table, ClientRegistry::make_registry(64).value());
  ChannelRouter router{loop, config, workers, table};
  std::array<shm::UniqueFd, 2> links;
  std::array<shm::UniqueFd, 2> controls;

  RouterRig() {
    config.run_directory = directory.path;
    const std::string lent = directory.path + "/lent";
    const auto listening = listen_in_place(lent, 4);
    REQUIRE(listening);
    setenv("LENDING_WORKER_SOCKET", lent.c_str(), 1);
    for (size_t slot = 0; slot < 3; ++slot) {
      if (slot < 2) workers[slot].start();
      clients->worker_ready(ref(slot));
    }
    for (int i = 0; i < 2; ++i) borrow(*listening);
    clients->answer_with([this](size_t slot, shm::ConnectionId connection, ClaimOutcome outcome) {
      router.answer(slot, connection, outcome);
    });
    router.use(clients.get());
  }
  virtual ~RouterRig() {
    router.close();
    for (size_t slot = 0; slot < 2; ++slot) workers[slot].stop(10'000);
    for (shm::UniqueFd& link : links) link.reset();
    until(loop, [&] {
      workers.each([](WorkerSlot& worker) { worker.reap(); });
      return workers[0].pid() < 0 && workers[1].pid() < 0;
    });
    clients.reset();
    turn(loop);
  }
  void borrow(const shm::UniqueFd& listening) {
    shm::UniqueFd link;
    until(loop, [&] {
      link = shm::UniqueFd(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
      return link.valid();
    });
    std::array<std::byte, 1> slot{};
    auto lent = smbdirect::test::receive_with(link.get(), slot);
    REQUIRE(lent);
    REQUIRE(lent->descriptors.size() == 1);
    links.at(size_t(slot[0])) = std::move(link);
    controls.at(size_t(slot[0])) = std::move(lent->descriptors[0]);
  }

  [[nodiscard]] shm::WorkerRef ref(size_t slot) const {
    return {.slot = uint32_t(slot), .generation = workers[slot].generation()};
  }
  void connect(uint64_t number, size_t slot, const char* from = "192.0.2.7") {
    table.add(shm::ConnectionId{number}, slot, *shm::address_from_text(from, 40'000), {});
  }
  /// A connection that this process serves.
  void serve(uint64_t number, size_t slot, const shm::Guid& client) {
    connect(number, slot);
    clients->claimed(ref(slot), shm::ConnectionId{number}, client);
    clients->channel_up(ref(slot), shm::ConnectionId{number}, uint32_t(getpid()));
    if (slot < 2)
      while (told(slot)) {
      }
  }
  /// A connection that has been told that its client has an owner.
  void owned(uint64_t number, size_t slot, const shm::Guid& client) {
    connect(number, slot);
    clients->claimed(ref(slot), shm::ConnectionId{number}, client);
    answered(slot, shm::ConnectionId{number}, ClaimOutcome::owner);
  }
  MainEnd register_main() {
    auto [ours, theirs] = socket_pair();
    router.registered(std::move(ours));
    return MainEnd(std::move(theirs));
  }

  /// The next that the worker has been told.
  std::optional<Received<FromSupervisor>> told(size_t slot) {
    auto received = receive_message<FromSupervisor>(controls.at(slot).get());
    REQUIRE(received);
    return std::move(*received);
  }
  template <class Row>
  struct Told : Row {
    shm::UniqueFd descriptor;
  };
  template <class Row>
  Told<Row> tell(size_t slot) {
    auto received = told(slot);
    REQUIRE(received);
    CHECK(message_name(received->message) == Row::kName);
    CHECK(received->generation == workers[slot].generation());
    return {std::get<Row>(received->message), std::move(received->descriptor)};
  }
  void answered(size_t slot, shm::ConnectionId connection, ClaimOutcome outcome) {
    const auto said = tell<message::Claimed>(slot);
    CHECK(said.connection == connection);
    CHECK(said.outcome == outcome);
  }
  void refused(size_t slot, shm::ConnectionId connection, int error) {
    const auto said = tell<message::NoSmbd>(slot);
    CHECK(said.connection == connection);
    CHECK(said.error == uint32_t(error));
  }
  [[nodiscard]] bool silent() { return !told(0) && !told(1); }
  /// The channel that this worker is to pass on.
  Told<message::PassTo> asked(size_t slot) {
    auto said = tell<message::PassTo>(slot);
    CHECK(said.process == uint32_t(getpid()));
    CHECK(said.descriptor.valid());
    return said;
  }

  void worker_ready(size_t) override {}
  void worker_said(size_t, Received<FromWorker>) override {}
  void worker_gone(size_t, const Obituary&) override {}
};

}  // namespace smbdirect::daemon::test
