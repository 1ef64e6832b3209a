// SPDX-License-Identifier: MIT
// Two endpoints of the verbs fabric on a made-up device, both on one loop. When a rig ends, everything must
// be gone, in a sound order.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "fake_cm.h"
#include "tests/unit/workers/fabric/iwarp/support.h"
#include "workers/fabric/verbs/device_table.h"
#include "workers/fabric/verbs/endpoint.h"

namespace smbdirect::test {

using fabric::CloseCause;
using fabric::Op;
using fabric::PostError;

struct RigOptions {
  bool iwarp = false;
  verbs::Options server{};
  verbs::Options client{};
  verbs::EndTimes times{.disconnect_ms = 50, .drain_ms = 50, .verdict_ms = 20};
};

class Rig {
 public:
  explicit Rig(const RigOptions& rig_options = {});
  ~Rig();

  /// Makes a pair of endpoints; start() to come.
  void make();
  /// Starts both and runs until both are established or one has ended.
  bool establish();
  /// Turns everything until the condition holds.
  bool until(const std::function<bool()>& condition, uint64_t limit_ms = 5000);
  /// Turns everything a few times, without waiting.
  void settle(int times = 20);
  [[nodiscard]] bool both_closed() const {
    return server_events.closed_calls > 0 && client_events.closed_calls > 0;
  }
  /// A piece of the arena's block; each side has a half.
  [[nodiscard]] fabric::Sge piece(size_t offset, size_t length) {
    return {.addr = memory.data() + offset, .length = static_cast<uint32_t>(length), .key = key};
  }
  [[nodiscard]] FakeVerbs::Qp& server_qp() { return *fake.qp(cm.accepting().qp_num); }
  [[nodiscard]] FakeVerbs::Qp& client_qp() { return *fake.qp(cm.connecting().qp_num); }

  RigOptions options;
  Loop loop;
  std::vector<std::byte> memory;
  workers::Arena arena;
  uint32_t key;
  FakeVerbs fake;
  FakeCm cm;
  std::unique_ptr<verbs::DeviceTable> table;
  Recorder server_events, client_events;
  std::unique_ptr<fabric::Endpoint> server, client;
};

}  // namespace smbdirect::test
