// SPDX-License-Identifier: MIT
#include "daemon/supervisor.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <sys/wait.h>
#include <utility>

#include "daemon/open_smbd_connector.h"
#include "daemon/os/own_directory.h"
#include "shm/base/log.h"
#include "shm/base/probes.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint64_t kFormerGraceMs = 3'000;  // for workers that no signal ends, and its own end
constexpr std::array<std::string_view, 4> kPhaseNames{"starting", "serving", "draining", "stopping"};

}  // namespace

shm::Result<std::unique_ptr<Supervisor>> Supervisor::create(PoolConfig config, Options options) {
  auto registry = ClientRegistry::make_registry(config.worker.connections);
  if (!registry)
    return shm::fail("make the registry of clients: " + registry.error().what, registry.error().system_errno);
  return std::unique_ptr<Supervisor>(
      new Supervisor(std::move(config), std::move(options), std::move(*registry)));
}

Supervisor::Supervisor(PoolConfig config, Options options, shm::RegistryWriter registry)
    : config_(std::move(config)),
      options_(std::move(options)),
      workers_(loop_, config_, options_.worker_program, *this),
      listeners_(
          loop_, config_,
          [this](std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                 const sockaddr_storage& local) { dispatcher_.accepted(std::move(incoming), peer, local); }),
      dispatcher_(loop_, config_, workers_, listeners_,
                  [this](const shm::Host& client) { return clients_.workers_at(client); }),
      leaving_(loop_, dispatcher_),
      clients_(loop_, dispatcher_.connection_table(), std::move(registry), config_.worker.ipv6_prefix_length),
      smbd_requests_(loop_, config_, workers_, dispatcher_.connection_table()),
      module_requests_(loop_, config_, dispatcher_.connection_table(),
                       [this](size_t slot, const FromSupervisor& message, int descriptor) {
                         return workers_[slot].send(message, descriptor);
                       }),
      peers_(loop_, config_, workers_, dispatcher_.connection_table()),
      control_(loop_,
               {.config = config_,
                .workers = workers_,
                .listeners = listeners_,
                .dispatcher = dispatcher_,
                .smbd_requests = smbd_requests_,
                .module_requests = module_requests_,
                .peers = peers_,
                .clients = clients_,
                .phase = [this] { return phase_name(); },
                .leaving = [this] { return leaving_.texts(); },
                .former = [this] { return former_ ? former_->draining() : 0; }},
               workers_,
               {.reload = [this] { return reload(); },
                .resize = [this](uint32_t workers) { return resize(workers); },
                .hold = [this](std::optional<uint32_t> slot, bool held) { return hold(slot, held); },
                .kick = [this](const std::string& whose) { return kick(whose); },
                .log_level = [this](const std::string& name) { return set_log_level(name); },
                .take = [this](const std::string& address) { return take(address); },
                .leave = [this](const std::string& address,
                                LeaveAnswer answer) { leave(address, std::move(answer)); },
                .upgrade = [this](UpgradeAnswer answer) { upgrade(std::move(answer)); }}),
      start_timer_(loop_,
                   [this] {
                     stop(ExitCode::environment,
                          (takes_over() ? std::to_string(workers_.count(WorkerState::ready)) + " of " +
                                              std::to_string(config_.workers) + " workers were ready within "
                                        : "no worker was ready within ") +
                              std::to_string(config_.restart.ready_timeout_ms) +
                              " ms (/restart/ready_timeout_ms); the lines above say why");
                   }),
      former_timer_(loop_, [this] { former_is_overdue(); }),
      watchdog_timer_(loop_, [this] { options_.notify.alive(); }),
      address_watch_(loop_, [this] { look_for_addresses(); }),
      former_(std::move(options_.former)) {
  const auto on = [this](int signal, std::function<void()> action) {
    signals_.emplace_back(loop_, signal, std::move(action));
  };
  on(SIGCHLD, [this] { reap(); });
  on(SIGTERM, [this] { stop(ExitCode::ok, "SIGTERM"); });
  on(SIGINT, [this] { stop(ExitCode::ok, "SIGINT"); });
  on(SIGQUIT, [this] { drain("SIGQUIT"); });
  on(SIGUSR1, [this] { dump(); });
  on(SIGHUP, [this] { reload_by_signal(); });
  dispatcher_.when_empty([this] { go_if_empty(); });
  on(SIGUSR2, [] { log::write(log::Level::notice, "SIGUSR2 ignored: it has no meaning here"); });
}

