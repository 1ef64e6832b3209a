// SPDX-License-Identifier: MIT
// Keeps a worker's scoreboard (shm/scoreboard.h) up to date: four times a second it asks the worker for its
// state and writes it. It is not on the data path. Owned by the worker; when the worker dies, the last state
// stays readable through the descriptor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include <uv.h>

#include "shm/loop/loop.h"
#include "shm/scoreboard.h"

namespace smbdirect::workers {

class ScoreboardPublisher {
 public:
  static constexpr uint64_t kIntervalMs = 250;

  struct View {
    shm::WorkerSummary summary;
    std::vector<shm::ConnectionRow> connections;
  };
  using Look = std::function<void(View& view)>;

  /// look: fills an empty view; called from the loop.
  ScoreboardPublisher(uv_loop_t& loop, shm::ScoreboardWriter writer, Look look);

  [[nodiscard]] int fd() const { return writer_.fd(); }

 private:
  void tick();
  void show(const std::vector<shm::ConnectionRow>& connections);

  uv_loop_t& loop_;
  shm::ScoreboardWriter writer_;
  Look look_;
  View view_;  // keeps its memory from one time to the next
  std::map<shm::ConnectionId, size_t> rows_;
  shm::Timer timer_;
};

}  // namespace smbdirect::workers
