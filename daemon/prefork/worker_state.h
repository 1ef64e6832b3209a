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
  std::string_view meaning;
};
inline constexpr std::array<WorkerStateRow, 7> kWorkerStates{{
    {WorkerState::stopped, "stopped", false, "has no process and will get none"},
    {WorkerState::backoff, "backoff", false, "waits before it starts again"},
    {WorkerState::starting, "starting", true, "has been started and is not ready yet"},
    {WorkerState::ready, "ready", true, "takes connections"},
    {WorkerState::draining, "draining", true, "finishes its connections and takes no more"},
    {WorkerState::stopping, "stopping", true, "closes its connections and ends"},
    {WorkerState::failed, "failed", false,
     "ended with exit status 2 (configuration) and is not started again"},
}};

[[nodiscard]] constexpr const WorkerStateRow& row_of(WorkerState state) {
  return kWorkerStates.at(size_t(state));
}
[[nodiscard]] constexpr std::string_view state_name(WorkerState state) { return row_of(state).name; }

}  // namespace smbdirect::daemon
