// SPDX-License-Identifier: MIT
// The iwarp fabric's two entry points: endpoints over an ordinary TCP socket (RFC 5040 RDMAP, RFC 5041
// DDP, RFC 5044 MPA, RFC 6581 enhanced set-up). Used by a worker for sockets the supervisor accepted,
// and by smbdirect-connect and the benchmark for connections they open. One loop, one thread.
//
// What the seam leaves open, here:
//  - A SEND or an RDMA WRITE completes when the kernel's socket has taken its last byte; TCP owns the bytes
//    from then on and the memory may be used again. It says nothing about the peer.
//  - READs beyond ORD wait inside; SENDs and WRITEs posted after such a READ do not wait for it.
//  - ring() writes at once, except from inside a handler's callback: then when the callback has returned.
//  - The accepting side sends nothing before the first FPDU has arrived (RFC 5044 7.1.2), so the connecting
//    side must speak first, as SMB Direct's client does. What is posted before waits.
//  - A peer that breaks a rule is sent one Terminate (RFC 5040 4.8) and given a second to read it.
//  - Revoking memory (unexpose) while the peer is reading or writing it ends the connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <sys/socket.h>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "workers/fabric/fabric.h"

namespace smbdirect::workers::fabric::iwarp {

struct Options {
  bool want_crc = true;              // CRC32C is used when either side wants it (RFC 5044 7.1)
  uint16_t max_inbound_reads = 16;   // IRD we offer: the peer's READs we serve at once
  uint16_t max_outbound_reads = 16;  // ORD we offer
  uint32_t max_send_work = 1024;
  uint32_t max_receive_work = 1024;
  uint32_t handshake_timeout_ms = 5000;  // MPA request/reply must be complete by then
  // A peer whose TCP acknowledges nothing for this long, or keeps its window shut, has vanished; also one
  // that has nothing to acknowledge, which is asked. 0: the system's own, which is for ever in most cases.
  uint32_t peer_timeout_ms = 0;
  uint8_t mpa_revision = 2;  // connecting side: 2 falls back to nothing; 1 = RFC 5044 only
  // SMB Direct's legacy iWARP private data (MS-SMBD 6.1, facts section 3): answered when present, never
  // required.
};

/// Accepting side: fd is a connected TCP socket on which nothing has been read.
std::unique_ptr<Endpoint> accept(uv_loop_t& loop, shm::UniqueFd fd, const Options& options, Handler& handler);

/// Connecting side: opens a TCP connection to `to`, from `from` when given (any port when its port is 0).
shm::Result<std::unique_ptr<Endpoint>> connect(uv_loop_t& loop, const sockaddr_storage& to,
                                               const std::optional<sockaddr_storage>& from,
                                               const Options& options, Handler& handler);

}  // namespace smbdirect::workers::fabric::iwarp