void Supervisor::become(Phase phase) {
  phase_ = phase;
  shm::probe::pool_phase(uint64_t(phase));
}

std::string_view Supervisor::phase_name() const { return kPhaseNames[size_t(phase_)]; }

ExitCode Supervisor::run() {
  if (const auto failed = open()) return *failed;
  // The pool's timer first: of two timers of one length it fires before the workers' own.
  start_timer_.start(config_.restart.ready_timeout_ms);
  workers_.each([](WorkerSlot& worker) { worker.start(); });
  show_status();
  watch_parent();
  watch_addresses();
  if (options_.watchdog_ms > 0) watchdog_timer_.start(options_.watchdog_ms, options_.watchdog_ms);
  loop_.run();
  return exit_code_;
}

ExitCode Supervisor::cannot_start(ExitCode code, const std::string& why) {
  log::write(log::Level::error, "%s", why.c_str());
  if (former_) former_->failed(why);
  return code;
}

/// Everything but the workers.
std::optional<ExitCode> Supervisor::open() {
  // A directory that cannot be made is reported by the parts that need it; one that others can write to is
  // refused.
  if (const auto owned = own_directory(config_.run_directory); !owned && owned.error().system_errno == EPERM)
    return cannot_start(ExitCode::environment, owned.error().what);
  if (const auto found = workers_.find_left(); !found)
    log::write(log::Level::warning, "should this daemon die, the next one will not find its workers: %s",
               found.error().text().c_str());
  dispatcher_.number_from(workers_.first_connection());
  if (const auto watched = watch_former(); !watched)
    return cannot_start(ExitCode::environment, watched.error().text());
  InheritedListeners inherited;
  if (former_) inherited = std::move(former_->inheritance().listeners);
  if (const auto bound = listeners_.bind(std::move(inherited)); !bound)
    return cannot_start(ExitCode::environment, bound.error().text());
  auto connector = open_smbd_connector(loop_, config_);
  if (!connector) return cannot_start(ExitCode::environment, connector.error().text());
  smbd_requests_.open(std::move(*connector));
  module_requests_.open();
  if (native()) {
    clients_.answer_with([this](size_t slot, shm::ConnectionId connection, ClaimOutcome outcome) {
      peers_.answer(slot, connection, outcome);
    });
    peers_.use(&clients_);
    clients_.object_with([this](pid_t process) { return peers_.objection_to(process); });
    clients_.end_starts_after(config_.worker.handshake_timeout_ms);
  }
  return open_control();
}

/// As samba-bgqd does it: anything that can be read there is the parent's end.
void Supervisor::watch_parent() {
  shm::UniqueFd parent = options_.launcher.take_parent();
  if (!parent.valid()) return;
  parent_ = {*loop_.get(), std::move(parent), [this](int /*events*/, int /*status*/) {
               parent_.reset();
               stop(ExitCode::ok, "the parent has gone (--parent-watch-fd)");
             }};
  parent_.want(UV_READABLE | UV_DISCONNECT);
}

/// Before any worker: if this daemon has the control socket, the other files in the run directory are its
/// own, too.
std::optional<ExitCode> Supervisor::open_control() {
  ControlSocket::Keep keep;
  if (native()) keep = [this](shm::UniqueFd socket) { peers_.registered(std::move(socket)); };
  shm::UniqueFd inherited;
  if (former_ && former_->inheritance().control.path == control_path(config_.run_directory))
    inherited = std::move(former_->inheritance().control.socket);
  const auto opened = inherited.valid()
                          ? control_.inherit(config_.run_directory, std::move(inherited), std::move(keep))
                          : control_.open(config_.run_directory, std::move(keep));
  if (opened) return std::nullopt;
  if (native())
    return cannot_start(ExitCode::environment, "servers cannot register: " + opened.error().text());
  log::write(log::Level::warning, "smbdirectctl will not work: %s", opened.error().text().c_str());
  return std::nullopt;
}

