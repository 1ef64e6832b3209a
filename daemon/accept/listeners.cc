// SPDX-License-Identifier: MIT
#include "daemon/accept/listeners.h"

#include <utility>

namespace smbdirect::daemon {

Listeners::Listeners(shm::Loop& loop, const PoolConfig& config, const CameIn& came_in)
    : tcp_(loop, config,
           [came_in](shm::UniqueFd connection, const sockaddr_storage& peer, const sockaddr_storage& local) {
             came_in(std::make_unique<IncomingSocket>(std::move(connection)), peer, local);
           }),
      cm_(loop, config, came_in) {}

shm::Result<> Listeners::bind() {
  if (const auto bound = tcp_.bind(); !bound) return bound;
  return cm_.bind();
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
  tcp_.hold(held);
  cm_.hold(held);
}

std::string Listeners::text() const {
  std::string text;
  for (const auto& list : {tcp_.texts(), cm_.texts()}) {
    for (const std::string& one : list) text += (text.empty() ? "" : ", ") + one;
  }
  return text;
}

}  // namespace smbdirect::daemon
