// SPDX-License-Identifier: MIT
#include "shm/base/random.h"

#include <sys/random.h>

namespace smbdirect::shm {

uint64_t random_word() {
  uint64_t word{};
  while (::getrandom(&word, sizeof word, 0) != ssize_t(sizeof word)) {  // a signal came first: again
  }
  return word;
}

}  // namespace smbdirect::shm
