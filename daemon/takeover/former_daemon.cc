// SPDX-License-Identifier: MIT
#include "daemon/takeover/former_daemon.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <utility>

#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr timeval kPatience{.tv_sec = 10, .tv_usec = 0};  // while nothing else is done

}  // namespace

/// It has started this process, and is its parent until it ends.
FormerDaemon::FormerDaemon(shm::UniqueFd socket) : socket_(std::move(socket)), pid_(getppid()) {}

shm::Result<std::unique_ptr<FormerDaemon>> FormerDaemon::meet(shm::UniqueFd socket,
                                                              const std::string& release) {
  std::unique_ptr<FormerDaemon> former(new FormerDaemon(std::move(socket)));
  setsockopt(former->socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  auto learned = send_note(former->socket_.get(), note::Hello{kNotesVersion, release});
  if (learned) learned = former->learn();
  if (!learned)
    return shm::fail("take over from another daemon: " + learned.error().text() +
                     "; --take-over-fd is for smbdirectctl upgrade alone");
  return former;
}

shm::Result<> FormerDaemon::learn() {
  for (;;) {
    auto said = receive_note(socket_.get());
    if (!said) return std::unexpected(said.error());
    if (std::holds_alternative<note::Begin>(*said)) return {};
    if (auto* listener = std::get_if<note::Listener>(&*said)) {
      if (listener->listener.fabric == Fabric::verbs) {
        inheritance_.listeners.rdma.push_back(listener->listener);
      } else if (listener->socket.valid()) {
        inheritance_.listeners.sockets.push_back(
            {listener->listener, listener->port, std::move(listener->socket)});
      }
    } else if (auto* file = std::get_if<note::RdmaFile>(&*said)) {
      inheritance_.listeners.rdma_file = std::move(file->file);
    } else if (auto* control = std::get_if<note::Control>(&*said)) {
      inheritance_.control = std::move(*control);
    } else if (auto* pid_file = std::get_if<note::PidFile>(&*said)) {
      inheritance_.pid_file = std::move(*pid_file);
    } else {
      return shm::fail("it said \"" + std::string(note_name(*said)) + "\" before it had said everything",
                       EPROTO);
    }
  }
}

shm::Result<> FormerDaemon::watch(shm::Loop& loop, Events events) {
  events_ = std::move(events);
  fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
  auto watch = shm::ReadWatch::make(loop, socket_.get(), [this] { read(); });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::make_unique<shm::ReadWatch>(std::move(*watch));
  watch_->start();
  return {};
}

shm::Result<> FormerDaemon::ready(shm::UniqueFd rdma_file) {
  state_ = State::ready;
  return send_note(socket_.get(), note::Ready{std::move(rdma_file)});
}

shm::Result<> FormerDaemon::serving() {
  state_ = State::serving;
  return send_note(socket_.get(), note::Serving{});
}

void FormerDaemon::failed(const std::string& why, std::vector<std::string> problems) {
  if (state_ > State::ready) return;
  state_ = State::failed;
  // If it cannot be told, it sees this process end.
  [[maybe_unused]] const auto told = send_note(socket_.get(), note::Failed{why, std::move(problems)});
}

void FormerDaemon::stop() {
  if (state_ != State::done) return;
  if (const auto told = send_note(socket_.get(), note::Stop{}); !told)
    log::write(log::Level::debug, "the former daemon (pid %d): %s", int(pid_), told.error().text().c_str());
}

void FormerDaemon::leave(const std::string& address, Answer answer) {
  if (state_ != State::done) return answer({});
  const uint64_t number = ++last_leave_;
  shm::Result<> told;
  if (hears_leave_) told = send_note(socket_.get(), note::Leave{number, address});
  if (hears_leave_ && told) {
    leaves_.emplace(number, std::move(answer));
    return;
  }
  log::write(log::Level::warning, "the former daemon (pid %d) keeps its connections to %s until they end: %s",
             int(pid_), address.c_str(),
             told ? "it is of a release that ends none" : told.error().text().c_str());
  answer({});
}

void FormerDaemon::read() {
  auto said = receive_note(socket_.get());
  if (said) return heard(std::move(*said));
  if (said.error().system_errno == EAGAIN) return;
  watch_->stop();
  switch (std::exchange(state_, State::gone)) {
    case State::serving:
      return events_.done({});
    case State::done:
      for (const auto& [number, answer] : std::exchange(leaves_, {})) answer({.number = number});
      log::write(log::Level::notice, "the former daemon (pid %d) has ended: its connections have, too",
                 int(pid_));
      return events_.gone();
    case State::failed:
      return;
    default:
      return events_.lost(said.error().text());
  }
}

void FormerDaemon::heard(Note said) {
  if (const auto* go = std::get_if<note::Go>(&said); go != nullptr && state_ == State::ready)
    return events_.go(*go);
  if (auto* done = std::get_if<note::Done>(&said); done != nullptr && state_ == State::serving) {
    state_ = State::done;
    hears_leave_ = done->hears_leave;
    return events_.done(std::move(*done));
  }
  if (const auto* left = std::get_if<note::Left>(&said); left != nullptr && state_ == State::done) {
    const auto asked = leaves_.extract(left->number);
    if (asked) asked.mapped()(*left);
    return;
  }
  if (state_ == State::failed) return;
  if (state_ < State::serving)
    return events_.lost("it said \"" + std::string(note_name(said)) + "\" when that has no meaning");
  log::write(log::Level::warning, "the former daemon (pid %d) said \"%s\", which has no meaning now",
             int(pid_), std::string(note_name(said)).c_str());
}

}  // namespace smbdirect::daemon
