// SPDX-License-Identifier: MIT
#include "daemon/upstream/smbd_requests.h"

#include <algorithm>
#include <cerrno>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint64_t kBurstSeconds = 10;

TokenBuckets rate_of(const PoolConfig& config) {
  return {std::max<uint64_t>(config.connections_per_client, kBurstSeconds * config.handoff.rate_per_client),
          config.upstream_mode == UpstreamMode::handoff ? config.handoff.rate_per_client : 0};
}

}  // namespace

SmbdRequests::SmbdRequests(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers,
                           const ConnectionTable& table)
    : loop_(loop), config_(config), workers_(workers), table_(table), rate_(rate_of(config)) {}

void SmbdRequests::configuration_changed(const PoolConfig& before) {
  if (before.connections_per_client != config_.connections_per_client ||
      before.handoff.rate_per_client != config_.handoff.rate_per_client) {
    rate_ = rate_of(config_);
  }
}

/// The address at which the client reached us, for there smbd listens too; or the one configured.
sockaddr_storage SmbdRequests::server_for(const ConnectionTable::Addresses& addresses) const {
  const uint16_t port = config_.worker.upstream_port;
  const auto configured = shm::address_from_text(config_.worker.upstream_address, port);
  if (configured && configured->ss_family == addresses.peer.ss_family) return *configured;
  sockaddr_storage server = addresses.local;
  shm::set_port(server, port);
  return server;
}

void SmbdRequests::wanted(size_t slot, shm::ConnectionId connection) {
  const Key key{slot, connection};
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  // A worker is not trusted: it can ask for its own connections only, and once for each.
  if (connector_ == nullptr || addresses == nullptr || asked_for_.contains(key)) {
    return refuse(key, "its worker asked for a connection that is not its own, or asked twice", EPERM);
  }
  asked_for_[key] = 0;  // once, whatever comes of it
  if (!rate_.take(config_.client_of(addresses->peer), loop_.now())) {
    return refuse(key,
                  "too many of its connections ended without a session (/upstream/handoff/rate_per_client)",
                  EAGAIN);
  }
  ++asked_;
  asked_for_[key] =
      connector_->open(addresses->peer, server_for(*addresses),
                       [this, key](shm::Result<shm::UniqueFd> stream) { answer(key, std::move(stream)); });
}

void SmbdRequests::session_up(size_t slot, shm::ConnectionId connection) {
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  const auto asked = asked_for_.find({slot, connection});
  // Whether this supervisor has itself opened something, once: the number of what is done is 0.
  if (addresses == nullptr || asked == asked_for_.end() || !let_in_.emplace(slot, connection).second) return;
  rate_.give_back(config_.client_of(addresses->peer));
}

void SmbdRequests::answer(const Key& key, shm::Result<shm::UniqueFd> stream) {
  asked_for_[key] = 0;
  const auto [slot, connection] = key;
  if (!stream) return refuse(key, stream.error().text(), stream.error().system_errno);
  ++opened_;
  const auto sent = workers_[slot].send(message::Smbd{{connection}, {}}, stream->get());
  if (!sent) not_told(slot, sent.error());
}

/// The worker does not read its messages; its requests are still answered in this way.
void SmbdRequests::not_told(size_t slot, const shm::Error& error) {
  log_.write(log::Level::warning, "worker " + std::to_string(slot), loop_.now(), "worker %zu: %s", slot,
             error.text().c_str());
}

void SmbdRequests::refuse(const Key& key, const std::string& why, int error) {
  ++failed_;
  const auto [slot, connection] = key;
  const ConnectionTable::Addresses* addresses = table_.addresses(connection, slot);
  const std::string client = addresses == nullptr ? "?" : shm::host_text(shm::host_of(addresses->peer));
  log_.write(log::Level::warning, client + std::to_string(error), loop_.now(),
             "no connection to smbd for %s: %s", client.c_str(), why.c_str());
  const auto sent =
      workers_[slot].send(message::NoSmbd{{connection}, {uint32_t(error == 0 ? ECONNREFUSED : error)}});
  if (!sent) not_told(slot, sent.error());
}

void SmbdRequests::forget(size_t slot, shm::ConnectionId connection) {
  const auto found = asked_for_.find({slot, connection});
  if (found == asked_for_.end()) return;
  if (found->second != 0) connector_->cancel(found->second);
  asked_for_.erase(found);
  let_in_.erase({slot, connection});
}

void SmbdRequests::forget_worker(size_t slot) {
  std::erase_if(asked_for_, [&](const auto& entry) {
    if (entry.first.first != slot) return false;
    if (entry.second != 0) connector_->cancel(entry.second);
    return true;
  });
  std::erase_if(let_in_, [&](const Key& key) { return key.first == slot; });
}

void SmbdRequests::close() {
  for (const auto& [key, number] : asked_for_) {
    if (number != 0) connector_->cancel(number);
  }
  asked_for_.clear();
  let_in_.clear();
  connector_.reset();
}

shm::Totals SmbdRequests::totals() const {
  return {{"smbd_asked", asked_}, {"smbd_opened", opened_}, {"smbd_failed", failed_}};
}

}  // namespace smbdirect::daemon
