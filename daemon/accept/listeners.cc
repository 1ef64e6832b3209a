// SPDX-License-Identifier: MIT
#include "daemon/accept/listeners.h"

#include <cerrno>
#include <utility>

namespace smbdirect::daemon {

Listeners::Listeners(shm::Loop& loop, const PoolConfig& config, const CameIn& came_in)
    : tcp_(loop, config,
           [came_in](shm::UniqueFd connection, const sockaddr_storage& peer, const sockaddr_storage& local) {
             came_in(std::make_unique<IncomingSocket>(std::move(connection)), peer, local);
           }),
      cm_(loop, config, came_in) {}

shm::Result<> Listeners::bind(InheritedListeners inherited) {
  if (const auto bound = tcp_.bind(std::move(inherited.sockets)); !bound) return bound;
  return cm_.bind(inherited.rdma, std::move(inherited.rdma_file));
}

shm::Result<> Listeners::listen() {
  if (const auto listening = tcp_.listen(); !listening) return listening;
  return cm_.listen();
}

void Listeners::close() {
  tcp_.close();
  cm_.close();
}

void Listeners::hold(bool held) {
  held_ = held;
  hold_or_pause();
}

void Listeners::pause(bool paused) {
  paused_ = paused;
  hold_or_pause();
  cm_.pause(paused);
}

void Listeners::hold_or_pause() {
  tcp_.hold(held_ || paused_);
  cm_.hold(held_ || paused_);
}

shm::Result<InheritedListeners> Listeners::copies() const {
  InheritedListeners copies;
  auto sockets = tcp_.copies();
  if (!sockets) return std::unexpected(sockets.error());
  copies.sockets = std::move(*sockets);
  copies.rdma = cm_.configured();
  copies.rdma_file = cm_.file_copy();
  if (!copies.rdma.empty() && !copies.rdma_file.valid())
    return shm::fail("copy the file of the RDMA listeners", errno);
  return copies;
}

std::string Listeners::text() const {
  std::string text;
  for (const auto& list : {tcp_.texts(), cm_.texts()}) {
    for (const std::string& one : list) text += (text.empty() ? "" : ", ") + one;
  }
  return text;
}

}  // namespace smbdirect::daemon
