// SPDX-License-Identifier: MIT
// The main process: registered with the daemon, it forks a child for each client that nobody serves yet. It
// owns its registration and its children; a daemon that goes away is waited for, with the children that serve
// left alone. When this process dies, so do they (PR_SET_PDEATHSIG).
#pragma once

#include <csignal>
#include <map>

#include "handles.h"
#include "options.h"

namespace smbdirect::tests::peer {

class MainProcess {
 public:
  explicit MainProcess(const Options& options) : options_(options) {}
  ~MainProcess();
  MainProcess(const MainProcess&) = delete;
  MainProcess& operator=(const MainProcess&) = delete;

  /// Until SIGTERM. The program's exit status; also in a child, where it is the child's.
  [[nodiscard]] int run();

 private:
  struct Child {
    uint64_t number{};  // of its start
    Fd opened;          // readable once it has opened its channel, or has ended
  };

  [[nodiscard]] Outcome<> try_to_register();
  [[nodiscard]] std::optional<int> take_starts();
  [[nodiscard]] std::optional<int> start_child(const smbdirect_start& start);
  void drop_what_is_the_parents();
  void reap();
  void failed(uint64_t number, int error);

  const Options& options_;
  sigset_t original_mask_{};
  Fd signals_;
  MainPtr registration_;
  std::map<pid_t, Child> children_;
};

}  // namespace smbdirect::tests::peer
