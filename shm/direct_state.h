// SPDX-License-Identifier: MIT
// Whether READs and WRITEs of a connection are done by the worker, on the open files themselves
// (docs/vfs_smbdirect.8), and why they are not: the one table of names and texts behind the worker's log, the
// scoreboard, smbdirectctl and its manual page. Constant data; any process. A new state goes at the end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "shm/state_table.h"

namespace smbdirect::shm {

// X(state, name, text)
// clang-format off
#define SMBDIRECT_DIRECT_STATES(X)                                                                          \
  X(none, "", "the server is not smbd")                                                                     \
  X(disabled, "off", "/upstream/direct/enabled is false")                                                   \
  X(unasked, "unasked", "no file was opened so far")                                                        \
  X(is_signed, "signed", "the client signs its READs and WRITEs, which smbd alone can do")                  \
  X(is_encrypted, "encrypted", "the client encrypts, and smbd alone can read that")                         \
  X(asked, "asked", "being set up")                                                                         \
  X(ready, "ready", "set up, for the next READ or WRITE of a file that smbd's module has granted")          \
  X(used, "used", "in use")                                                                                 \
  X(no_module, "no-module", "the smbd process has not loaded the module: \"vfs objects\" in smb.conf lack " \
    "smbdirect, or there is no build for this Samba (smbdirectctl doctor)")                                 \
  X(other_host, "other-host", "smbd's address is none of this host's, and files are passed on within a "    \
    "host")                                                                                                 \
  X(unreachable, "unreachable", "smbd's module cannot be reached; the log of the daemon says why")          \
  X(other_release, "other-release", "smbd's module is of another release; a client that connects again "    \
    "after its upgrade gets the new one")                                                                   \
  X(lost, "lost", "the link to smbd's module has ended; the log of the worker says why")                    \
  X(not_here, "refused", "smbd's module grants no files in this smbd process; the log of the worker says "  \
    "why")                                                                                                  \
  X(share_refused, "share", "the share of the last READ or WRITE grants no files; the log of the worker "   \
    "says why")                                                                                             \
  X(not_granted, "no-lease", "the file of the last READ or WRITE was opened without a lease or oplock on "  \
    "which smbd would check and break nothing, or its share lacks smbdirect in its \"vfs objects\"")        \
  X(revoked, "revoked", "the lease or oplock of the last READ's or WRITE's file was taken back, because "   \
    "it is open elsewhere too")                                                                             \
  X(unusable, "unusable", "what smbd's module granted for the last READ or WRITE is no file to read or "    \
    "write here; the log of the worker says why")                                                           \
  X(full, "full", "no descriptor was left for the file of the last READ or WRITE (/upstream/direct/files, " \
    "and the limit of open files, LimitNOFILE of the unit)")                                                \
  X(other_channel, "left", "the client goes on by another connection, and has given this one up: smbd answers what it sends")
// clang-format on

enum class DirectState : uint8_t {
#define SMBDIRECT_STATE(state, name, text) state,
  SMBDIRECT_DIRECT_STATES(SMBDIRECT_STATE)
#undef SMBDIRECT_STATE
};

inline constexpr auto kDirectStates = std::to_array<StateRow>({
#define SMBDIRECT_ROW(state, name, text) {name, text},
    SMBDIRECT_DIRECT_STATES(SMBDIRECT_ROW)
#undef SMBDIRECT_ROW
});

[[nodiscard]] constexpr const StateRow& direct_state_row(DirectState state) {
  return kDirectStates[size_t(state)];
}
[[nodiscard]] constexpr std::optional<DirectState> direct_state_from(uint64_t number) {
  return state_from<DirectState>(kDirectStates, number);
}

}  // namespace smbdirect::shm
