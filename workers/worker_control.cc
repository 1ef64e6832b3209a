// SPDX-License-Identifier: MIT
// What a worker hears from its supervisor, and how it goes on when that is gone and another finds it.
#include <cerrno>
#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <variant>

#include "shm/base/log.h"
#include "workers/worker.h"

namespace smbdirect::workers {

namespace log = shm::log;
using daemon::ExitCode;
namespace message = daemon::message;

namespace {

std::unexpected<shm::Error> no_smbd(int error) {
  return shm::fail("the supervisor's connection to smbd", error);
}

std::unexpected<shm::Error> no_module(int error) {
  return shm::fail("the supervisor's connection to smbd's module", error);
}

}  // namespace

void Worker::on_control(int events, int status) {
  if ((events & UV_WRITABLE) != 0) to_supervisor_.send_queued();
  while (true) {
    auto received = daemon::receive_message<daemon::FromSupervisor>(control_.fd());
    if (received && !*received && status < 0) received = shm::fail("watching it", -status);
    if (!received) return lost_supervisor(received.error());
    if (!*received) return;
    on_message(std::move(**received));
  }
}

void Worker::lost_supervisor(const shm::Error& why) {
  control_.want(0);
  to_supervisor_.close();
  if (why.system_errno != ECONNRESET) {
    log::write(log::Level::error, "control socket: %s; serving %zu connections until they end",
               why.text().c_str(), sessions_.size());
    exit_code_ = ExitCode::runtime;
  } else {
    log::write(log::Level::notice, "the supervisor is gone; serving %zu connections until they end",
               sessions_.size());
  }
  draining_ = true;
  if (!adoption_.valid() && adoption_socket_.valid()) {
    adoption_ = {loop_, std::move(adoption_socket_), [this](int /*events*/, int /*status*/) { on_found(); }};
  }
  adoption_.want(UV_READABLE);
  finish_if_empty();
}

/// By another supervisor, or by one that was here and is gone: its end comes as any supervisor's.
void Worker::on_found() {
  shm::UniqueFd control(::accept4(adoption_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!control.valid()) return;
  adoption_.want(0);
  control_ = {loop_, std::move(control), [this](int events, int status) { on_control(events, status); }};
  self_.generation = 0;
  to_supervisor_.begin(control_.fd(), self_.generation);
  to_supervisor_.send(message::Left{});
  control_.want(UV_READABLE);
}

void Worker::on_adopt(const shm::WorkerRef& self) {
  if (self_.generation != 0) return;  // it has a supervisor
  self_ = self;
  to_supervisor_.begin(control_.fd(), self_.generation);
  show_scoreboard();
  for (const auto& [connection, session] : sessions_) {
    to_supervisor_.send(message::Kept{{connection}, {session->address(), session->server()}});
    // A native peer's process is known to the daemon that started it.
    if (peer_finder_) continue;
    session->introduce();
    session->module_answered(shm::fail("the supervisor that was asked is gone"));
  }
}

void Worker::on_message(daemon::Received<daemon::FromSupervisor> received) {
  if (const auto* adopt = std::get_if<message::Adopt>(&received.message))
    return on_adopt({.slot = adopt->slot, .generation = received.generation});
  if (received.generation != self_.generation) return;
  shm::UniqueFd& descriptor = received.descriptor;
  daemon::hear(
      received.message, [&](const message::Offer& m) { on_offer(m); },
      [&](const message::Grant& m) { on_grant(m.connection, std::move(descriptor)); },
      [&](const message::End& m) { on_end(m); },
      [&](const message::LogLevel& m) { log::configure(m.level, "worker " + std::to_string(self_.slot)); },
      [&](const message::Ping& m) { to_supervisor_.send(message::Pong{{m.sequence}}); },
      [&](const message::Drain& m) { begin_stop(false, m.deadline_ms); },
      [&](const message::Stop& m) { begin_stop(true, m.deadline_ms); }, [&](const message::Dump&) { dump(); },
      [&](const message::Report& m) { report(m.sequence, descriptor); },
      [&](const message::Smbd& m) {
        // A descriptor that found no room in our table is no answer either.
        if (!descriptor.valid()) return on_smbd(m.connection, no_smbd(EMFILE));
        on_smbd(m.connection, std::move(descriptor));
      },
      [&](const message::AdoptionSocket&) { adoption_socket_ = std::move(descriptor); },
      [](const message::Adopt&) {},  // heard above
      [&](const message::Module& m) {
        if (!descriptor.valid()) return on_module(m.connection, no_module(EMFILE));
        on_module(m.connection, std::move(descriptor));
      },
      [&](const message::NoModule& m) { on_module(m.connection, no_module(static_cast<int>(m.error))); },
      [&](const message::NoSmbd& m) { on_smbd(m.connection, no_smbd(static_cast<int>(m.error))); },
      // Only a pool with native peers has these.
      [&](const message::Registry&) {
        if (peer_finder_) peer_finder_->map_registry(descriptor);
      },
      [&](const message::PeerListener&) {
        if (peer_finder_) peer_finder_->listen_for_peers(std::move(descriptor));
      },
      [&](const message::Claimed& m) {
        if (peer_finder_) peer_finder_->claimed(m.connection, m.outcome);
      },
      [&](const message::PassTo& m) {
        if (peer_finder_) peer_finder_->pass_to(m.sequence, m.process, std::move(descriptor));
      });
}

}  // namespace smbdirect::workers
