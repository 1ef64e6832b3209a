// SPDX-License-Identifier: MIT
// Another daemon takes over from this one (smbdirectctl upgrade; takeover/notes.h). Until it serves, this
// pool goes on, and nothing is changed that could not be changed back.
#include <cstdlib>
#include <string>
#include <unistd.h>
#include <utility>

#include "daemon/supervisor.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {

namespace log = shm::log;

void Supervisor::upgrade(UpgradeAnswer answer) {
  if (auto refused = not_serving()) return answer(std::unexpected(std::move(*refused)));
  const uint64_t ready_ms = config_.restart.ready_timeout_ms + Successor::kStartMs;
  auto started = Successor::start(loop_, options_.own, parent_.valid() ? parent_.fd() : -1, ready_ms, *this);
  if (!started) {
    log::write(log::Level::error, "upgrade: %s", started.error().text().c_str());
    return answer(std::unexpected(Refused{started.error().text() + "; this daemon goes on as before"}));
  }
  successor_ = std::move(*started);
  upgrade_answer_ = std::move(answer);
}

shm::Result<> Supervisor::successor_waits() {
  auto copies = listeners_.copies();
  if (!copies) return std::unexpected(copies.error());
  shm::Result<> told;
  const auto tell = [&](Note said) {
    if (told) told = successor_->tell(said);
  };
  for (auto& socket : copies->sockets)
    tell(note::Listener{socket.listener, socket.port, std::move(socket.fd)});
  for (const ListenerConfig& listener : copies->rdma) tell(note::Listener{listener, listener.port, {}});
  if (copies->rdma_file.valid()) tell(note::RdmaFile{std::move(copies->rdma_file)});
  if (shm::UniqueFd control = control_.copy(); control.valid())
    tell(note::Control{control_path(config_.run_directory), std::move(control)});
  if (options_.pid_file.held()) tell(note::PidFile{options_.pid_file.path(), options_.pid_file.copy()});
  tell(note::Begin{});
  return told;
}

/// What has come in here finds its worker first; what comes from now on waits in the kernel.
void Supervisor::successor_ready(shm::UniqueFd rdma_file) {
  successors_rdma_file_ = std::move(rdma_file);
  listeners_.pause(true);
  goes_ = true;
  go_if_empty();
}

void Supervisor::go_if_empty() {
  if (!goes_ || !dispatcher_.empty()) return;
  goes_ = false;
  if (const auto gone = successor_->go(listeners_.rdma_ids(), leaving_.texts()); !gone)
    successor_->give_up(gone.error().text());
}

void Supervisor::successor_serves() {
  const pid_t pid = successor_->pid();
  log::write(log::Level::notice, "upgrade: the daemon %d of release %s has taken over", int(pid),
             successor_->release().c_str());
  watchdog_timer_.stop();
  options_.notify.handed_over(pid);
  options_.pid_file.let_go();
  control_.let_go();
  listeners_.close();
  successors_rdma_file_.reset();
  auto [registration, next_request] = peers_.hand_over();
  if (const auto told = successor_->tell(note::Done{next_request, std::move(registration)}); !told)
    log::write(log::Level::warning, "upgrade: %s", told.error().text().c_str());
  const auto answer = std::exchange(upgrade_answer_, nullptr);
  if (answer) {
    answer(Upgraded{.pid = pid,
                    .release = successor_->release(),
                    .former_pid = getpid(),
                    .connections = dispatcher_.connections()});
  }
  drain("the daemon " + std::to_string(pid) + " has taken over");
}

void Supervisor::successor_failed(const note::Failed& why) {
  log::write(log::Level::error, "upgrade: %s; this daemon goes on as before", why.why.c_str());
  for (const std::string& problem : why.problems)
    log::write(log::Level::error, "upgrade: %s", problem.c_str());
  goes_ = false;
  if (const auto back = listeners_.take_back(listeners_.rdma_ids(), std::move(successors_rdma_file_)); !back)
    log::write(log::Level::error, "upgrade: %s", back.error().text().c_str());
  successors_rdma_file_.reset();
  listeners_.pause(false);
  successor_.reset();
  const auto answer = std::exchange(upgrade_answer_, nullptr);
  if (answer) answer(std::unexpected(Refused{why.why + "; this daemon goes on as before", why.problems}));
}

/// Nobody listens now, and whoever would start another daemon waits for this one's end: it ends as if it were
/// killed, so that nothing is taken away that its workers need (routing, processes of smbd's). The next
/// daemon adopts them.
void Supervisor::successor_died(const std::string& how) {
  log::write(log::Level::error,
             "%s; this one ends, too, and leaves its workers with %zu connections to the next one",
             how.c_str(), dispatcher_.connections());
  std::_Exit(int(ExitCode::runtime));
}

void Supervisor::successor_says_stop() { stop(ExitCode::ok, "the daemon that has taken over stops"); }

/// Of a pool that ends.
void Supervisor::abandon_upgrade(const std::string& why) {
  if (!successor_ || successor_->serves()) return;
  goes_ = false;
  successor_.reset();
  const auto answer = std::exchange(upgrade_answer_, nullptr);
  if (answer) answer(std::unexpected(Refused{"the daemon was not taken over, because " + why}));
}

}  // namespace smbdirect::daemon
