// SPDX-License-Identifier: MIT
// The workers' scoreboards as the supervisor reads them: one for each slot whose worker has sent one. Owned
// by the supervisor. A scoreboard is dropped when its worker's process ends; the next process sends its own.
#pragma once

#include <optional>
#include <vector>

#include "shm/base/unique_fd.h"
#include "shm/scoreboard.h"

namespace smbdirect::daemon {

class Scoreboards {
 public:
  explicit Scoreboards(size_t slots) : scoreboards_(slots) {}

  /// What is no scoreboard of that worker is an error.
  [[nodiscard]] shm::Result<> set(size_t slot, uint32_t generation, shm::UniqueFd fd) {
    auto reader = shm::ScoreboardReader::open(fd.get());
    if (!reader) return std::unexpected(reader.error());
    if (reader->identity().slot != slot || reader->identity().generation != generation) {
      return shm::fail("the scoreboard is another worker's");
    }
    scoreboards_.at(slot).emplace(std::move(*reader));
    return {};
  }
  void drop(size_t slot) { scoreboards_.at(slot).reset(); }
  /// Null: none.
  [[nodiscard]] const shm::ScoreboardReader* of(size_t slot) const {
    const std::optional<shm::ScoreboardReader>& scoreboard = scoreboards_.at(slot);
    return scoreboard ? &*scoreboard : nullptr;
  }

 private:
  std::vector<std::optional<shm::ScoreboardReader>> scoreboards_;
};

}  // namespace smbdirect::daemon
