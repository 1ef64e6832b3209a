// SPDX-License-Identifier: MIT
#include "workers/native/peer_finder.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "shm/base/log.h"
#include "workers/native/peer_attempt.h"

namespace smbdirect::workers {
namespace {

namespace message = daemon::message;
namespace proxy = protocol::proxy;

}  // namespace

PeerFinder::PeerFinder(uv_loop_t& loop, Send send, uint32_t deadline_ms)
    : loop_(loop), send_(std::move(send)), deadline_ms_(deadline_ms) {}

PeerFinder::~PeerFinder() { assert(attempts_.empty()); }

void PeerFinder::listen_for_peers(shm::UniqueFd listening) {
  if (!listening.valid()) {
    return shm::log::write(
        shm::log::Level::error,
        "out of descriptors: server processes cannot open channels to this worker, and its "
        "clients are turned away (raise LimitNOFILE of the unit)");
  }
  listener_ = std::make_unique<PeerListener>(loop_, std::move(listening),
                                             [this](const proxy::Cookie& cookie, shm::UniqueFd& socket) {
                                               const auto found = by_cookie_.find(cookie);
                                               if (found == by_cookie_.end()) return false;
                                               found->second->opened(std::move(socket));
                                               return true;
                                             });
}

void PeerFinder::map_registry(const shm::UniqueFd& registry) {
  auto opened = shm::RegistryReader::open(registry.get());
  if (opened) {
    registry_.emplace(std::move(*opened));
    return;
  }
  shm::log::write(shm::log::Level::warning,
                  "cannot read the registry of clients, so the supervisor is asked for every connection: %s",
                  opened.error().text().c_str());
}

void PeerFinder::claimed(shm::ConnectionId connection, daemon::ClaimOutcome outcome) {
  const auto found = attempts_.find(connection);
  if (found != attempts_.end()) found->second->claimed(outcome);
}

void PeerFinder::refused(shm::ConnectionId connection, int error) {
  const auto found = attempts_.find(connection);
  if (found != attempts_.end()) found->second->refused(error);
}

void PeerFinder::pass_to(uint64_t sequence, uint32_t process, shm::UniqueFd socket) {
  if (socket.valid() && pass(process, std::move(socket))) return;
  send_(message::NotPassed{{sequence}}, -1);
}

std::unique_ptr<Upstream> PeerFinder::request(PeerRequest request) {
  return std::make_unique<Attempt>(*this, std::move(request));
}

void PeerFinder::serving(shm::ConnectionId connection, uint32_t process, Pass pass) {
  serving_[connection] = {process, std::move(pass)};
}

bool PeerFinder::knows(uint32_t process) const {
  return std::ranges::any_of(serving_, [&](const auto& entry) { return entry.second.process == process; });
}

bool PeerFinder::pass(uint32_t process, shm::UniqueFd socket) {
  std::vector<shm::ConnectionId> channels;  // one that passes it may end by that, and its entry here
  for (const auto& [connection, serving] : serving_) {
    if (serving.process == process) channels.push_back(connection);
  }
  return std::ranges::any_of(channels, [&](shm::ConnectionId connection) {
    const auto found = serving_.find(connection);
    if (found == serving_.end()) return false;
    const Pass pass = found->second.pass;
    return pass(socket);
  });
}

uint32_t PeerFinder::owner(const shm::Guid& guid) const {
  const auto entry = registry_ ? registry_->find(guid) : std::nullopt;
  return entry && entry->state == shm::EntryState::live ? entry->peer.pid : 0;
}

}  // namespace smbdirect::workers
