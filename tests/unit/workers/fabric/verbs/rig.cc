// SPDX-License-Identifier: MIT
#include "rig.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "shm/base/log.h"

namespace smbdirect::test {

Rig::Rig(const RigOptions& rig_options)
    : options(rig_options),
      memory(4U << 20U),
      key(arena.add(memory)),
      fake(rig_options.iwarp),
      cm(fake, rig_options.iwarp),
      table(std::make_unique<verbs::DeviceTable>(loop.get(), arena, fake)) {
  shm::log::configure(shm::log::Level::error, "test");  // what is made to fail is logged as it should be
  make();
}

Rig::~Rig() {
  fake.fail_call(0);
  client.reset();
  server.reset();
  settle();
  table.reset();
  CHECK(fake.live() == 0);
  for (const std::string& what : fake.wrong) FAIL_CHECK(what);
  // The connection manager's id goes after the queue pair it belongs to.
  for (const LinkEnd* end : {&cm.accepting(), &cm.connecting()}) CHECK(end->qps_when_destroyed == 0);
}

void Rig::make() {
  auto [accepting, connecting] = cm.make_pair();
  server =
      std::make_unique<verbs::VerbsEndpoint>(loop.get(), *table, std::move(accepting), verbs::Side::accepting,
                                             options.server, server_events, options.times);
  client = std::make_unique<verbs::VerbsEndpoint>(loop.get(), *table, std::move(connecting),
                                                  verbs::Side::connecting, options.client, client_events,
                                                  options.times);
}

bool Rig::establish() {
  client->start();
  until([this] { return cm.connecting().answered || client_events.closed_calls > 0; });
  if (cm.connecting().answered) server->start();
  until([this] {
    return (server_events.established && client_events.established) || client_events.closed_calls > 0 ||
           server_events.closed_calls > 0;
  });
  return server_events.established && client_events.established;
}

bool Rig::until(const std::function<bool()>& condition, uint64_t limit_ms) {
  return loop.until(
      [&] {
        cm.run();
        fake.run();
        return condition();
      },
      limit_ms);
}

void Rig::settle(int times) {
  for (int i = 0; i < times; ++i) {
    cm.run();
    fake.run();
    loop.turn();
  }
}

}  // namespace smbdirect::test
