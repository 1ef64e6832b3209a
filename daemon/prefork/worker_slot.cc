// SPDX-License-Identifier: MIT
#include "daemon/prefork/worker_slot.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/socket.h>
#include <sys/wait.h>
#include <utility>

#include "daemon/os/child_process.h"
#include "daemon/prefork/worker_spawn.h"
#include "shm/base/log.h"
#include "shm/base/probes.h"
#include "shm/memfd.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint64_t kLeaveBehindMs = 2'000;  // after SIGKILL
constexpr uint64_t kKillGraceMs = 250;      // beyond a deadline, for a worker that is ending in time
constexpr uint64_t kEndAfterEofMs = 1'000;  // a process whose control socket is closed is about to be reaped
constexpr int kMessagesPerWake = 64;
// A worker that loses all its connections at once reports each of them.
constexpr int kControlBufferBytes = 1 << 20;

struct ControlPair {
  shm::UniqueFd ours;
  shm::UniqueFd theirs;
};

shm::Result<ControlPair> make_control_pair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return shm::fail("socketpair", errno);
  }
  ControlPair pair{shm::UniqueFd(ends[0]), shm::UniqueFd(ends[1])};
  for (const int end : ends) {
    // As far as the system lets us; the default holds some 250 messages.
    if (setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &kControlBufferBytes, sizeof kControlBufferBytes) != 0) {
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kControlBufferBytes, sizeof kControlBufferBytes);
    }
  }
  return pair;
}

}  // namespace

std::string Obituary::text() const {
  std::array<char, 160> buffer{};
  const double seconds = double(lived_ms) / 1000;
  if (adopted) {
    std::snprintf(buffer.data(), buffer.size(), "has ended, %.3f s after this daemon adopted it", seconds);
  } else if (WIFSIGNALED(wait_status)) {
    std::snprintf(buffer.data(), buffer.size(), "was killed by signal %d (%s) after %.3f s",
                  WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)), seconds);
  } else {
    std::snprintf(buffer.data(), buffer.size(), "ended with exit status %d after %.3f s",
                  WEXITSTATUS(wait_status), seconds);
  }
  std::string text = buffer.data();
  if (!killed_for.empty()) text += " (it " + killed_for + ")";
  return text;
}

WorkerSlot::WorkerSlot(Shared& shared, size_t slot)
    : shared_(shared),
      loop_(shared.loop),
      slot_(slot),
      config_(shared.config),
      observer_(shared.observer),
      ready_timer_(loop_,
                   [this] {
                     read_control();
                     const bool told_to_end = state_ == WorkerState::draining && ready_ms_ == 0;
                     if (state_ == WorkerState::starting || told_to_end) {
                       kill("was not ready within " + std::to_string(config_.restart.ready_timeout_ms) +
                            " ms (/restart/ready_timeout_ms)");
                     }
                   }),
      ping_timer_(loop_, [this] { check_liveness(); }),
      kill_timer_(loop_, [this] { on_overdue(); }),
      restart_timer_(loop_, [this] { start(); }) {}

void WorkerSlot::become(WorkerState state) {
  state_ = state;
  shm::probe::worker_state(slot_, pid_, uint64_t(state));
}

void WorkerSlot::start() {
  if (state_ == WorkerState::stopped) {  // another worker's slot from now on
    backoff_.reset();
    held_ = false;
  }
  become(WorkerState::starting);
  started_ms_ = loop_.now();
  ready_ms_ = 0;
  killed_for_.clear();
  retires_.reset();
  generation_ = ++shared_.generations;
  configuration_ = shared_.configuration;
  if (const auto launched = launch(); !launched) {
    log::write(log::Level::error, "worker %zu: cannot %s", slot_, launched.error().text().c_str());
    ended(int(ExitCode::environment) << 8);
    return;
  }
  log::write(log::Level::info, "worker %zu (pid %d) started", slot_, int(pid_));
  ready_timer_.start(config_.restart.ready_timeout_ms);
}

