// SPDX-License-Identifier: MIT
// The last 64 protocol events of one connection: evidence for the log when it ends abnormally. Recording is a
// store; events are formatted only when they are printed.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace smbdirect::workers {

// clang-format off
#define SMBDIRECT_EVENTS(X)                                    \
  X(established, "role", "ord")                                \
  X(negotiated, "max_send", "max_receive")                     \
  X(received, "bytes", "send_credits")                         \
  X(sent, "payload", "send_credits")                           \
  X(request, "command", "bytes")                               \
  X(response, "command", "bytes")                              \
  X(rdma_read, "bytes", "token")                               \
  X(rdma_read_done, "bytes", "pending")                        \
  X(rdma_write, "bytes", "token")                              \
  X(invalidate, "token", "message")                            \
  X(stalled, "reserved", "wanted")                             \
  X(resumed, "reserved", "wanted")                             \
  X(upstream_connected, "port", "attempt")                     \
  X(upstream_closed, "errno", "unfinished")                    \
  X(fault, "code", "phase")                                    \
  X(closed, "cause", "unfinished")
// clang-format on

enum class EventKind : uint8_t {
#define SMBDIRECT_EVENT(name, a, b) name,
  SMBDIRECT_EVENTS(SMBDIRECT_EVENT)
#undef SMBDIRECT_EVENT
};

class EventRing {
 public:
  static constexpr size_t kEvents = 64;

  void record(uint64_t now_ms, EventKind kind, uint64_t a = 0, uint64_t b = 0) {
    events_[next_ % kEvents] = {now_ms, a, b, kind};
    ++next_;
  }
  /// Oldest first, one line each: "-120ms received bytes=96 send_credits=31".
  [[nodiscard]] std::string text(uint64_t now_ms) const;
  /// The same as a JSON array: [{"ago_ms":120,"event":"received","bytes":96,"send_credits":31}].
  [[nodiscard]] std::string json(uint64_t now_ms) const;

 private:
  struct Event {
    uint64_t at_ms{};
    uint64_t a{};
    uint64_t b{};
    EventKind kind{};
  };
  std::array<Event, kEvents> events_{};
  uint64_t next_ = 0;
};

}  // namespace smbdirect::workers
