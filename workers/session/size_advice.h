// SPDX-License-Identifier: MIT
// smb.conf can offer clients larger messages than the pool file allows. The NEGOTIATE response is never
// changed (3.1.1 hashes it), so the administrator is told which keys to raise and which parameters to lower.
// Pure.
#pragma once

#include <optional>
#include <string>

#include "protocol/smb2/response_body.h"

namespace smbdirect::workers {

/// As the pool file has them.
struct SizeLimits {
  uint64_t max_fragmented_size{};
  uint64_t max_read_write_size{};
};

/// nullopt: all that smbd offers fits.
[[nodiscard]] std::optional<std::string> size_advice(const protocol::smb2::NegotiateResponse& offered,
                                                     const SizeLimits& limits);
/// To stand behind the cause of a connection that ended with a message over the limit.
[[nodiscard]] std::string oversize_advice(const SizeLimits& limits);

}  // namespace smbdirect::workers
