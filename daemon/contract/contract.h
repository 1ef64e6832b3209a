// SPDX-License-Identifier: MIT
// The contract between the supervisor (smbdirectd) and a worker (smbdirect-worker): argv, inherited
// descriptors, configuration (worker_config.h) and messages (messages.h). Both sides include this folder and
// nothing else of each other.
//
// A worker is started by fork+exec as
//     smbdirect-worker --slot N --generation G
// with exactly these descriptors open:
//     0 /dev/null   1, 2 the supervisor's stderr   3 control socket   4 configuration
//     5 the hand-over file, an rdma_cm file of the supervisor's: only in a pool with a verbs listener
// The control socket is SOCK_SEQPACKET; each datagram is one message. A message that is unknown, or not meant
// for its receiver, ends the conversation (the sender is of a different version, or not ours). EOF on it
// tells the worker that the supervisor is gone: it keeps serving what it has and exits when the last
// connection ends. EOF tells the supervisor that the worker is gone. The configuration is a sealed memfd
// holding WorkerConfig as JSON.
//
// A connection changes hands in three steps, so that it is never in two:
//     supervisor: OFFER (addresses only)  ->  worker: TAKE or REFUSE  ->  supervisor: GRANT (with the fd)
// An offer not taken within kOfferDeadlineMs goes to another worker; a TAKE that comes later gets no answer.
// After GRANT the connection is the worker's, until its CLOSED.
//
// A worker that its supervisor has left is found again: it has a listening socket, which the supervisor has
// bound to a name in /run_directory and sent (ADOPTION_SOCKET), and at which a later supervisor connects.
// Once it is alone the worker accepts there and says LEFT; ADOPT gives it a slot and a generation of the new
// supervisor's. It tells what it has (KEPT), and is as any worker that drains. It makes no socket and reaches
// nobody by itself for that.
//
// A connection whose client has no SMB2 session yet holds one of few places: the worker sends SESSION_UP when
// the server has let the client in, and the supervisor may send END before that, when another connection
// needs the place.
//
// Where smbd is the server, a worker may have a link to a module in the process that serves a connection
// (protocol/proxy/smbdirect_area.h). It asks with a copy of its stream to smbd (WANT_MODULE), once at a time
// for each connection. Which process has the other end is the kernel's to say, so a worker reaches the
// modules of its own connections' processes and no others. It asks again when the link or the process has
// changed.
//
// A request on a verbs listener changes hands without GRANT: at OFFER the supervisor has moved its id to the
// worker's hand-over file; the worker moves it on to a file of its own (rdma_ucm.h) and then sends TAKE. The
// kernel decides races: the process that moves the id first has it, so the supervisor takes an unanswered
// offer back in the same way. A worker never holds a listener's file: it could take the listening id and
// others' requests, and would keep a dead supervisor's listener bound.
#pragma once

#include <cstdint>
#include <optional>

#include "daemon/contract/messages.h"
#include "daemon/contract/worker_config.h"
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

/// Sends one message (and one descriptor) to, or from, a worker of this generation. Never blocks: a full
/// socket is an error, for the other side has not read for a long time.
[[nodiscard]] shm::Result<> send_message(int control_fd, uint32_t generation, const FromWorker& message,
                                         int descriptor = -1);
[[nodiscard]] shm::Result<> send_message(int control_fd, uint32_t generation, const FromSupervisor& message,
                                         int descriptor = -1);

/// A received message; Said is FromWorker or FromSupervisor.
template <class Said>
struct Received {
  uint32_t generation = 0;  // of the worker; a message of another generation is ignored
  Said message;
  shm::UniqueFd descriptor;
};
/// One message; nothing when there is none now. An orderly end of the other side is the error ECONNRESET;
/// anything but one well-formed message for this side is EPROTO. A GRANT without a descriptor means that our
/// descriptor table is full: the connection is lost, and its CLOSED is still due.
template <class Said>
[[nodiscard]] shm::Result<std::optional<Received<Said>>> receive_message(int control_fd);

}  // namespace smbdirect::daemon