void Supervisor::worker_ready(size_t slot) {
  clients_.worker_ready(workers_.ref(slot));
  peers_.worker_ready(slot);
  if (phase_ == Phase::starting) takes_over() ? ready_to_take_over() : serve();
  if (phase_ == Phase::serving) {
    dispatcher_.worker_ready();
    approach_configuration();
  }
  show_status();
}

void Supervisor::worker_adopted(size_t slot) {
  clients_.worker_ready(workers_.ref(slot));
  show_status();
}

void Supervisor::worker_answers(size_t /*slot*/) {
  if (phase_ == Phase::serving) dispatcher_.worker_ready();
}

void Supervisor::serve() {
  start_timer_.stop();
  if (const auto listening = listeners_.listen(); !listening) {
    return stop(ExitCode::environment, listening.error().text());
  }
  become(Phase::serving);
  announce();
}

void Supervisor::announce() {
  log::write(log::Level::notice, "listening on %s, %" PRIu32 " workers", listeners_.text().c_str(),
             config_.workers);
  options_.notify.ready("listening on " + listeners_.text());
  options_.launcher.ready();
}

/// Whom each message is for.
void Supervisor::worker_said(size_t slot, Received<FromWorker> said) {
  const shm::WorkerRef worker = workers_.ref(slot);
  hear(
      said.message, [](const message::Ready&) {},                // its WorkerSlot has heard these two
      [](const message::Pong&) {}, [](const message::Left&) {},  // and this one those who adopt
      [&](const message::Kept& m) { kept(slot, m); },
      [&](const message::Scoreboard&) { control_.scoreboard(slot, std::move(said.descriptor)); },
      [&](const message::Reported& m) { control_.reported(slot, m.sequence); },
      [&](const message::Take& m) { dispatcher_.taken(slot, m.connection); },
      [&](const message::Refuse& m) { dispatcher_.refused(slot, m.connection); },
      [&](const message::SessionUp& m) {
        smbd_requests_.session_up(slot, m.connection);
        dispatcher_.session_up(slot, m.connection);
      },
      [&](const message::Closed& m) {
        smbd_requests_.forget(slot, m.connection);
        module_requests_.forget(slot, m.connection);
        peers_.forget(slot, m.connection);
        clients_.channel_down(worker, m.connection);
        dispatcher_.closed(slot, m.connection);
        leaving_.look();
      },
      [&](const message::WantSmbd& m) { smbd_requests_.wanted(slot, m.connection); },
      [&](const message::WantModule& m) {
        module_requests_.wanted(slot, m.connection, std::move(said.descriptor));
      },
      [&](const message::Claim& m) { clients_.claimed(worker, m.connection, m.guid); },
      [&](const message::ChannelUp& m) {
        peers_.channel_up(slot, m.connection);
        clients_.channel_up(worker, m.connection, m.process);
      },
      [&](const message::ChannelDown& m) { clients_.channel_down(worker, m.connection); },
      [&](const message::WantProcess& m) { peers_.wanted(slot, m.connection, m.cookie); },
      [&](const message::Pass& m) { peers_.passed(slot, m.connection, std::move(said.descriptor)); },
      [&](const message::NotPassed& m) { peers_.not_passed(slot, m.sequence); });
}

void Supervisor::kept(size_t slot, const message::Kept& kept) {
  const bool believed = workers_[slot].adopted() &&
                        dispatcher_.kept(slot, kept.connection, {.peer = kept.peer, .local = kept.local});
  if (believed) return;
  log::write(log::Level::warning,
             "worker %zu: smbdirectctl does not show its connection %s of %s, whose number it cannot have",
             slot, shm::connection_text(kept.connection).c_str(), shm::address_text(kept.peer).c_str());
}

