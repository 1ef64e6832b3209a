// SPDX-License-Identifier: MIT
// The SMB2 sessions that a client of this worker is having ended by smbd at this moment (PreviousSessions):
// no WRITE of theirs begins here. Of the worker; outlives its connections, one thread.
#pragma once

#include <cstdint>
#include <map>

namespace smbdirect::workers {

class EndingSessions {
 public:
  /// As often as end(): several connections may name one.
  void begin(uint64_t session) { ++named_[session]; }
  void end(uint64_t session) {
    const auto at = named_.find(session);
    if (at != named_.end() && --at->second == 0) named_.erase(at);
  }
  [[nodiscard]] bool has(uint64_t session) const { return named_.contains(session); }
  [[nodiscard]] bool empty() const { return named_.empty(); }

 private:
  std::map<uint64_t, uint32_t> named_;
};

}  // namespace smbdirect::workers
