// SPDX-License-Identifier: MIT
// The whole contract between the supervisor (smbdirectd) and a worker (smbdirect-worker): argv, inherited
// descriptors, configuration and messages. Both sides include this and nothing else of each other.
//
// A worker is started by fork+exec as
//     smbdirect-worker --slot N --generation G
// with exactly these descriptors open:
//     0 /dev/null   1, 2 the supervisor's stderr   3 control socket   4 configuration
//     5 the hand-over file, an rdma_cm file of the supervisor's: only in a pool with a verbs listener
// The control socket is SOCK_SEQPACKET; each datagram is one message; unknown types are fatal to both
// sides (the sender is a different version). EOF on it tells the worker that the supervisor is gone: it
// keeps serving what it has and exits when the last connection ends. EOF tells the supervisor that the
// worker is gone. The configuration is a sealed memfd holding WorkerConfig as JSON.
//
// A connection changes hands in three steps, so that it is never in two:
//     supervisor: OFFER (addresses only)  ->  worker: TAKE or REFUSE  ->  supervisor: GRANT (with the fd)
// An offer not taken within kOfferDeadlineMs goes to another worker; a TAKE that comes later is answered
// with nothing. After GRANT the connection is the worker's, until its CLOSED.
//
// A connection whose client has no SMB2 session yet holds one of few places: the worker says SESSION_UP when
// the server has let the client in, and the supervisor may say END before that, when another needs the place.
//
// A request on a verbs listener changes hands without GRANT: at OFFER the supervisor has moved its id to the
// worker's hand-over file; the worker moves it on to a file of its own (rdma_ucm.h) and then says TAKE. The
// kernel decides races: whoever moves the id first has it, so the supervisor takes an unanswered offer back
// in the same way. A worker never holds a listener's file: it could take the listening id and others'
// requests, and would keep a dead supervisor's listener bound.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <vector>

#include "shm/base/guid.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

inline constexpr int kControlFd = 3;
inline constexpr int kConfigFd = 4;
inline constexpr int kHandoverFd = 5;
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

  // Where streams to the server come from.
  enum class Upstream : uint8_t {
    connect,  // connect(2) to smbd
    ask,      // the supervisor (want_smbd)
    channel,  // native peers, whose processes come to the worker or are passed a channel
  };
  Upstream upstream = Upstream::connect;
  std::string upstream_address;  // smbd
  uint16_t upstream_port = 445;
  uint32_t upstream_connect_timeout_ms = 1000;

  uint32_t channel_area_bytes = 16 << 20;  // of each native channel
  uint64_t channel_area_bytes_per_worker = 4ull << 30;
  uint16_t channel_operations = 64;  // RDMA operations a peer may have under way on one channel

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
  uint32_t send_credit_timeout_ms = 60'000;

  bool iwarp_crc = true;  // ask for CRC32C; used when either side asks
  uint16_t iwarp_max_inbound_reads = 16;
  uint16_t iwarp_max_outbound_reads = 16;

  bool verbs = false;  // the pool has a verbs listener: kHandoverFd is there
  uint16_t verbs_max_outbound_reads = 32;
  uint32_t verbs_busy_poll_us = 0;
  uint32_t verbs_device_idle_ms = 10'000;

  uint32_t connections = 1024;  // per worker: the pool's limit, enforced by the supervisor, repeated here
  uint32_t ipv6_prefix_length = 64;  // of the network that an IPv6 client is
  uint32_t handshake_timeout_ms = 5'000;
  uint32_t progress_timeout_ms = 60'000;
  uint32_t upstream_progress_timeout_ms = 120'000;
  uint32_t session_timeout_ms = 45'000;  // until the server has answered a SESSION_SETUP with success
  uint64_t buffered_bytes_per_connection = 32ull << 20;
  uint64_t buffered_bytes_per_worker = 1024ull << 20;

  [[nodiscard]] std::string to_json() const;
  [[nodiscard]] static shm::Result<WorkerConfig> from_json(const std::string& text);
};

