// SPDX-License-Identifier: MIT
// The program reference-peer under test, and a daemon for it that does what the test says. The destructor of
// a Program ends it and what it has forked.
#pragma once

#include <initializer_list>
#include <string>
#include <sys/types.h>
#include <vector>

#include "scripted.h"

namespace scripted {

/// The daemon's end of a registration.
class Daemon {
 public:
  explicit Daemon(const std::string& directory)
      : path_(directory + "/control"), listening_(listen_at(path_)) {}
  [[nodiscard]] const std::string& path() const { return path_; }
  /// A main process registers.
  void accept();
  void start(uint64_t number, const Worker& worker);
  /// The number of the start that the main process says has failed.
  [[nodiscard]] uint64_t failed();
  /// It goes away, and is there again.
  void restart();

 private:
  std::string path_;
  peer::Fd listening_;
  peer::Fd registration_;
};

class Program {
 public:
  explicit Program(const std::vector<std::string>& options);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// The next line on its stdout; fails the test when there is none within kPatience.
  [[nodiscard]] std::string line();
  /// Its line about a child that was started: the pid.
  [[nodiscard]] pid_t child(uint64_t number);
  void signal(int number) const;
  /// Its exit status; 128 + N after signal N.
  [[nodiscard]] int wait();

 private:
  pid_t pid_ = -1;
  peer::Fd out_;
};

/// The process waits in SIGSTOP.
[[nodiscard]] bool stopped(pid_t pid);

}  // namespace scripted
