// SPDX-License-Identifier: MIT
// The daemon that is to take this one's place: its process, started here, and what is said to it (notes.h).
// Owned by the supervisor, which alone uses it, from the command until its own end. Until the successor
// serves, its end, its silence or its FAILED leave this pool as it was; afterwards it is on its own, and when
// this supervisor dies it goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "daemon/takeover/notes.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

/// How this daemon is started once more, in its own place.
struct OwnProgram {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string_view> environment;  // variables of the init system's that it is to have, too
};

class Successor {
 public:
  /// Told what becomes of it. None of these may destroy it but successor_failed().
  class Observer {
   public:
    /// It has said HELLO: to be told everything, BEGIN last.
    [[nodiscard]] virtual shm::Result<> successor_waits() = 0;
    /// It could go on now. rdma_file: that listening ids are to move to.
    virtual void successor_ready(shm::UniqueFd rdma_file) = 0;
    virtual void successor_serves() = 0;
    /// Its process is gone, and it has never served.
    virtual void successor_failed(const note::Failed& why) = 0;
    /// Its process has ended, although it served. It is not reaped: whoever is the parent when this daemon
    /// has gone (the init system) learns of it then.
    virtual void successor_died(const std::string& how) = 0;
    /// It ends, and so shall this daemon.
    virtual void successor_says_stop() = 0;
    /// Its host loses an address: connections of this daemon to it are to end, and it is told.
    virtual void successor_says_leave(const note::Leave& leave) = 0;

   protected:
    ~Observer() = default;
  };
  /// How long it may take from GO to SERVING, or to read the notes.
  static constexpr uint64_t kAnswerMs = 10'000;
  /// Beside what its workers may take.
  static constexpr uint64_t kStartMs = 2'000;

  /// parent: a descriptor that it is to watch as its parent's; -1: none. ready_ms: from now until READY.
  [[nodiscard]] static shm::Result<std::unique_ptr<Successor>> start(shm::Loop& loop,
                                                                     const OwnProgram& program, int parent,
                                                                     uint64_t ready_ms, Observer& observer);
  /// Kills a process that does not serve.
  ~Successor();
  Successor(const Successor&) = delete;
  Successor& operator=(const Successor&) = delete;

  [[nodiscard]] shm::Result<> tell(const Note& said) { return send_note(socket_.get(), said); }
  /// After READY: it may move the ids and serve. leaving: local addresses, as GO has them.
  [[nodiscard]] shm::Result<> go(std::vector<RdmaListenerId> ids, std::vector<std::string> leaving);
  /// It was told so, and has not answered.
  [[nodiscard]] bool moves() const { return state_ == State::moving; }
  /// Ends its process; successor_failed() follows, with this reason.
  void give_up(const std::string& why);

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::string& release() const { return release_; }
  [[nodiscard]] bool serves() const { return state_ == State::serving; }

  /// The arguments that start a program as a successor; socket and parent: numbers of its descriptors.
  static constexpr int kSocketFd = 3;
  static constexpr int kParentFd = 4;

 private:
  enum class State : uint8_t { starting, preparing, ready, moving, serving, ending };

  Successor(shm::Loop& loop, std::string program, Observer& observer);
  [[nodiscard]] shm::Result<> watch();
  void read();
  void heard(Note said);
  void said_hello(const note::Hello& hello);
  void ended();
  void ended_serving();
  void overdue();

  shm::Loop& loop_;
  std::string program_;
  Observer& observer_;
  State state_ = State::starting;
  pid_t pid_ = -1;
  std::string release_;
  std::optional<note::Failed> failed_;
  shm::UniqueFd socket_;
  shm::UniqueFd process_;  // pidfd; before the watches, which must go first
  std::unique_ptr<shm::ReadWatch> said_;
  std::unique_ptr<shm::ReadWatch> ended_;
  shm::Timer deadline_;
};

}  // namespace smbdirect::daemon
