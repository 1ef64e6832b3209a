// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/screen.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <curses.h>

namespace smbdirect::daemon::top {
namespace {

constexpr short kAlarmPair = 1;

attr_t attribute(Emphasis emphasis) {
  switch (emphasis) {
    case Emphasis::none:
      return A_NORMAL;
    case Emphasis::heading:
      return A_REVERSE;
    case Emphasis::alarm:
      return A_BOLD | (has_colors() ? attr_t(COLOR_PAIR(kAlarmPair)) : A_NORMAL);
  }
  return A_NORMAL;
}

}  // namespace

shm::Result<std::unique_ptr<Screen>> Screen::open() {
  // initscr() would end the program.
  if (newterm(nullptr, stdout, stdin) == nullptr) {
    const char* terminal = std::getenv("TERM");
    return shm::fail("cannot draw on a terminal of type \"" +
                     std::string(terminal == nullptr ? "" : terminal) +
                     "\"; set TERM, or print the figures once: smbdirectctl top --once");
  }
  cbreak();
  noecho();
  curs_set(0);
  keypad(stdscr, TRUE);
  if (has_colors()) {
    start_color();
    use_default_colors();
    init_pair(kAlarmPair, COLOR_RED, -1);
  }
  return std::unique_ptr<Screen>(new Screen);
}

Screen::~Screen() { endwin(); }

FrameSize Screen::size() const {
  return {.width = size_t(std::max(1, getmaxx(stdscr))), .height = size_t(std::max(1, getmaxy(stdscr)))};
}

void Screen::draw(const std::vector<Line>& lines) {
  const FrameSize space = size();
  erase();
  for (size_t row = 0; row < std::min(lines.size(), space.height); ++row) {
    const attr_t shown = attribute(lines[row].emphasis);
    attron(shown);
    mvaddnstr(int(row), 0, lines[row].text.c_str(), int(space.width));
    attroff(shown);
  }
  refresh();
}

Screen::Key Screen::wait(int milliseconds) {
  timeout(milliseconds);
  switch (getch()) {
    case 'q':
    case 'Q':
      return Key::quit;
    case KEY_RESIZE:
      return Key::resized;
    default:
      return Key::none;
  }
}

}  // namespace smbdirect::daemon::top

#ifdef __SANITIZE_ADDRESS__
// ncurses keeps what it has before there is a screen, and has no call to free it.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:new_prescr"; }
#endif
