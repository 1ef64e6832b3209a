// SPDX-License-Identifier: MIT
// 7_c is the connection that the supervisor has numbered 7, in tests.
#pragma once

#include "shm/base/connection_id.h"

namespace smbdirect {

consteval shm::ConnectionId operator""_c(unsigned long long number) { return shm::ConnectionId{number}; }

}  // namespace smbdirect
