// SPDX-License-Identifier: MIT
// Windows on an open file: its page cache, mapped, so that what is read of it can be sent without a copy of
// ours. Owned by the DirectFile whose descriptor it is; one thread. What is being sent keeps its window, also
// when the file is let go of; the closer unmaps it.
//
// For fabrics whose attributes say that they send files, and for them only: nothing else reads these bytes,
// for a file that becomes shorter takes them away under whoever does (fabric.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "workers/memory/slab.h"

namespace smbdirect::workers {

class FileViews {
 public:
  static constexpr uint32_t kWindow = 16u << 20;  // twice the largest READ; begins at a multiple of itself

  struct View {
    SlabRef owner;
    std::span<const std::byte> bytes;
  };
  /// The file's bytes from `offset` on: as many as are wanted, or up to the window's end. Nothing: they
  /// cannot be mapped, or there is no budget.
  [[nodiscard]] std::optional<View> at(int fd, uint64_t offset, uint32_t wanted, Budget& mapped,
                                       FileCloser& closer);
  /// Windows that were not needed since the last call go.
  void trim();

 private:
  struct Window {
    uint64_t number{};
    SlabRef memory;
    bool used{};
  };
  static constexpr size_t kMost = 8;

  [[nodiscard]] Window* find(uint64_t number);
  [[nodiscard]] Window* map(int fd, uint64_t number, Budget& mapped, FileCloser& closer);

  std::vector<Window> windows_;  // the one that was needed last is last
};

}  // namespace smbdirect::workers
