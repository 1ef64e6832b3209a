// SPDX-License-Identifier: MIT
// A sealed memfd that carries text from one process to another. The maker writes it once and seals it against
// every change, so a reader need not trust the maker, and truncation cannot cause a SIGBUS. It lives as long
// as any process holds its descriptor.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::shm {

/// Closed on exec; the one who passes it on duplicates it. `name` shows in /proc/PID/fd.
[[nodiscard]] Result<UniqueFd> make_sealed_text(const std::string& name, std::string_view text);

/// The whole text. An unsealed descriptor, another kind of file or more than max_bytes is an error.
[[nodiscard]] Result<std::string> read_sealed_text(int fd, size_t max_bytes);

}  // namespace smbdirect::shm
