// SPDX-License-Identifier: MIT
#include "workers/stats/scoreboard_publisher.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers {

ScoreboardPublisher::ScoreboardPublisher(uv_loop_t& loop, shm::ScoreboardWriter writer, Look look)
    : loop_(loop), writer_(std::move(writer)), look_(std::move(look)), timer_(loop, [this] { tick(); }) {
  tick();
}

void ScoreboardPublisher::tick() {
  view_.summary = {};
  view_.connections.clear();
  look_(view_);
  show(view_.connections);
  writer_.publish(view_.summary);
  writer_.beat(uv_now(&loop_));
  timer_.start(kIntervalMs);
}

void ScoreboardPublisher::show(const std::vector<shm::ConnectionRow>& connections) {
  std::erase_if(rows_, [&](const auto& row) {
    const bool gone =
        std::ranges::find(connections, row.first, &shm::ConnectionRow::connection) == connections.end();
    if (gone) writer_.close_row(row.second);
    return gone;
  });
  for (const shm::ConnectionRow& connection : connections) {
    const auto found = rows_.find(connection.connection);
    if (found != rows_.end()) {
      writer_.update_row(found->second, connection);
    } else if (const auto row = writer_.open_row(connection)) {
      rows_[connection.connection] = *row;
    }
  }
}

}  // namespace smbdirect::workers
