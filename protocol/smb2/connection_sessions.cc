// SPDX-License-Identifier: MIT
#include "protocol/smb2/connection_sessions.h"

#include <algorithm>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/request_body.h"

namespace smbdirect::protocol::smb2 {

void ConnectionSessions::answered(Command command, uint32_t status, uint64_t session_id) {
  const auto at = std::ranges::lower_bound(sessions_, session_id, {}, &Session::id);
  const bool known = at != sessions_.end() && at->id == session_id;
  if (!known) {
    if (command != Command::session_setup || status != 0 || sessions_.size() == kMost) return;
    sessions_.insert(at, {.id = session_id});
  } else if (status == kStatusUserSessionDeleted || (command == Command::logoff && status == 0)) {
    sessions_.erase(at);
  } else if (command == Command::session_setup) {
    at->out = status != 0;  // the client has begun to log on anew, or has failed to
  } else if (status == kStatusNetworkSessionExpired) {
    at->out = true;
  } else if (status == 0 && is_io(command)) {
    at->out = false;
  }
}

const ConnectionSessions::Session* ConnectionSessions::find(uint64_t session_id) const {
  const auto at = std::ranges::lower_bound(sessions_, session_id, {}, &Session::id);
  return at != sessions_.end() && at->id == session_id ? &*at : nullptr;
}

bool ConnectionSessions::usable(uint64_t session_id) const {
  const Session* session = find(session_id);
  return session != nullptr && !session->out;
}

bool ConnectionSessions::may_close(uint64_t session_id) const {
  return find(session_id) != nullptr || sessions_.size() == kMost;
}

}  // namespace smbdirect::protocol::smb2
