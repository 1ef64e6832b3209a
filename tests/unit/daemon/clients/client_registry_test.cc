// SPDX-License-Identifier: MIT
// Clients of smbd. Native peers have tests of their own (native_clients_test.cc).
#include "daemon/clients/client_registry.h"

#include <doctest/doctest.h>

#include "registry_pool.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon::test;  // NOLINT: of this test's helpers
namespace shm = smbdirect::shm;

TEST_CASE("a client is STARTING from its claim, LIVE from its channel, gone with its last connection") {
  Pool pool;
  pool.connect(1, 0, "192.0.2.7");
  CHECK(pool.clients->list().empty());
  pool.clients->claimed(pool.workers[0], 1_c, guid(1));
  REQUIRE(pool.clients->list().size() == 1);
  CHECK(pool.clients->list()[0].state == shm::EntryState::starting);
  CHECK(pool.clients->workers_at(Pool::host("192.0.2.7")) == 1);  // the next one goes to the same worker
  pool.clients->channel_up(pool.workers[0], 1_c, 0);
  CHECK(pool.clients->list()[0].state == shm::EntryState::live);
  pool.serve(2, 1, "192.0.2.7", guid(1));
  CHECK(pool.clients->list()[0].workers == 3);
  CHECK(pool.clients->list()[0].channels() == 2);
  pool.close(1, 0);
  CHECK(pool.clients->workers_at(Pool::host("192.0.2.7")) == 2);
  pool.close(2, 1);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("an address first seen elsewhere is the client's from then on") {
  Pool pool;
  pool.serve(1, 0, "192.0.2.7", guid(1));
  CHECK(pool.clients->workers_at(Pool::host("198.51.100.7")) == 0);
  pool.serve(2, 1, "198.51.100.7", guid(1));  // a miss: nobody knew
  CHECK(shm::totals_text(pool.clients->totals()) == "clients=1 addresses_learned=1");
  pool.close(2, 1);
  CHECK(pool.clients->workers_at(Pool::host("198.51.100.7")) == 1);  // slot 0 has what is left of it
  pool.serve(3, 0, "198.51.100.7", guid(1));
  CHECK(shm::totals_text(pool.clients->totals()) == "clients=1 addresses_learned=1");
}

TEST_CASE("a claim that came to nothing frees the GUID") {
  Pool pool;
  pool.connect(1, 0, "192.0.2.7");
  pool.clients->claimed(pool.workers[0], 1_c, guid(1));
  pool.close(1, 0);
  CHECK(pool.clients->list().empty());
}

TEST_CASE("a worker's death takes its part of every client along") {
  Pool pool;
  pool.serve(1, 0, "192.0.2.7", guid(1));
  pool.serve(2, 1, "192.0.2.7", guid(1));
  pool.serve(3, 1, "192.0.2.8", guid(2));
  pool.clients->worker_gone(pool.workers[1]);
  REQUIRE(pool.clients->list().size() == 1);
  CHECK(pool.clients->list()[0].workers == 1);
  pool.clients->channel_down(pool.workers[1], 2_c);  // a late word changes nothing
  CHECK(pool.clients->list()[0].channels() == 1);
  // Its successor in the slot begins anew.
  const shm::WorkerRef next{1, 3};
  pool.clients->worker_ready(next);
  pool.table.remove(2_c, 1);
  pool.connect(2, 1, "192.0.2.7");
  pool.clients->claimed(next, 2_c, guid(1));
  pool.clients->channel_up(next, 2_c, 0);
  CHECK(pool.clients->list()[0].channels() == 2);
}

TEST_CASE("a worker's word counts for its own connections, and once") {
  Pool pool;
  pool.clients->claimed(pool.workers[0], 1_c, guid(1));  // no such connection
  pool.connect(1, 0, "192.0.2.7");
  pool.clients->claimed(pool.workers[1], 1_c, guid(1));  // another's
  pool.clients->channel_up(pool.workers[0], 1_c, 0);     // not claimed
  CHECK(pool.clients->list().empty());
  pool.clients->claimed(pool.workers[0], 1_c, guid(1));
  pool.clients->claimed(pool.workers[0], 1_c, guid(2));
  pool.clients->channel_up(pool.workers[0], 1_c, 0);
  pool.clients->channel_up(pool.workers[0], 1_c, 0);
  REQUIRE(pool.clients->list().size() == 1);
  CHECK(pool.clients->list()[0].guid == guid(1));
  CHECK(pool.clients->list()[0].channels() == 1);
  pool.clients->channel_down(pool.workers[1], 1_c);
  CHECK(pool.clients->list().size() == 1);
}

TEST_CASE("who names nobody, or comes when there is no room, is served without the registry") {
  Pool pool;
  pool.serve(1, 0, "192.0.2.7", shm::Guid{});
  CHECK(pool.clients->list().empty());
  for (uint8_t n = 0; n < 64; ++n) pool.serve(100 + n, 0, "192.0.2.7", guid(n + 1));
  const size_t most = pool.clients->list().size();
  CHECK(most >= 16);
  CHECK(most < 64);
  for (uint8_t n = 0; n < 64; ++n) pool.close(100 + n, 0);
  CHECK(pool.clients->list().empty());
}
