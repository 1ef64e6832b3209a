// SPDX-License-Identifier: MIT
// Texts that say why an RDMA connection could not be made: what the connection manager's status means to the
// person who gave the address. Pure.
#pragma once

#include <string>

#include <rdma/rdma_cma.h>

namespace smbdirect::workers::fabric::verbs {

/// One line about a failure event. status: -errno, or of rejected the fabric's reason.
[[nodiscard]] std::string failure_text(rdma_cm_event_type type, int status, const std::string& server);
/// Of a call on the way to a connection that was refused with this errno.
[[nodiscard]] std::string refused_call_text(const char* call, int system_errno, const std::string& server);

}  // namespace smbdirect::workers::fabric::verbs
