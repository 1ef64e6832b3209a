// SPDX-License-Identifier: MIT
// Whether a connection's data goes by memory shared with smbd (docs/vfs_smbdirect.8), and why it does not:
// the one table of names and texts behind the worker's log, the scoreboard, smbdirectctl and its manual page.
// Constant data; any process. A new state goes at the end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "shm/state_table.h"

namespace smbdirect::shm {

// X(state, name, text). "Large" is a READ or WRITE by RDMA of /upstream/area/threshold bytes and more.
// clang-format off
#define SMBDIRECT_AREA_STATES(X)                                                                            \
  X(none, "", "the server is not smbd")                                                                     \
  X(disabled, "off", "/upstream/area/enabled is false")                                                     \
  X(unasked, "unasked", "no READ or WRITE by RDMA of /upstream/area/threshold bytes and more so far")       \
  X(is_signed, "signed", "the client signs its READs and WRITEs, and such data does not go by RDMA")        \
  X(is_encrypted, "encrypted", "the client encrypts, and such data does not go by RDMA")                    \
  X(asked, "asked", "being set up")                                                                         \
  X(ready, "ready", "set up, for the next large READ or WRITE")                                             \
  X(used, "used", "in use")                                                                                 \
  X(no_module, "no-module", "the smbd process has not loaded the module: \"vfs objects\" in smb.conf lack " \
    "smbdirect, or there is no build for this Samba (smbdirectctl doctor)")                                 \
  X(other_host, "other-host", "smbd's address is none of this host's, and memory is shared within a host")  \
  X(unreachable, "unreachable", "smbd's module cannot be reached; the log of the daemon says why")          \
  X(other_release, "other-release", "smbd's module is of another release; a client that connects again "    \
    "after its upgrade gets the new one")                                                                   \
  X(no_memory, "no-memory", "no memory is left for another area (/upstream/area/bytes_per_worker)")         \
  X(lost, "lost", "the link to smbd's module has ended; the log of the worker says why")                    \
  X(no_share, "no-share", "the share of the last large READ or WRITE lacks smbdirect in its "               \
    "\"vfs objects\", which replace the global ones")                                                       \
  X(misplaced, "misplaced", "smbd's module serves the share of the last large READ or WRITE without it, "   \
    "mostly for one before smbdirect in \"vfs objects\" that takes server-side copies; the log of the "     \
    "worker says why")                                                                                      \
  X(full, "full", "the last large READ or WRITE found no room, and went as without the module "             \
    "(/upstream/area/bytes)")
// clang-format on

enum class AreaState : uint8_t {
#define SMBDIRECT_STATE(state, name, text) state,
  SMBDIRECT_AREA_STATES(SMBDIRECT_STATE)
#undef SMBDIRECT_STATE
};

inline constexpr auto kAreaStates = std::to_array<StateRow>({
#define SMBDIRECT_ROW(state, name, text) {name, text},
    SMBDIRECT_AREA_STATES(SMBDIRECT_ROW)
#undef SMBDIRECT_ROW
});

[[nodiscard]] constexpr const StateRow& area_state_row(AreaState state) { return kAreaStates[size_t(state)]; }
[[nodiscard]] constexpr std::optional<AreaState> area_state_from(uint64_t number) {
  return state_from<AreaState>(kAreaStates, number);
}

}  // namespace smbdirect::shm
