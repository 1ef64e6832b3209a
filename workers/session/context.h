// SPDX-License-Identifier: MIT
// What the two directions of a session share, and the calls by which they tell the session that it must end.
// Owned by the session; its parts outlive both directions.
#pragma once

#include <string>

#include "protocol/smb2/server_translator.h"
#include "workers/memory/slab.h"
#include "workers/session/admission.h"
#include "workers/session/session_memory.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers {

namespace smb2 = protocol::smb2;

class SessionEvents {
 public:
  /// The client's first SMB2 message, valid: time to connect to the upstream.
  virtual void on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) = 0;
  /// smbd has agreed to a dialect and named its largest sizes.
  virtual void on_agreed(const smb2::NegotiateResponse& /*agreed*/) {}
  /// A process serves the connection from now on, as the kernel names it (native channels only).
  virtual void on_attached(uint32_t process) = 0;
  /// The server has let the client in: it has answered a SESSION_SETUP with success. May be called several
  /// times; the first time counts.
  virtual void on_session_set_up() = 0;
  /// Bytes for the server are in the outbox, and no other event reported them.
  virtual void on_queued() = 0;
  /// The client or smbd broke a rule: the connection ends now. why is our text, not the peer's.
  virtual void on_broken(std::string why) = 0;

 protected:
  ~SessionEvents() = default;
};

struct SessionContext {
  Transport& transport;
  smb2::ServerTranslator& translator;
  Admission& admission;
  SlabPool& slabs;  // payload
  Budget& budget;   // of this connection
  SessionMemory& memory;
  SessionEvents& events;
  uint64_t answered_ms = 0;  // when smbd last completed an answer (loop's time)
  bool set_up = false;       // the server has let the client in
};

}  // namespace smbdirect::workers
