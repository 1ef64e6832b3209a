// SPDX-License-Identifier: MIT
#include "workers/transport/progress_watch.h"

#include <algorithm>

namespace smbdirect::workers {

const char* owed_text(Owed what) {
  switch (what) {
    case Owed::read_data:
      return "the peer has sent no data for outstanding RDMA READs";
    case Owed::taking:
      return "the peer has received nothing of what is being sent to it";
    case Owed::message:
      return "the peer has sent no more of a message that it began";
  }
  return "";
}

uint64_t ProgressWatch::since() const { return std::ranges::min(kinds_, {}, &Kind::since_ms).since_ms; }

std::optional<Owed> ProgressWatch::overdue(uint64_t now_ms) const {
  for (size_t i = 0; i < kinds_.size(); ++i) {
    const uint64_t since_ms = kinds_[i].since_ms;
    if (since_ms != kNever && now_ms - since_ms >= timeout_ms_) return static_cast<Owed>(i);
  }
  return std::nullopt;
}

}  // namespace smbdirect::workers
