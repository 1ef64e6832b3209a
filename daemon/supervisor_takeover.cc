// SPDX-License-Identifier: MIT
// This daemon takes over from another one, which has started it for that (takeover/notes.h): it serves once
// all its workers are ready and the other has let its listeners go.
#include <string>
#include <utility>
#include <vector>

#include "daemon/supervisor.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {

namespace log = shm::log;

shm::Result<> Supervisor::watch_former() {
  if (!former_) return {};
  options_.notify.quiet(true);
  return former_->watch(loop_, {.go = [this](const note::Go& go) { take_over(go); },
                                .done = [this](note::Done done) { taken_over(std::move(done)); },
                                .lost =
                                    [this](const std::string& why) {
                                      stop(ExitCode::environment,
                                           "the daemon to take over from is lost: " + why);
                                    },
                                .gone =
                                    [this] {
                                      if (phase_ >= Phase::draining) finish_if_empty();
                                    }});
}

/// A pool that is smaller than before would turn clients away that the former one has room for.
void Supervisor::ready_to_take_over() {
  if (former_->told_ready() || workers_.count(WorkerState::ready) < config_.workers) return;
  start_timer_.stop();
  if (const auto told = former_->ready(listeners_.rdma_file()); !told)
    stop(ExitCode::environment, told.error().text());
}

void Supervisor::take_over(const note::Go& go) {
  if (phase_ != Phase::starting) return;
  leaving_.inherit(go.leaving);
  auto done = listeners_.adopt(go.ids);
  if (done) done = listeners_.listen();
  if (done) done = former_->serving();
  if (!done) return stop(ExitCode::environment, done.error().text());
  become(Phase::serving);
  dispatcher_.worker_ready();
  approach_configuration();
}

void Supervisor::taken_over(note::Done done) {
  peers_.inherit(std::move(done.registration), done.next_request);
  if (const auto named = options_.pid_file.name_us(); !named)
    log::write(log::Level::warning, "%s", named.error().text().c_str());
  control_.start();
  options_.notify.quiet(false);
  announce();
  show_status();
}

}  // namespace smbdirect::daemon
