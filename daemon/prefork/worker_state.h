// SPDX-License-Identifier: MIT
// The states of a worker slot and the one table of their names. Constant data.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace smbdirect::daemon {

enum class WorkerState : uint8_t { stopped, backoff, starting, ready, draining, stopping, failed };

struct WorkerStateRow {
  WorkerState state;
  std::string_view name;
  bool process;  // has one
  bool active;   // takes connections, or will
  std::string_view meaning;
};
inline constexpr std::array<WorkerStateRow, 7> kWorkerStates{{
    {WorkerState::stopped, "stopped", false, false, "has no process and will get none"},
    {WorkerState::backoff, "backoff", false, true, "waits before it starts again"},
    {WorkerState::starting, "starting", true, true, "has been started and is not ready yet"},
    {WorkerState::ready, "ready", true, true, "takes connections"},
    {WorkerState::draining, "draining", true, false, "finishes its connections and takes no more"},
    {WorkerState::stopping, "stopping", true, false, "closes its connections and ends"},
    {WorkerState::failed, "failed", false, true,
     "ended with exit status 2 (configuration) and is not started again"},
}};

[[nodiscard]] constexpr const WorkerStateRow& row_of(WorkerState state) {
  return kWorkerStates.at(size_t(state));
}
[[nodiscard]] constexpr std::string_view state_name(WorkerState state) { return row_of(state).name; }

}  // namespace smbdirect::daemon
