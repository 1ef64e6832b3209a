// SPDX-License-Identifier: MIT
// The terminal that smbdirectctl top draws on, by ncurses, which keeps its state in globals of its own: there
// is one of these at a time. smbdirectctl only. The terminal is as it was when this is gone, also when a
// signal ends the program (ncurses sees to that).
#pragma once

#include <memory>
#include <vector>

#include "daemon/ctl/top/frame.h"
#include "shm/base/result.h"

namespace smbdirect::daemon::top {

class Screen {
 public:
  /// The error says what is wrong with the terminal.
  [[nodiscard]] static shm::Result<std::unique_ptr<Screen>> open();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  [[nodiscard]] FrameSize size() const;
  void draw(const std::vector<Line>& lines);
  enum class Key : unsigned char { none, quit, resized };
  /// Waits for a key, at most so long.
  [[nodiscard]] Key wait(int milliseconds);

 private:
  Screen() = default;
};

}  // namespace smbdirect::daemon::top
