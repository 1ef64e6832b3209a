// SPDX-License-Identifier: MIT
// The places where a tracer (bpftrace, perf, SystemTap, gdb) can look at changes of state: USDT probes of the
// provider "smbdirect". This is their one table; smbdirectd(8) lists them, and a test holds the manual and
// the programs to it. Each is one instruction that does nothing until a tracer replaces it. Any process.
//
// Built without them where the header of systemtap-sdt-dev is missing.
#pragma once

#include <cstdint>

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define SMBDIRECT_PROBE1(name, a) DTRACE_PROBE1(smbdirect, name, a)
#define SMBDIRECT_PROBE2(name, a, b) DTRACE_PROBE2(smbdirect, name, a, b)
#define SMBDIRECT_PROBE3(name, a, b, c) DTRACE_PROBE3(smbdirect, name, a, b, c)
#else
#define SMBDIRECT_PROBE1(name, a) ((void)(a))
#define SMBDIRECT_PROBE2(name, a, b) ((void)(a), (void)(b))
#define SMBDIRECT_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

namespace smbdirect::shm::probe {

// --- smbdirectd ---

/// The pool is 0 starting, 1 serving, 2 draining, 3 stopping from now on.
inline void pool_phase(uint64_t phase) { SMBDIRECT_PROBE1(pool_phase, phase); }
/// A worker's slot is in another state: 0 stopped, 1 backoff, 2 starting, 3 ready, 4 draining, 5 stopping, 6
/// failed.
inline void worker_state(uint64_t slot, int64_t pid, uint64_t state) {
  SMBDIRECT_PROBE3(worker_state, slot, pid, state);
}
/// A connection was accepted and is offered to a worker.
inline void connection_offered(uint64_t connection, uint64_t slot) {
  SMBDIRECT_PROBE2(connection_offered, connection, slot);
}
/// The connection is the worker's.
inline void connection_granted(uint64_t connection, uint64_t slot) {
  SMBDIRECT_PROBE2(connection_granted, connection, slot);
}
/// A connection was closed without reaching a worker: 0 access, 1 pool_limit, 2 client_limit, 3 client_rate,
/// 4 no_worker, 5 leaving.
inline void connection_refused(uint64_t refusal) { SMBDIRECT_PROBE1(connection_refused, refusal); }
/// The worker says that the connection has ended.
inline void connection_closed(uint64_t connection, uint64_t slot) {
  SMBDIRECT_PROBE2(connection_closed, connection, slot);
}

// --- smbdirect-worker ---

/// The worker begins to serve a connection.
inline void session_begin(uint64_t connection) { SMBDIRECT_PROBE1(session_begin, connection); }
/// SMB Direct is negotiated; the largest messages that each side takes.
inline void session_negotiated(uint64_t connection, uint64_t max_send_size, uint64_t max_receive_size) {
  SMBDIRECT_PROBE3(session_negotiated, connection, max_send_size, max_receive_size);
}
/// The stream to the server is up; its process, or 0 where that is not known.
inline void session_connected(uint64_t connection, uint64_t process) {
  SMBDIRECT_PROBE2(session_connected, connection, process);
}
/// The server has let the client in.
inline void session_set_up(uint64_t connection) { SMBDIRECT_PROBE1(session_set_up, connection); }
/// The connection is over; clean: in an orderly way. why: a string.
inline void session_end(uint64_t connection, uint64_t clean, const char* why) {
  SMBDIRECT_PROBE3(session_end, connection, clean, why);
}

}  // namespace smbdirect::shm::probe
