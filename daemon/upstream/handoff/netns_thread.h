// SPDX-License-Identifier: MIT
// A thread of the supervisor that lives in a network namespace of its own, where every address is local, and
// makes TCP pairs there for mode "handoff". So the loop's thread never changes its namespace and never waits
// for a handshake. Owned by the supervisor and ended with it. The namespace has nothing but lo, no way out
// and no way in, and lasts until the last of its sockets is closed: also beyond the supervisor's end.
//
// The two threads share the two queues, under one mutex, and nothing else; the log is the loop's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <sys/socket.h>
#include <thread>

#include "daemon/upstream/handoff/tcp_pair.h"
#include "shm/base/result.h"
#include "shm/loop/loop.h"
#include "shm/loop/loop_wake.h"

namespace smbdirect::daemon {

class NetnsThread {
 public:
  using Done = std::function<void(uint64_t number, shm::Result<TcpPair> pair)>;

  /// Waits until the namespace is set up. The error names the step and what it needs. done: from the loop.
  [[nodiscard]] static shm::Result<std::unique_ptr<NetnsThread>> start(shm::Loop& loop, Done done);
  ~NetnsThread();
  NetnsThread(const NetnsThread&) = delete;
  NetnsThread& operator=(const NetnsThread&) = delete;

  void request(uint64_t number, const sockaddr_storage& client, const sockaddr_storage& server);
  /// Why there can be no pairs of IPv6 addresses, empty when there can.
  [[nodiscard]] const std::string& no_ipv6() const { return no_ipv6_; }

 private:
  struct Request {
    uint64_t number{};
    sockaddr_storage client{};
    sockaddr_storage server{};
  };
  struct Answer {
    uint64_t number{};
    shm::Result<TcpPair> pair;
  };

  NetnsThread(shm::Loop& loop, Done done);
  void serve();
  void deliver();

  Done done_;
  shm::LoopWake wake_;
  std::string no_ipv6_;  // written by the thread before start() returns
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  std::deque<Answer> answers_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace smbdirect::daemon
