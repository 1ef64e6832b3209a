// SPDX-License-Identifier: MIT
// The whole contract between the supervisor (smbdirectd) and a worker (smbdirect-worker): argv, inherited
// descriptors, configuration and messages. Both sides include this and nothing else of each other.
//
// A worker is started by fork+exec as
//     smbdirect-worker --slot N --generation G
// with exactly these descriptors open:
//     0 /dev/null   1, 2 the supervisor's stderr   3 control socket   4 configuration
// The control socket is SOCK_SEQPACKET; each datagram is one message; unknown types are fatal to both
// sides (the sender is a different version). EOF on it tells the worker that the supervisor is gone: it
// keeps serving what it has and exits when the last connection ends. EOF tells the supervisor that the
// worker is gone. The configuration is a sealed memfd holding WorkerConfig as JSON.
//
// A connection changes hands in three steps, so that it is never in two:
//     supervisor: OFFER (addresses only)  ->  worker: TAKE or REFUSE  ->  supervisor: GRANT (with the fd)
// An offer not taken within kOfferDeadlineMs goes to another worker; a TAKE that comes later is answered
// with nothing. After GRANT the connection is the worker's, until its CLOSED.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "shm/log.h"
#include "shm/result.h"
#include "shm/unique_fd.h"

namespace smbdirect::daemon {

inline constexpr int kControlFd = 3;
inline constexpr int kConfigFd = 4;
inline constexpr uint64_t kOfferDeadlineMs = 1000;

/// Exit codes of every program here.
enum class ExitCode : int {
  ok = 0,
  runtime = 1,        // restart is sensible
  configuration = 2,  // do not respawn
  environment = 3,    // no device, no permission, no port
};

/// What a worker needs of the pool file, defaults applied by the supervisor. Times in milliseconds, sizes
/// in bytes.
struct WorkerConfig {
  shm::log::Level log_level = shm::log::Level::info;
  std::string user;  // drop to this user when started as root; empty: stay

  std::string upstream_address;  // smbd
  uint16_t upstream_port = 445;
  uint32_t upstream_connect_timeout_ms = 1000;

  // MS-SMBD limits (protocol/smbdirect/engine.h has the meaning).
  uint16_t receive_credit_initial = 32;
  uint16_t receive_credit_max = 255;
  uint16_t send_credit_target = 255;
  uint32_t max_send_size = 8192;
  uint32_t max_receive_size = 8192;
  uint32_t max_fragmented_size = 8 * 1024 * 1024 + 128 * 1024;
  uint32_t max_read_write_size = 8 * 1024 * 1024;
  uint32_t negotiate_timeout_ms = 5'000;
  uint32_t idle_timeout_ms = 120'000;
  uint32_t keepalive_timeout_ms = 5'000;
  uint32_t send_credit_timeout_ms = 5'000;

  bool iwarp_crc = true;  // ask for CRC32C; used when either side asks
  uint16_t iwarp_max_inbound_reads = 16;
  uint16_t iwarp_max_outbound_reads = 16;

  uint32_t connections = 1024;  // per worker: the pool's limit, enforced by the supervisor, repeated here
  uint32_t handshake_timeout_ms = 5'000;
  uint64_t buffered_bytes_per_connection = 32ull << 20;
  uint64_t buffered_bytes_per_worker = 1024ull << 20;

  [[nodiscard]] std::string to_json() const;
  [[nodiscard]] static shm::Result<WorkerConfig> from_json(const std::string& text);
};

enum class Fabric : uint8_t { iwarp, verbs };

enum class MessageType : uint16_t {
  // worker -> supervisor
  ready = 1,  // configuration applied, memory and loop stand
  take,       // offer
  refuse,     // offer: draining or at a limit
  closed,     // offer: the connection granted under this number has ended
  pong,       // sequence
  // supervisor -> worker
  offer = 64,  // offer, fabric, peer, local
  grant,       // offer, and the connection's descriptor
  ping,        // sequence
  drain,       // finish what you have, take no more, exit within deadline_ms (0: no deadline)
  stop,        // close everything in an orderly way and exit within deadline_ms
  dump,        // log totals and one line per connection, with its recent events
};

/// One control message. Fields not named for its type in MessageType are zero.
struct Message {
  MessageType type{};
  uint32_t generation{};  // of the worker; a message of another generation is ignored
  uint64_t offer = 0;
  uint64_t sequence = 0;
  uint32_t deadline_ms = 0;
  Fabric fabric{};
  sockaddr_storage peer{};
  sockaddr_storage local{};
};

/// Sends one message (and one descriptor). Never blocks: a full socket is an error, for the other side
/// has not read for a long time.
[[nodiscard]] shm::Result<> send_message(int control_fd, const Message& message, int descriptor = -1);

struct Received {
  Message message;
  shm::UniqueFd descriptor;
};
/// One message; nothing when there is none now. An orderly end of the other side is the error ECONNRESET;
/// what is not one well-formed message is EPROTO. A GRANT without a descriptor means that our descriptor
/// table is full: the connection is lost, and its CLOSED is still due.
[[nodiscard]] shm::Result<std::optional<Received>> receive_message(int control_fd);

}  // namespace smbdirect::daemon