shm::Result<> WorkerSlot::launch() {
  auto pair = make_control_pair();
  if (!pair) return std::unexpected(pair.error());
  auto configuration = shm::make_sealed_text("smbdirect-config", config_.worker.to_json());
  if (!configuration) return std::unexpected(configuration.error());
  auto watch = shm::ReadWatch::make(loop_, pair->ours.get(), [this] { read_control(); });
  if (!watch) return std::unexpected(watch.error());
  if (config_.worker.verbs) {
    auto handover = RdmaCm::open();
    if (!handover) return std::unexpected(handover.error());
    handover_.emplace(std::move(*handover));
  }
  processor_.reset();
  processor_ = shared_.place ? shared_.place() : std::nullopt;
  const auto pid = spawn_worker({.program = shared_.program,
                                 .slot = slot_,
                                 .generation = generation_,
                                 .control_fd = pair->theirs.get(),
                                 .config_fd = configuration->get(),
                                 .handover_fd = handover_ ? handover_->fd() : -1,
                                 .processor = processor_});
  if (!pid) {
    watch->stop();
    return std::unexpected(pid.error());
  }
  pid_ = *pid;
  control_ = std::move(pair->ours);
  control_watch_ = std::move(*watch);
  control_watch_->start();
  send_adoption_socket();
  return {};
}

void WorkerSlot::send_adoption_socket() {
  const auto socket = shared_.adoption.socket_of(pid_);
  const auto sent = socket ? send(message::AdoptionSocket{}, socket->get())
                           : shm::Result<>(std::unexpected(socket.error()));
  if (sent) return;
  log::write(log::Level::info,
             "worker %zu (pid %d): should this daemon die, the next one will not find it: %s", slot_,
             int(pid_), sent.error().text().c_str());
}

shm::Result<> WorkerSlot::adopt(LeftWorker left) {
  auto control_watch = shm::ReadWatch::make(loop_, left.control.get(), [this] { read_control(); });
  if (!control_watch) return std::unexpected(control_watch.error());
  auto process_watch = shm::ReadWatch::make(loop_, left.process.get(), [this] { ended(0); });
  if (!process_watch) return std::unexpected(process_watch.error());
  backoff_.reset();
  held_ = false;
  killed_for_.clear();
  processor_.reset();
  configuration_ = 0;
  generation_ = ++shared_.generations;
  started_ms_ = ready_ms_ = loop_.now();
  ping_ = pong_ = 0;
  responsive_ = true;
  pid_ = left.pid;
  process_ = std::move(left.process);
  process_watch_.emplace(std::move(*process_watch));
  process_watch_->start();
  control_ = std::move(left.control);
  control_watch_.emplace(std::move(*control_watch));
  control_watch_->start();
  log::write(log::Level::notice,
             "worker %zu (pid %d) was left by a former daemon: it is adopted, and finishes its connections",
             slot_, int(pid_));
  become(WorkerState::draining);
  observer_.worker_adopted(slot_);
  // What cannot be sent makes it unresponsive, and the next ping ends it or finds it well.
  (void)send(message::Adopt{{uint32_t(slot_)}});
  (void)send(message::LogLevel{{config_.worker.log_level}});
  ping_timer_.start(config_.restart.ping_interval_ms);
  drain(config_.drain_deadline_ms);
  return {};
}

void WorkerSlot::stop(uint32_t deadline_ms) {
  restart_timer_.stop();
  ping_timer_.stop();
  ready_timer_.stop();
  if (!has_process()) {
    if (state_ != WorkerState::failed) become(WorkerState::stopped);
    return;
  }
  become(WorkerState::stopping);
  if (const auto sent = send(message::Stop{{deadline_ms}}); !sent) {
    return kill("could not be told to stop");
  }
  kill_timer_.start(deadline_ms + kKillGraceMs);
}

