// SPDX-License-Identifier: MIT
// Answers smbdirectctl: receives the requests at the control socket, keeps the workers' scoreboards, and asks
// the workers for what those do not show. Owned by the supervisor; its loop's thread. If the socket cannot be
// made, the daemon logs that and serves clients nevertheless.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/control/actions.h"
#include "daemon/control/control_socket.h"
#include "daemon/control/pool_report.h"
#include "daemon/control/scoreboards.h"
#include "shm/base/log.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class Control {
 public:
  /// How long workers have to tell their connections' events.
  static constexpr uint64_t kReportDeadlineMs = 1'000;

  /// What commands do; most answer at once, with what was done or why not.
  struct Actions {
    std::function<std::expected<Reloaded, Refused>()> reload;
    std::function<std::expected<Resized, Refused>(uint32_t workers)> resize;
    std::function<std::expected<Held, Refused>(std::optional<uint32_t> slot, bool held)> hold;
    std::function<std::expected<Kicked, Refused>(const std::string& whose)> kick;
    std::function<std::expected<shm::log::Level, Refused>(const std::string& name)> log_level;
    std::function<std::expected<TakenIn, Refused>(const std::string& address)> take;
    // These answer later.
    std::function<void(const std::string& address, std::function<void(std::expected<Left, Refused>)> answer)>
        leave;
    std::function<void(std::function<void(std::expected<Upgraded, Refused>)> answer)> upgrade;
  };
  Control(shm::Loop& loop, const PoolReport::Parts& parts, WorkerPool& workers, Actions actions);

  /// keep: see ControlSocket.
  [[nodiscard]] shm::Result<> open(const std::string& run_directory, ControlSocket::Keep keep = {});
  void close();

  // --- its way to another daemon ---
  /// Instead of open(): the socket of the daemon that is taken over, which answers there until start().
  [[nodiscard]] shm::Result<> inherit(const std::string& run_directory, shm::UniqueFd socket,
                                      ControlSocket::Keep keep = {});
  void start();
  /// Not valid where there is none.
  [[nodiscard]] shm::UniqueFd copy() const;
  void let_go();

  /// Another group may ask, or none.
  void configuration_changed();
  /// BOARD and REPORTED.
  void scoreboard(size_t slot, shm::UniqueFd fd);
  void reported(size_t slot, uint64_t sequence);
  /// lost: nobody had asked it to end, or it ended badly.
  void worker_gone(size_t slot, bool lost);

 private:
  /// One question that workers are asked about.
  struct Round {
    ControlSocket::Answer answer;
    std::map<size_t, shm::UniqueFd> asked;    // slot -> what it writes into
    std::map<size_t, shm::UniqueFd> written;  // what those that have answered wrote
    std::unique_ptr<shm::Timer> deadline;
  };

  [[nodiscard]] ControlSocket::Ask asks();
  void ask(const std::string& line, Right right, const ControlSocket::Answer& answer);
  /// The answer to all but what is answered later.
  [[nodiscard]] std::string told(const CtlRequest& request);
  void upgrade(const ControlSocket::Answer& answer);
  void leave(const std::string& address, const ControlSocket::Answer& answer);
  void ask_workers(const ControlSocket::Answer& answer);
  void finish(uint64_t sequence);

  shm::Loop& loop_;
  const PoolConfig& config_;
  WorkerPool& workers_;
  Scoreboards scoreboards_;
  PoolReport view_;
  Actions actions_;
  std::map<uint64_t, Round> rounds_;  // by sequence
  uint64_t next_ = 1;
  shm::log::Limited log_;
  std::unique_ptr<ControlSocket> socket_;  // last: its peers' answers are the others'
};

}  // namespace smbdirect::daemon
