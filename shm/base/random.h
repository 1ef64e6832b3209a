// SPDX-License-Identifier: MIT
// Random bits that nobody else knows, from the kernel. Any thread.
#pragma once

#include <cstdint>

namespace smbdirect::shm {

[[nodiscard]] uint64_t random_word();

}  // namespace smbdirect::shm
