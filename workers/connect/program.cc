// SPDX-License-Identifier: MIT
#include "workers/connect/program.h"

#include <algorithm>
#include <cstdio>

#include "daemon/contract/worker_config.h"
#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "workers/connect/stats.h"

namespace smbdirect::workers::connect {

namespace {

constexpr uint64_t kProgressMs = 1000;
constexpr uint64_t kStopMs = 3000;  // for sessions to end kindly

SessionConfig session_config(const Options& options) {
  SessionConfig config;
  config.limits = options.limits;
  config.rdma_io = options.rdma_io;
  config.threshold = options.threshold;
  return config;
}

}  // namespace

Program::Program(uv_loop_t& loop, const Options& options, std::function<void()> stopped)
    : loop_(loop),
      options_(options),
      session_config_(session_config(options)),
      stopped_(std::move(stopped)),
      pools_(options.limits.max_receive_size),
      dialer_(loop, pools_.arena, options.target()),
      reap_(loop, [this] { reap(); }),
      progress_(loop, [this] { progress(); }),
      hurry_(loop,
             [this] {
               for (const auto& session : sessions_) session->abort("stopped");
             }),
      serve_(loop, [this] { serve_places(); }),
      serve_again_(loop, [this] { serve_places(); }),
      housekeeper_(
          loop, {&pools_.receive, &pools_.header, &pools_.stream, &pools_.small},
          [this] { return sessions_.size(); }, [this](size_t share) { trim_some(share); }) {}

shm::Result<> Program::start() {
  auto listener = Listener::open(
      loop_, *options_.listen,
      [this](shm::UniqueFd client, const sockaddr_storage& peer) { accepted(std::move(client), peer); });
  if (!listener) return std::unexpected(listener.error());
  listener_ = std::move(*listener);
  if (options_.progress) progress_.start(kProgressMs);
  return {};
}

std::string Program::address() const { return shm::address_text(listener_->address()); }

void Program::accepted(shm::UniqueFd client, const sockaddr_storage& peer) {
  const bool full = sessions_.size() >= options_.max_connections;
  if (full && places_.make_room("another client needs its place (--max-connections)")) destroy_ended();
  const std::string name = shm::address_text(peer);
  if (sessions_.size() >= options_.max_connections) {
    shm::log::write(shm::log::Level::warning,
                    "%s: refused: %u clients are connected already (--max-connections)", name.c_str(),
                    options_.max_connections);
    return;
  }
  served_ = true;
  const SessionEvents events{.greeted =
                                 [this](ClientSession& session) {
                                   places_.greeted(session);
                                   serve_.trigger();
                                 },
                             .let_in = [this](ClientSession& session) { vacate(session); },
                             .done =
                                 [this](ClientSession& session) {
                                   vacate(session);
                                   reap_.trigger();
                                 }};
  sessions_.push_back(std::make_unique<ClientSession>(loop_, pools_, dialer_, session_config_,
                                                      std::move(client), name, events));
  // Who has one IPv6 address has a network of them: counted as smbdirectd does by default.
  const unsigned prefix_length = daemon::WorkerConfig{}.ipv6_prefix_length;
  places_.arrived(*sessions_.back(), shm::network_of(shm::host_of(peer), prefix_length));
  sessions_.back()->start();
}

/// The session needs no place among those without an SMB2 session any more.
void Program::vacate(const ClientSession& session) {
  places_.remove(session);
  serve_.trigger();
}

void Program::serve_places() {
  if (const auto again = places_.serve(uv_now(&loop_))) serve_again_.start(*again);
}

void Program::destroy_ended() {
  std::erase_if(sessions_, [this](const auto& session) {
    if (!session->done()) return false;
    ended_.add(session->counters());
    return true;
  });
}

void Program::reap() {
  destroy_ended();
  if (!sessions_.empty() || (!stopping_ && !(options_.exit_when_idle && served_))) return;
  listener_.reset();
  hurry_.stop();
  progress_.stop();
  if (auto stopped = std::exchange(stopped_, nullptr)) stopped();
}

void Program::stop() {
  listener_.reset();
  for (const auto& session : sessions_) {
    if (stopping_) {
      session->abort("stopped");
    } else {
      session->stop();
    }
  }
  if (!stopping_) hurry_.start(kStopMs);
  stopping_ = true;
  reap_.trigger();
}

void Program::trim_some(size_t share) {
  for (size_t n = std::min(share, sessions_.size()); n > 0; --n) {
    sessions_[++trimmed_ % sessions_.size()]->trim();
  }
}

Counters Program::counters() const {
  Counters all = ended_;
  for (const auto& session : sessions_) all.add(session->counters());
  return all;
}

void Program::progress() {
  const Counters now = counters();
  const std::string line = progress_line(shown_, now, kProgressMs, sessions_.size());
  if (!line.empty()) std::fprintf(stderr, "%s\n", line.c_str());
  shown_ = now;
  progress_.start(kProgressMs);
}

}  // namespace smbdirect::workers::connect