enum class Fabric : uint8_t { iwarp, verbs };

/// The answer to a CLAIM in a pool with native peers.
enum class ClaimOutcome : uint8_t {
  granted,  // nobody serves the client: WANT_PROCESS. Also for those that cannot be claimed
  wait,     // its first connection has no process yet: another answer follows
  owner,    // a process serves it: PASS the channel
};

/// Why the supervisor ends a connection that a worker has (END).
enum class EndReason : uint8_t {
  place_needed = 1,  // it has no session, and another client needs its place
};
[[nodiscard]] std::string_view end_reason_text(EndReason reason);

/// What a worker needs to accept a connection request of the RDMA connection manager (rdma_ucm.h).
struct CmRequest {
  static constexpr size_t kPrivateBytes = 8;  // all that SMB Direct has a use for (MS-SMBD 6.1)

  uint32_t id = 0;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t private_data_length = 0;  // as it came; the bytes are the first of it
  std::array<std::byte, kPrivateBytes> private_data{};
};

enum class MessageType : uint16_t {
  // worker -> supervisor
  ready = 1,   // configuration applied, memory and loop stand
  take,        // offer; with verbs: the id is on a file of the worker's
  refuse,      // offer: draining or at a limit
  closed,      // offer: the connection granted under this number has ended
  pong,        // sequence
  want_smbd,   // offer: this connection's client wants smbd; asked once, answered by smbd or no_smbd
  claim,       // offer, guid: the connection's client named itself so (MS-SMB2 2.2.3 ClientGuid)
  channel_up,  // offer, process: a channel between that client and smbd is up, until CHANNEL_DOWN or CLOSED.
               // With a native
               // peer
               // the process is what the kernel calls it, and a later one says that another has it; else 0
  scoreboard,  // a descriptor: the scoreboard of this worker (shm/scoreboard.h); once, before READY
  reported,    // sequence: the report asked for under this number is written
  want_process,  // offer, guid: a process is to open this connection's channel, with the guid's bytes as its
                 // cookie
  pass,        // offer, a descriptor: the channel of this connection, for the process that serves its client
  not_passed,  // sequence: the process of PASS_TO has no channel with this worker
  channel_down,  // offer: its channel has ended, or its claim; the connection itself until CLOSED
  session_up,    // offer: the server has let the connection's client in (SESSION_SETUP, success); once
  // supervisor -> worker
  offer = 64,     // offer, fabric, peer, local; cm when the fabric is verbs
  grant,          // offer, and the connection's descriptor
  ping,           // sequence
  drain,          // finish what you have, take no more, exit within deadline_ms (0: no deadline)
  stop,           // close everything in an orderly way and exit within deadline_ms
  dump,           // log totals and one line per connection, with its recent events
  smbd,           // offer, and a descriptor: a stream to smbd, which sees the client's address on it
  no_smbd,        // offer, error: there is none; the log of the supervisor says why
  report,         // sequence, and a descriptor: a memfd to write the connections' recent events into, as JSON
  registry,       // a descriptor: the GUID registry, to be read (native peers only, as those that follow)
  peer_listener,  // a descriptor: the listening socket at which started processes open their channels
  claimed,        // offer, error: the answer to its CLAIM, a ClaimOutcome; not after channel_up
  pass_to,        // sequence, process, a descriptor: give that process this channel, of another worker's
  end,            // offer, error: close the connection now, for that EndReason; its CLOSED follows
};

/// One control message. Fields not named for its type in MessageType are zero.
struct Message {
  MessageType type{};
  uint32_t generation{};  // of the worker; a message of another generation is ignored
  uint64_t offer = 0;
  uint64_t sequence = 0;
  uint32_t deadline_ms = 0;
  uint32_t error = 0;    // an errno; a ClaimOutcome or an EndReason
  uint32_t process = 0;  // a pid
  shm::Guid guid{};
  Fabric fabric{};
  sockaddr_storage peer{};
  sockaddr_storage local{};
  CmRequest cm{};
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