void Supervisor::worker_gone(size_t slot, const Obituary& obituary) {
  smbd_requests_.forget_worker(slot);
  module_requests_.forget_worker(slot);
  peers_.forget_worker(slot);
  clients_.worker_gone(workers_.ref(slot));
  const size_t lost = dispatcher_.worker_gone(slot);
  leaving_.look();
  std::string next;
  if (workers_[slot].state() == WorkerState::failed) {
    next = "; it rejected its configuration and is not started again";
  } else if (obituary.restart_in_ms && phase_ <= Phase::serving) {
    next = *obituary.restart_in_ms == 0
               ? "; it is started again at once"
               : "; it is started again in " + std::to_string(*obituary.restart_in_ms / 1000) + " s";
  }
  const bool orderly = obituary.asked && obituary.wait_status == 0 && !(obituary.adopted && lost > 0);
  control_.worker_gone(slot, !orderly);
  log::write(orderly ? log::Level::info : log::Level::warning,
             "worker %zu (pid %d) %s; %zu connections lost%s", slot, int(obituary.pid),
             obituary.text().c_str(), lost, next.c_str());
  show_status();
  if (phase_ >= Phase::draining) return finish_if_empty();
  const auto active = [](const WorkerSlot& worker) { return worker.active(); };
  if (workers_.count(WorkerState::failed) == workers_.count_if(active)) {
    stop(ExitCode::configuration, "no worker accepts its configuration; the lines above say why");
  } else if (phase_ == Phase::serving) {
    approach_configuration();
  }
}

void Supervisor::stop(ExitCode code, const std::string& why) {
  if (phase_ == Phase::stopping) return;
  const bool failure = code != ExitCode::ok;
  log::write(failure ? log::Level::error : log::Level::notice, "stopping: %s (%zu connections)", why.c_str(),
             dispatcher_.connections());
  become(Phase::stopping);
  exit_code_ = code;
  address_watch_.stop();
  abandon_upgrade("it stops");
  if (former_) {
    former_->failed(why);
    former_->stop();
    former_timer_.start(config_.stop_deadline_ms + kFormerGraceMs);
  }
  options_.notify.stopping(failure ? why : "stopping");
  start_timer_.stop();
  dispatcher_.close();
  listeners_.close();
  workers_.close_adoption();
  workers_.each([this](WorkerSlot& worker) { worker.stop(config_.stop_deadline_ms); });
  finish_if_empty();
}

void Supervisor::drain(const std::string& why) {
  if (phase_ >= Phase::draining) return;
  log::write(log::Level::notice, "draining: %s (%zu connections); SIGTERM closes them at once", why.c_str(),
             dispatcher_.connections());
  become(Phase::draining);
  abandon_upgrade("it drains");
  if (former_) former_->failed("it was told to drain");
  options_.notify.stopping("draining");
  start_timer_.stop();
  dispatcher_.close();
  listeners_.close();
  workers_.close_adoption();
  workers_.each([this](WorkerSlot& worker) { worker.drain(config_.drain_deadline_ms); });
  finish_if_empty();
}

void Supervisor::dump() {
  std::string pool;
  const auto tell = [&](const shm::Totals& totals) { pool += " " + shm::totals_text(totals); };
  tell(dispatcher_.totals());
  tell(smbd_requests_.totals());
  tell(module_requests_.totals());
  tell(clients_.totals());
  if (native()) tell(peers_.totals());
  log::write(log::Level::notice, "pool:%s", pool.c_str());
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    const WorkerSlot& worker = workers_[slot];
    log::write(log::Level::notice, "worker %zu: state=%s pid=%d generation=%" PRIu32 " connections=%zu", slot,
               state_name(worker.state()).data(), int(worker.pid()), worker.generation(),
               dispatcher_.connections_of(slot));
    workers_[slot].dump();
  }
}

void Supervisor::reap() {
  workers_.each([](WorkerSlot& worker) { worker.reap(); });
}

void Supervisor::finish_if_empty() {
  if (workers_.any([](const WorkerSlot& worker) { return worker.has_process(); })) return;
  // Its connections are this daemon's to those who wait for its end.
  if (former_ && former_->draining() != 0 && !former_overdue_) return;
  address_watch_.stop();
  control_.close();
  peers_.close();
  module_requests_.close();
  smbd_requests_
      .close();  // what it added to the host's routing goes last: the workers' connections needed it
  log::write(log::Level::notice, "stopped");
  loop_.stop();
}

void Supervisor::former_is_overdue() {
  if (former_->draining() == 0) return;
  log::write(log::Level::error, "the former daemon (pid %d) does not end: it and its workers are left behind",
             int(former_->draining()));
  former_overdue_ = true;
  finish_if_empty();
}

void Supervisor::show_status() {
  if (phase_ != Phase::stopping) {
    options_.notify.status(std::to_string(workers_.count(WorkerState::ready)) + " of " +
                           std::to_string(config_.workers) + " workers ready");
  }
}

}  // namespace smbdirect::daemon
