// SPDX-License-Identifier: MIT
// The data area of one native channel: memory that a worker and the server process of a client share, a
// memfd. The worker makes it, seals its size, so that neither process can cause the other a SIGBUS, and
// passes the descriptor on; each process maps it. The memory lives as long as either process has it.
#pragma once

#include <cstddef>
#include <utility>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::shm {

/// Zeroed; a page is taken when it is first touched. Closed on exec.
[[nodiscard]] Result<UniqueFd> make_area(size_t bytes);

/// The same of huge pages, of those that the administrator has set aside (vm.nr_hugepages). All are there
/// before anybody has it: a process that touches one which a control group or another node's policy withholds
/// would end by SIGBUS. To clear them takes milliseconds, so it is done page by page, between other work.
class HugeArea {
 public:
  /// Error: there are not so many, or `bytes` is not a multiple of their size.
  [[nodiscard]] static Result<HugeArea> begin(size_t bytes);
  /// The next page. True: all are there.
  [[nodiscard]] Result<bool> step();
  /// When all are there.
  [[nodiscard]] UniqueFd take() { return std::move(fd_); }

 private:
  HugeArea(UniqueFd fd, size_t page, size_t bytes) : fd_(std::move(fd)), page_(page), bytes_(bytes) {}

  UniqueFd fd_;
  size_t page_, bytes_, there_ = 0;
};

}  // namespace smbdirect::shm
