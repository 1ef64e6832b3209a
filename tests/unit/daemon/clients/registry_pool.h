// SPDX-License-Identifier: MIT
// The supervisor's knowledge of clients, for tests: the connection table and the registry of two workers.
// Owned by the test, on one loop.
#pragma once

#include <array>
#include <memory>

#include "daemon/clients/client_registry.h"
#include "shm/base/socket_address.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon::test {

inline shm::Guid guid(uint8_t n) {
  shm::Guid made{};
  made.bytes.fill(std::byte(n));
  return made;
}

/// Two workers; connections are named by their numbers.
struct Pool {
  shm::Loop loop;
  ConnectionTable table{2};
  std::unique_ptr<ClientRegistry> clients =
      std::make_unique<ClientRegistry>(loop, table, ClientRegistry::make_registry(16).value());
  std::array<shm::WorkerRef, 2> workers{{{0, 1}, {1, 2}}};

  Pool() {
    for (const auto& worker : workers) clients->worker_ready(worker);
  }
  static shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 1)); }
  void connect(uint64_t number, size_t slot, const char* from) {
    table.add(shm::ConnectionId{number}, slot, *shm::address_from_text(from, 40'000), {});
  }
  void serve(uint64_t number, size_t slot, const char* from, const shm::Guid& who) {
    connect(number, slot, from);
    clients->claimed(workers[slot], shm::ConnectionId{number}, who);
    clients->channel_up(workers[slot], shm::ConnectionId{number}, 0);
  }
  void close(uint64_t number, size_t slot) {
    clients->channel_down(workers[slot], shm::ConnectionId{number});
    table.remove(shm::ConnectionId{number}, slot);
  }
};

}  // namespace smbdirect::daemon::test
