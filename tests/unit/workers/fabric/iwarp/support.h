// SPDX-License-Identifier: MIT
// What the iWARP tests share: a loop that is closed properly, TCP pairs on loopback, a handler that records
// what it is told, and pairs of endpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "workers/fabric/iwarp/iwarp.h"

namespace smbdirect::test {

namespace fabric = smbdirect::workers::fabric;
namespace iwarp = smbdirect::workers::fabric::iwarp;

/// Closed at the end of a test; complains when something still uses it.
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  uv_loop_t& get() { return loop_; }
  /// Turns until the condition holds. False when it does not within the limit, which only failing tests
  /// reach.
  bool until(const std::function<bool()>& condition, uint64_t limit_ms = 20000);
  /// Turns a fixed number of times without ever waiting.
  void turn(int times = 1);

 private:
  uv_loop_t loop_{};
};

/// Calls fail the test when they come out of order: established, completions, closed.
class Recorder final : public fabric::Handler {
 public:
  void on_established() override;
  void on_completions(std::span<const fabric::Completion> done) override;
  void on_closed(const fabric::Close& why) override;

  /// Completions of one kind, in order.
  [[nodiscard]] std::vector<fabric::Completion> of(fabric::Op op) const;
  [[nodiscard]] size_t count(fabric::Op op) const;

  bool established = false;
  int closed_calls = 0;
  fabric::Close close;
  std::vector<fabric::Completion> done;
  size_t calls = 0;  // of on_completions
  std::function<void()> when_established;
  std::function<void(const fabric::Completion&)> when_done;
};

struct Listener {
  explicit Listener(int receive_buffer = 0, int segment = 0);
  shm::UniqueFd fd;
  sockaddr_storage address{};
  /// Blocks until a connection is there.
  [[nodiscard]] shm::UniqueFd accept() const;
};

/// A connected pair on loopback: first is the side that connected. Sizes of 0 leave the system's choice.
struct PairOptions {
  int send_buffer = 0;
  int receive_buffer = 0;
  int segment = 0;  // TCP_MAXSEG
};
std::pair<shm::UniqueFd, shm::UniqueFd> tcp_pair(const PairOptions& options = {});

void set_buffers(int fd, const PairOptions& options);
void set_blocking(int fd, bool blocking);

/// Both ends on one loop. The client has connected by connect(); the server was given the accepted socket.
struct EndpointPair {
  EndpointPair(Loop& on, const iwarp::Options& client_options, const iwarp::Options& server_options,
               const PairOptions& sockets = {});
  /// Starts both and waits until both are established.
  bool establish();

  Loop& loop;
  Recorder client_events, server_events;
  std::unique_ptr<fabric::Endpoint> client, server;
};

std::vector<std::byte> random_bytes(size_t size, uint64_t seed);

inline fabric::Sge sge(std::span<std::byte> memory) {
  return {.addr = memory.data(), .length = static_cast<uint32_t>(memory.size()), .key = 0};
}

}  // namespace smbdirect::test
