// SPDX-License-Identifier: MIT
// A real smbdirectd on loopback with fake workers, and clients for it. Every wait is for a condition and
// has a deadline. The destructor leaves no process behind.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "shm/base/unique_fd.h"

namespace test {

struct PoolOptions {
  std::string mode{};  // FAKE_WORKER
  size_t workers = 2;
  size_t descriptors = 0;  // RLIMIT_NOFILE, soft and hard; 0: as it is
  std::string listeners = R"([{"address": "127.0.0.1", "port": 0}])";
  std::string upstream{};  // further members of "upstream", with a leading comma
  std::string notify{};    // NOTIFY_SOCKET
  std::string more{};      // further members of the pool file, with a leading comma
  bool wait = true;        // until it listens
};

class Client {
 public:
  /// Connects from `source`, port 0 there, to `server`.
  Client(int port, const std::string& source = "127.0.0.1", const std::string& server = "127.0.0.1");
  /// The worker's first line, or nothing when the connection was closed.
  std::optional<std::string> greeting();
  /// The worker's slot; fails the test when there is none.
  size_t slot();
  [[nodiscard]] pid_t worker() const { return worker_; }
  /// Does the worker still answer?
  bool echoes();
  /// The worker says that it has a session.
  bool logs_in();
  bool closed_within(int milliseconds);
  /// By a reset.
  bool is_reset();
  void close() { fd_.reset(); }
  [[nodiscard]] bool connected() const { return fd_.valid(); }

 private:
  std::optional<std::string> line(int milliseconds);
  smbdirect::shm::UniqueFd fd_;
  pid_t worker_ = -1;
};

class PoolProcess {
 public:
  explicit PoolProcess(const PoolOptions& options);
  ~PoolProcess();
  PoolProcess(const PoolProcess&) = delete;
  PoolProcess& operator=(const PoolProcess&) = delete;

  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string log() const;
  /// Writes the pool file anew.
  void rewrite(const PoolOptions& options) const;
  /// Puts any text in its place.
  void write_file(const std::string& text) const;
  /// The answer at the control socket to a line; fails the test when none comes.
  [[nodiscard]] std::string ask(const std::string& line) const;
  /// Did the ready descriptor get its newline?
  [[nodiscard]] bool said_ready();
  void signal(int number) const;
  /// The exit status; 128 + N after signal N. Fails the test when the process does not end.
  int wait_exit();
  /// Fails the test, with the log, when the text does not appear (that many times).
  void wait_log(const std::string& text, size_t times = 1) const;
  [[nodiscard]] size_t count_log(const std::string& text) const;
  /// Descriptor numbers open in a process, and where one points.
  static std::vector<int> descriptors(pid_t pid);
  static std::string descriptor(pid_t pid, int fd);
  /// Process of the slot's worker, by the log.
  [[nodiscard]] pid_t worker(size_t slot) const;

 private:
  std::string directory_;
  pid_t pid_ = -1;
  int port_ = 0;
  smbdirect::shm::UniqueFd ready_;
};

struct CommandResult {
  int status = 0;
  std::string output;  // standard output and error
};
/// For command lines that end by themselves.
CommandResult run_daemon(const std::vector<std::string>& arguments);

/// Waits for the condition; false after 20 s.
bool eventually(const std::function<bool()>& condition);
bool process_exists(pid_t pid);

}  // namespace test