void WorkerSlot::drain(uint32_t deadline_ms) {
  restart_timer_.stop();
  if (!has_process()) {
    if (state_ != WorkerState::failed) become(WorkerState::stopped);
    return;
  }
  become(WorkerState::draining);
  retires_.reset();
  if (const auto sent = send(message::Drain{{deadline_ms}}); !sent) {
    return kill("could not be told to drain");
  }
  if (deadline_ms > 0) kill_timer_.start(deadline_ms + kKillGraceMs);
}

void WorkerSlot::retire(uint32_t deadline_ms) {
  restart_timer_.stop();
  if (!has_process()) {
    become(WorkerState::stopped);
    return;
  }
  become(WorkerState::draining);
  retires_ = deadline_ms;
}

void WorkerSlot::finish_retiring() {
  if (const auto deadline_ms = std::exchange(retires_, std::nullopt)) drain(*deadline_ms);
}

void WorkerSlot::dump() {
  if (!has_process()) return;
  if (const auto sent = send(message::Dump{}); !sent) {
    log::write(log::Level::warning, "worker %zu: %s", slot_, sent.error().text().c_str());
  }
}

shm::Result<> WorkerSlot::send(const FromSupervisor& message, int descriptor) {
  auto sent = send_message(control_.get(), generation_, message, descriptor);
  if (!sent) mark_unresponsive();
  return sent;
}

void WorkerSlot::mark_unresponsive() {
  responsive_ = false;
  // The answer to a ping makes it responsive again: to the one under way, or to one that goes out now.
  if (state_ == WorkerState::ready && ping_ == pong_) ping_timer_.start(0);
}

bool WorkerSlot::soon_ready() const {
  if (held()) return false;
  // One that is silent is being pinged: it may just be busy.
  const bool silent = state_ == WorkerState::ready && !responsive_ && killed_for_.empty();
  return silent || state_ == WorkerState::starting ||
         (state_ == WorkerState::backoff && restart_ms_ < loop_.now() + kOfferDeadlineMs);
}

void WorkerSlot::read_control() {
  // Of a process that has ended, everything: there is no later wake.
  for (int i = 0; (i < kMessagesPerWake || pid_ < 0) && control_watch_; ++i) {
    auto received = receive_message<FromWorker>(control_.get());
    if (!received) {
      control_watch_->stop();
      responsive_ = false;
      if (received.error().system_errno != ECONNRESET)
        return kill("sent an invalid message: " + received.error().text());
      kill_timer_.start(kEndAfterEofMs);
      return;
    }
    if (!*received) return;
    handle(std::move(**received));
  }
}

void WorkerSlot::handle(Received<FromWorker> received) {
  if (received.generation != generation_) {
    log::write(log::Level::debug, "worker %zu: message of generation %" PRIu32 " ignored", slot_,
               received.generation);
    return;
  }
  // Closing what a worker passed never waits for what the worker has left in it.
  if (const int fd = received.descriptor.get(); fd >= 0) {
    const linger none{.l_onoff = 0, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);  // no socket: nothing to wait for
  }
  if (std::holds_alternative<message::Ready>(received.message)) return became_ready();
  if (const auto* pong = std::get_if<message::Pong>(&received.message)) return answered(pong->sequence);
  observer_.worker_said(slot_, std::move(received));
}

void WorkerSlot::answered(uint64_t ping) {
  if (ping != ping_ || ping_ == pong_) return;
  pong_ = ping;
  if (!std::exchange(responsive_, true) && state_ == WorkerState::ready) observer_.worker_answers(slot_);
}

void WorkerSlot::became_ready() {
  if (state_ != WorkerState::starting || pid_ <= 0) return;
  become(WorkerState::ready);
  ready_ms_ = loop_.now();
  responsive_ = true;
  ping_ = pong_ = 0;
  ready_timer_.stop();
  ping_timer_.start(config_.restart.ping_interval_ms);
  log::write(log::Level::info, "worker %zu (pid %d) is ready after %" PRIu64 " ms", slot_, int(pid_),
             ready_ms_ - started_ms_);
  observer_.worker_ready(slot_);
}

