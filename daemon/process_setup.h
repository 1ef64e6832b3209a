// SPDX-License-Identifier: MIT
// Prepares the supervisor's process before anything else runs in it, and checks what can be checked before a
// worker is started. Start-up only.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/config/pool_config.h"
#include "daemon/config/pool_document.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

/// Opens /dev/null for each of descriptors 0 to 2 that is closed: no socket of ours may become "stderr".
void ensure_standard_descriptors();

/// Ignores SIGPIPE (a reader of our log may go), unblocks every signal, and raises the descriptor limit for
/// us and our workers; one that cannot be raised far enough is a line in the log.
void prepare_process(uint32_t connections);

/// Can the worker program be executed? The error says what to do.
[[nodiscard]] shm::Result<> check_worker_program(const std::string& program);

}  // namespace smbdirect::daemon
