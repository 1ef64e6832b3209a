// SPDX-License-Identifier: MIT
#include "daemon/smbd_desk.h"

#include <cerrno>
#include <cinttypes>

#include "shm/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint64_t kLogIntervalMs = 10'000;
constexpr size_t kLogKeys = 256;

}  // namespace

SmbdDesk::SmbdDesk(Loop& loop, const PoolConfig& config, std::vector<std::unique_ptr<WorkerSlot>>& workers,
                   const Roster& roster)
    : loop_(loop), config_(config), workers_(workers), roster_(roster), log_(kLogIntervalMs, kLogKeys) {}

/// The address at which the client reached us, for there smbd listens too; or the one configured.
sockaddr_storage SmbdDesk::server_for(const Roster::Addresses& addresses) const {
  const uint16_t port = config_.worker.upstream_port;
  const auto configured = shm::address_from_text(config_.worker.upstream_address, port);
  if (configured && configured->ss_family == addresses.peer.ss_family) return *configured;
  sockaddr_storage server = addresses.local;
  shm::set_port(server, port);
  return server;
}

void SmbdDesk::wanted(size_t slot, uint64_t offer) {
  const Key key{slot, offer};
  const Roster::Addresses* addresses = roster_.addresses(offer, slot);
  // A worker's word is not trusted: for its own connections, and once for each.
  if (door_ == nullptr || addresses == nullptr || asked_for_.contains(key)) {
    return refuse(key, "there is nothing to open for it", EPERM);
  }
  ++asked_;
  asked_for_[key] =
      door_->open(addresses->peer, server_for(*addresses),
                  [this, key](shm::Result<shm::UniqueFd> stream) { answer(key, std::move(stream)); });
}

void SmbdDesk::answer(const Key& key, shm::Result<shm::UniqueFd> stream) {
  asked_for_[key] = 0;
  const auto [slot, offer] = key;
  if (!stream) return refuse(key, stream.error().text(), stream.error().system_errno);
  ++opened_;
  const auto sent = workers_.at(slot)->send({.type = MessageType::smbd, .offer = offer}, stream->get());
  if (!sent) log::write(log::Level::warning, "worker %zu: %s", slot, sent.error().text().c_str());
}

void SmbdDesk::refuse(const Key& key, const std::string& why, int error) {
  ++failed_;
  const auto [slot, offer] = key;
  const Roster::Addresses* addresses = roster_.addresses(offer, slot);
  const std::string client = addresses == nullptr ? "?" : shm::host_text(shm::host_of(addresses->peer));
  if (const auto held_back = log_.pass(client + std::to_string(error), loop_.now())) {
    log::write(log::Level::warning, "no connection to smbd for %s: %s (%" PRIu64 " such lines held back)",
               client.c_str(), why.c_str(), *held_back);
  }
  const auto sent = workers_.at(slot)->send(
      {.type = MessageType::no_smbd, .offer = offer, .error = uint32_t(error == 0 ? ECONNREFUSED : error)});
  if (!sent) log::write(log::Level::warning, "worker %zu: %s", slot, sent.error().text().c_str());
}

void SmbdDesk::forget(size_t slot, uint64_t offer) {
  const auto found = asked_for_.find({slot, offer});
  if (found == asked_for_.end()) return;
  if (found->second != 0) door_->cancel(found->second);
  asked_for_.erase(found);
}

void SmbdDesk::forget_worker(size_t slot) {
  std::erase_if(asked_for_, [&](const auto& entry) {
    if (entry.first.first != slot) return false;
    if (entry.second != 0) door_->cancel(entry.second);
    return true;
  });
}

void SmbdDesk::close() {
  for (const auto& [key, number] : asked_for_) {
    if (number != 0) door_->cancel(number);
  }
  asked_for_.clear();
  door_.reset();
}

std::string SmbdDesk::totals() const {
  return "smbd_asked=" + std::to_string(asked_) + " smbd_opened=" + std::to_string(opened_) +
         " smbd_failed=" + std::to_string(failed_);
}

}  // namespace smbdirect::daemon
