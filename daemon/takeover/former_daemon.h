// SPDX-License-Identifier: MIT
// The daemon whose place this one takes, where it was started for that (--take-over-fd): what it hands over,
// and what is said to it (notes.h). Owned by the supervisor, which alone uses it. When the former daemon dies
// before it has let its listeners go, this one ends, too; later it is on its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/takeover/notes.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

/// What the former daemon hands over before this one starts.
struct Inheritance {
  InheritedListeners listeners;
  note::Control control;
  note::PidFile pid_file;
};

class FormerDaemon {
 public:
  struct Events {
    /// Its listening ids may move here.
    std::function<void(const note::Go& go)> go;
    /// It has let go of everything; where it ended before it said so, this comes without a registration.
    std::function<void(note::Done done)> done;
    /// It ended before that, or says what is no note.
    std::function<void(const std::string& why)> lost;
    /// It has ended, after that: the last of its connections has, too.
    std::function<void()> gone;
  };

  /// Says HELLO and waits for everything up to BEGIN, for some seconds at most.
  [[nodiscard]] static shm::Result<std::unique_ptr<FormerDaemon>> meet(shm::UniqueFd socket,
                                                                       const std::string& release);

  [[nodiscard]] Inheritance& inheritance() { return inheritance_; }
  [[nodiscard]] shm::Result<> watch(shm::Loop& loop, Events events);
  [[nodiscard]] shm::Result<> ready(shm::UniqueFd rdma_file);
  [[nodiscard]] shm::Result<> serving();
  /// This daemon will not serve. Once; later ones are not sent, nor any after SERVING.
  void failed(const std::string& why, std::vector<std::string> problems = {});
  /// It is to end its workers, too.
  void stop();
  /// It is to end its connections to this local address. The answer comes once, at once where it has none or
  /// cannot hear this; not after this object's end.
  using Answer = std::function<void(const note::Left& left)>;
  void leave(const std::string& address, Answer answer);

  [[nodiscard]] bool told_ready() const { return state_ != State::preparing; }
  /// It has let go.
  [[nodiscard]] bool is_done() const { return state_ == State::done || state_ == State::gone; }
  /// Its pid, while it has workers that have connections; 0: it has ended.
  [[nodiscard]] pid_t draining() const { return state_ == State::done ? pid_ : 0; }

 private:
  enum class State : uint8_t { preparing, ready, serving, done, gone, failed };

  explicit FormerDaemon(shm::UniqueFd socket);
  [[nodiscard]] shm::Result<> learn();
  void read();
  void heard(Note said);

  shm::UniqueFd socket_;  // before the watch, which must go first
  pid_t pid_ = 0;
  State state_ = State::preparing;
  Inheritance inheritance_;
  Events events_;
  std::unique_ptr<shm::ReadWatch> watch_;
  bool hears_leave_ = false;
  std::map<uint64_t, Answer> leaves_;
  uint64_t last_leave_ = 0;
};

}  // namespace smbdirect::daemon