void WorkerSlot::check_liveness() {
  // First what has arrived: if it was this process that stood still, the answer is waiting.
  read_control();
  if (state_ != WorkerState::ready && state_ != WorkerState::draining) return;
  if (!killed_for_.empty()) return;
  const uint64_t now = loop_.now();
  uint64_t next = config_.restart.ping_interval_ms;
  if (ping_ == pong_) {
    ++ping_;
    ping_sent_ms_ = now;
    // A socket too full for a ping is a worker that does not read: the same as no answer.
    if (!send(message::Ping{{ping_}})) responsive_ = false;
  } else {
    responsive_ = false;
    const uint64_t silent = now - ping_sent_ms_;
    const uint64_t timeout = config_.restart.ping_timeout_ms;
    if (silent >= timeout) {
      return kill("did not answer for " + std::to_string(silent) + " ms; /restart/ping_timeout_ms is " +
                  std::to_string(timeout));
    }
    next = std::min(next, timeout - silent);
  }
  ping_timer_.start(next);
}

void WorkerSlot::kill(const std::string& reason) {
  if (pid_ <= 0) return;
  if (killed_for_.empty()) killed_for_ = reason;
  responsive_ = false;
  if (control_watch_) control_watch_->stop();
  kill_timer_.start(kLeaveBehindMs);
  if (adopted()) return signal_process(process_, SIGKILL);
  ::kill(pid_, SIGKILL);  // not reaped yet, so the number is still this worker's
}

void WorkerSlot::on_overdue() {
  if (killed_for_.empty()) return kill("did not end in time");
  log::write(
      log::Level::error,
      "worker %zu (pid %d) has been killed and does not end: a thread of it waits in the kernel, as for "
      "storage that hangs; it is left behind and ends when that is over",
      slot_, int(pid_));
  if (!adopted()) left_behind_.push_back(pid_);
  ended(SIGKILL);
}

void WorkerSlot::reap() {
  std::erase_if(left_behind_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) == pid; });
  if (pid_ <= 0 || adopted()) return;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return;
  ended(status);
}

void WorkerSlot::ended(int wait_status) {
  Obituary obituary{.pid = std::exchange(pid_, -1),
                    .wait_status = wait_status,
                    .lived_ms = loop_.now() - started_ms_,
                    .asked = state_ == WorkerState::stopping || state_ == WorkerState::draining,
                    .killed_for = killed_for_,
                    .adopted = adopted(),
                    .restart_in_ms = {}};
  shared_.adoption.forget(obituary.pid);
  if (killed_for_.empty()) read_control();  // its last words: connections that it closed itself
  control_watch_.reset();
  control_.reset();
  process_watch_.reset();
  process_.reset();
  responsive_ = false;
  for (shm::Timer* timer : {&ready_timer_, &ping_timer_, &kill_timer_}) timer->stop();
  if (obituary.asked) {
    become(WorkerState::stopped);
  } else if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == int(ExitCode::configuration)) {
    become(WorkerState::failed);
  } else {
    become(WorkerState::backoff);
    const uint64_t healthy = ready_ms_ == 0 ? 0 : loop_.now() - ready_ms_;
    const uint64_t delay = backoff_.next({.increment_ms = 1000ull * config_.restart.backoff_increment_s,
                                          .maximum_ms = 1000ull * config_.restart.maximum_backoff_s,
                                          .healthy_ms = 1000ull * config_.restart.healthy_s},
                                         healthy);
    obituary.restart_in_ms = delay;
    restart_ms_ = loop_.now() + delay;
    restart_timer_.start(delay);
  }
  observer_.worker_gone(slot_, obituary);
  if (pid_ < 0) handover_.reset();
}

}  // namespace smbdirect::daemon
