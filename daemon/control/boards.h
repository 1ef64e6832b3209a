// SPDX-License-Identifier: MIT
// The workers' scoreboards as the supervisor reads them: one for each slot whose worker has shown one. Owned
// by the supervisor. A board goes with its worker's process; its successor shows its own.
#pragma once

#include <optional>
#include <vector>

#include "shm/base/unique_fd.h"
#include "shm/scoreboard.h"

namespace smbdirect::daemon {

class Boards {
 public:
  explicit Boards(size_t slots) : boards_(slots) {}

  /// What is no board of that worker is an error.
  [[nodiscard]] shm::Result<> set(size_t slot, uint32_t generation, shm::UniqueFd fd) {
    auto reader = shm::ScoreboardReader::open(fd.get());
    if (!reader) return std::unexpected(reader.error());
    if (reader->identity().slot != slot || reader->identity().generation != generation) {
      return shm::fail("the scoreboard is another worker's");
    }
    boards_.at(slot).emplace(std::move(*reader));
    return {};
  }
  void drop(size_t slot) { boards_.at(slot).reset(); }
  /// Null: none.
  [[nodiscard]] const shm::ScoreboardReader* of(size_t slot) const {
    const std::optional<shm::ScoreboardReader>& board = boards_.at(slot);
    return board ? &*board : nullptr;
  }

 private:
  std::vector<std::optional<shm::ScoreboardReader>> boards_;
};

}  // namespace smbdirect::daemon
