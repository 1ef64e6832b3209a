// SPDX-License-Identifier: MIT
// Requests at smbd that READs and WRITEs done here must not overtake: those that end, lock, flush or change
// an open file, by FileId, and those of which it is not known what they are about. Owned by a
// ServerTranslator; pure. Few are under way at a time, so that looking through all of them is quick.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "protocol/smb2/ids.h"

namespace smbdirect::protocol::smb2 {

/// What a request holds up, and waits for, of what is done here. sends: it holds nothing up, but may shorten
/// files whose bytes are still to be sent.
enum class Holds : uint8_t { nothing, sends, file, all };

class FileOrder {
 public:
  void begin(Holds what, const FileId& file) {
    if (what == Holds::all) ++all_;
    if (what != Holds::file) return;
    const auto at = find(file);
    if (at != files_.end()) {
      ++at->count;
    } else {
      files_.push_back({.file = file, .count = 1});
    }
  }
  void end(Holds what, const FileId& file) {
    if (what == Holds::all) --all_;
    if (what != Holds::file) return;
    const auto at = find(file);
    if (--at->count != 0) return;
    *at = files_.back();
    files_.pop_back();
  }
  [[nodiscard]] bool holds(const FileId& file) const {
    return all_ != 0 || (!files_.empty() && std::ranges::find(files_, file, &Held::file) != files_.end());
  }

 private:
  struct Held {
    FileId file;
    uint32_t count = 0;
  };
  [[nodiscard]] std::vector<Held>::iterator find(const FileId& file) {
    return std::ranges::find(files_, file, &Held::file);
  }

  uint32_t all_ = 0;
  std::vector<Held> files_;
};

}  // namespace smbdirect::protocol::smb2
