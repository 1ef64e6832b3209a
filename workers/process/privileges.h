// SPDX-License-Identifier: MIT
// What a worker gives up before it touches a client byte, and before it opens any device: the order
// matters, because RDMA descriptors work only under the exact credentials that opened them.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace smbdirect::workers {

/// Raises the limit of locked memory as far as allowed; call before privileges are dropped. Returns the
/// limit.
uint64_t raise_locked_memory_limit();

/// Raises the limit of open files as far as allowed: of those that smbd's modules grant there may be many.
/// Call before the worker is confined.
void raise_descriptor_limit();

/// Becomes `user` (its groups too) when running as root and user is not empty; sets no_new_privs; and clears
/// all capability sets, whatever the user.
[[nodiscard]] shm::Result<> drop_privileges(const std::string& user);

}  // namespace smbdirect::workers
