// SPDX-License-Identifier: MIT
// A process leaves its terminal for the background, as Samba's daemons do, except that whoever started it
// waits until it is of use: the caller's exit status says whether it is. Also where its log goes. Start-up
// only, before there are threads, a loop or children.
#pragma once

#include <string>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// A file that lines are appended to; made (mode 0644) if it is missing, as Samba makes its logs.
[[nodiscard]] shm::Result<shm::UniqueFd> open_log_file(const std::string& file);

/// Returns in a child, whose standard input and output are /dev/null and whose standard error is `log`, in a
/// session of its own unless told otherwise. The parent does not return: it exits with 0 when the child has
/// written a byte to the descriptor that is returned, and otherwise, when the child ends, as the child did.
/// log_name is for the message that the parent prints then.
[[nodiscard]] shm::Result<shm::UniqueFd> go_to_background(const shm::UniqueFd& log,
                                                          const std::string& log_name, bool new_session);

}  // namespace smbdirect::daemon
