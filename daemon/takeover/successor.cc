// SPDX-License-Identifier: MIT
#include "daemon/takeover/successor.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "daemon/os/child_process.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

std::string end_text(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return "ended with exit status " + std::to_string(WEXITSTATUS(wait_status));
  const int signal = WTERMSIG(wait_status);
  return "was killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
}

}  // namespace

Successor::Successor(shm::Loop& loop, std::string program, Observer& observer)
    : loop_(loop),
      program_(std::move(program)),
      observer_(observer),
      deadline_(loop, [this] { overdue(); }) {}

shm::Result<std::unique_ptr<Successor>> Successor::start(shm::Loop& loop, const OwnProgram& program,
                                                         int parent, uint64_t ready_ms, Observer& observer) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return shm::fail("make a socket to the new daemon", errno);
  std::unique_ptr<Successor> successor(new Successor(loop, program.path, observer));
  successor->socket_ = shm::UniqueFd(ends[0]);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);  // this end alone: the other one waits at its start
  const shm::UniqueFd its(ends[1]);
  ChildRequest child{.program = program.path,
                     .arguments = program.arguments,
                     .descriptors = {ChildRequest::kNull, STDOUT_FILENO, STDERR_FILENO, its.get()},
                     .keeps = program.environment};
  child.arguments.insert(child.arguments.end(), {"--take-over-fd", std::to_string(kSocketFd)});
  if (parent >= 0) {
    child.descriptors.push_back(parent);
    child.arguments.insert(child.arguments.end(), {"--parent-watch-fd", std::to_string(kParentFd)});
  }
  const auto pid = start_child(child);
  if (!pid) return std::unexpected(pid.error());
  successor->pid_ = *pid;
  if (auto watched = successor->watch(); !watched) return std::unexpected(watched.error());
  successor->deadline_.start(ready_ms);
  log::write(log::Level::notice, "upgrade: '%s' is started as pid %d, to take over from this daemon",
             program.path.c_str(), int(*pid));
  return successor;
}

shm::Result<> Successor::watch() {
  auto process = open_process(pid_);
  if (!process) return std::unexpected(process.error());
  process_ = std::move(*process);
  auto ended = shm::ReadWatch::make(loop_, process_.get(), [this] { this->ended(); });
  if (!ended) return std::unexpected(ended.error());
  ended_ = std::make_unique<shm::ReadWatch>(std::move(*ended));
  ended_->start();
  auto said = shm::ReadWatch::make(loop_, socket_.get(), [this] { read(); });
  if (!said) return std::unexpected(said.error());
  said_ = std::make_unique<shm::ReadWatch>(std::move(*said));
  said_->start();
  return {};
}

Successor::~Successor() {
  if (pid_ <= 0 || state_ == State::serving) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Successor::read() {
  auto said = receive_note(socket_.get());
  if (said) return heard(std::move(*said));
  if (said.error().system_errno == EAGAIN) return;
  said_->stop();
  // Its process ends, or has closed what it cannot do without; which it is shows when it has ended.
  if (state_ != State::serving && said.error().system_errno != ECONNRESET) give_up(said.error().text());
  if (state_ != State::serving && said.error().system_errno == ECONNRESET) deadline_.start(kAnswerMs);
}

void Successor::heard(Note said) {
  const std::string name(note_name(said));
  if (const auto* failed = std::get_if<note::Failed>(&said); failed != nullptr && !serves()) {
    failed_ = *failed;
    return deadline_.start(kAnswerMs);  // it ends by itself
  }
  if (const auto* hello = std::get_if<note::Hello>(&said); hello != nullptr && state_ == State::starting)
    return said_hello(*hello);
  if (auto* ready = std::get_if<note::Ready>(&said); ready != nullptr && state_ == State::preparing) {
    state_ = State::ready;
    deadline_.start(kAnswerMs);
    return observer_.successor_ready(std::move(ready->file));
  }
  if (std::holds_alternative<note::Serving>(said) && state_ == State::moving) {
    state_ = State::serving;
    deadline_.stop();
    return observer_.successor_serves();
  }
  if (std::holds_alternative<note::Stop>(said) && serves()) return observer_.successor_says_stop();
  if (const auto* leave = std::get_if<note::Leave>(&said); leave != nullptr && serves())
    return observer_.successor_says_leave(*leave);
  if (state_ == State::ending) return;
  if (!serves()) return give_up("it said \"" + name + "\" when that has no meaning");
  log::write(log::Level::warning, "the new daemon (pid %d) said \"%s\", which has no meaning now", int(pid_),
             name.c_str());
}

void Successor::said_hello(const note::Hello& hello) {
  release_ = hello.release;
  if (hello.version != kNotesVersion) {
    return give_up("release " + hello.release + " takes over by version " + std::to_string(hello.version) +
                   " of the protocol, and this daemon hands over by version " +
                   std::to_string(kNotesVersion) + "; restart the daemon instead");
  }
  state_ = State::preparing;
  if (const auto told = observer_.successor_waits(); !told) give_up(told.error().text());
}

shm::Result<> Successor::go(std::vector<RdmaListenerId> ids, std::vector<std::string> leaving) {
  state_ = State::moving;
  deadline_.start(kAnswerMs);
  return tell(note::Go{std::move(ids), std::move(leaving)});
}

void Successor::overdue() {
  // What it said last may still wait here.
  read();
  if (serves()) return;
  switch (state_) {
    case State::starting:
    case State::preparing:
      return give_up("it was not ready in time (/restart/ready_timeout_ms)");
    default:
      return give_up("it did not answer within " + std::to_string(kAnswerMs) + " ms");
  }
}

void Successor::give_up(const std::string& why) {
  if (!failed_) failed_ = note::Failed{why, {}};
  state_ = State::ending;
  deadline_.stop();
  kill(pid_, SIGKILL);
}

void Successor::ended_serving() {
  siginfo_t how{};
  if (waitid(P_PID, id_t(pid_), &how, WEXITED | WNOHANG | WNOWAIT) != 0 || how.si_pid != pid_) return;
  ended_.reset();
  const bool exited = how.si_code == CLD_EXITED;
  observer_.successor_died("the daemon that took over (pid " + std::to_string(pid_) + ") " +
                           end_text(exited ? how.si_status << 8 : how.si_status));
}

void Successor::ended() {
  // Its last words first: they may say that it serves.
  while (said_) {
    auto said = receive_note(socket_.get());
    if (!said) break;
    heard(std::move(*said));
  }
  if (serves()) return ended_serving();
  int wait_status = 0;
  if (waitpid(pid_, &wait_status, WNOHANG) != pid_) return;
  pid_ = -1;
  ended_.reset();
  said_.reset();
  deadline_.stop();
  if (!failed_) {
    failed_ = note::Failed{"'" + program_ + "' " + end_text(wait_status) +
                               " before it could take over; its lines in the daemon's log say why",
                           {}};
  }
  const note::Failed why = *failed_;
  observer_.successor_failed(why);  // may destroy this
}

}  // namespace smbdirect::daemon
