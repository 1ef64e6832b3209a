// SPDX-License-Identifier: MIT
// Makes the connector to smbd for /upstream/mode at start (blocking for a moment), or returns an error that
// says what is missing and which other mode can be used. Supervisor only.
#pragma once

#include <memory>

#include "daemon/config/pool_config.h"
#include "daemon/upstream/smbd_connector.h"
#include "shm/base/result.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

/// Null in mode "connect", where workers connect by themselves, and in mode "channel", which has no smbd.
[[nodiscard]] shm::Result<std::unique_ptr<SmbdConnector>> open_smbd_connector(shm::Loop& loop,
                                                                              const PoolConfig& config);

}  // namespace smbdirect::daemon
