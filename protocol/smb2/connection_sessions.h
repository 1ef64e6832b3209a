// SPDX-License-Identifier: MIT
// The sessions whose ids a connection's requests may name, as far as what is answered here goes: those that
// smbd has let in on this very connection, new or bound (MS-SMB2 3.3.5.2.9). One smbd serves all connections
// of a client, each with sessions of its own, and their ids are no secrets. A session that has expired, or is
// being set up anew, is out until smbd lets it in, or does a READ or WRITE of it. Owned by one translator;
// pure.
//
// Beyond kMost sessions of one connection none is taken in: what they ask for goes to smbd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

class ConnectionSessions {
 public:
  static constexpr size_t kMost = 4096;

  /// smbd's final answer to a request of this connection.
  void answered(Command command, uint32_t status, uint64_t session_id);
  [[nodiscard]] bool usable(uint64_t session_id) const;
  /// Whether smbd may take a CLOSE or a LOGOFF in it, as it does of one that has expired as well.
  [[nodiscard]] bool may_close(uint64_t session_id) const;

 private:
  struct Session {
    uint64_t id{};
    bool out{};  // until smbd has done something in it
  };

  [[nodiscard]] const Session* find(uint64_t session_id) const;

  std::vector<Session> sessions_;  // by id
};

}  // namespace smbdirect::protocol::smb2
