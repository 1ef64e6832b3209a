// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/top.h"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/ctl/client.h"
#include "daemon/ctl/top/frame.h"
#include "daemon/ctl/top/rates.h"
#include "daemon/ctl/top/rates_json.h"
#include "daemon/ctl/top/reading.h"
#include "daemon/ctl/top/screen.h"

namespace smbdirect::daemon::top {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kInterval{1000};

int64_t milliseconds(Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

shm::Result<Reading> look(const std::string& socket) {
  const auto status = ask_daemon(socket, {.command = CtlCommand::status});
  if (!status) return std::unexpected(status.error());
  const auto connections = ask_daemon(socket, {.command = CtlCommand::connections});
  if (!connections) return std::unexpected(connections.error());
  const auto workers = ask_daemon(socket, {.command = CtlCommand::workers});
  if (!workers) return std::unexpected(workers.error());
  auto reading = read_answers(*status, *workers, *connections, milliseconds(Clock::now().time_since_epoch()));
  if (!reading) return shm::fail(reading.error());
  return std::move(*reading);
}

/// What was last seen, below why there is nothing newer.
std::vector<Line> without_answer(const std::string& why, std::vector<Line> last) {
  last.insert(last.begin(), Line{.text = why, .emphasis = Emphasis::alarm});
  return last;
}

}  // namespace

shm::Result<std::string> once(const std::string& socket, bool json) {
  const auto before = look(socket);
  if (!before) return std::unexpected(before.error());
  std::this_thread::sleep_for(kInterval);
  const auto now = look(socket);
  if (!now) return std::unexpected(now.error());
  if (json) return rates_json(*now, rates_between(*before, *now)) + "\n";
  std::string text;
  for (const Line& line : frame(*now, rates_between(*before, *now), {.width = 160, .height = 0}))
    text += line.text + "\n";
  return text;
}

shm::Result<> watch(const std::string& socket) {
  auto before = look(socket);
  if (!before) return std::unexpected(before.error());  // while there is still a place to say it
  auto screen = Screen::open();
  if (!screen) return std::unexpected(screen.error());
  Reading now = *before;
  PoolRates rates = rates_between(*before, now);
  std::string trouble;
  auto due = Clock::now() + kInterval;
  for (;;) {
    const FrameSize size = (*screen)->size();
    std::vector<Line> lines = frame(now, rates, size);
    (*screen)->draw(trouble.empty() ? lines : without_answer(trouble, std::move(lines)));
    const auto left = due - Clock::now();
    if (left > Clock::duration::zero()) {
      if ((*screen)->wait(int(milliseconds(left))) == Screen::Key::quit) return {};
      if (Clock::now() < due) continue;  // a key, or another size: drawn again
    }
    due = Clock::now() + kInterval;
    auto next = look(socket);
    trouble = next ? "" : next.error().text();
    if (!next) continue;
    rates = rates_between(now, *next);
    now = std::move(*next);
  }
}

}  // namespace smbdirect::daemon::top
