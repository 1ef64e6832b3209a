// SPDX-License-Identifier: MIT
// How a ClientSession begins: its client's first message, its place, one of the server's addresses.
#include <utility>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "workers/connect/client_session.h"

namespace smbdirect::workers::connect {

namespace log = shm::log;

void ClientSession::start() {
  deadline_.start(config_.greeting_timeout_ms);
  client_.want(UV_READABLE);
}

void ClientSession::greet() {
  const auto state = greeting_.read(client_.fd());
  if (!state) return fail(state.error().text());
  switch (*state) {
    case Greeting::State::hungry:
      return;
    case Greeting::State::ended:
      log::write(log::Level::info, "%s: the client closed before its first message", name_.c_str());
      return finish();
    case Greeting::State::whole:
      break;
  }
  phase_ = Phase::waiting;
  client_.want(0);
  deadline_.start(config_.greeting_timeout_ms);
  events_.greeted(*this);
}

void ClientSession::enter() {
  if (phase_ != Phase::waiting) return;
  deadline_.stop();
  phase_ = Phase::connecting;
  addresses_ = dialer_.addresses();
  connect();
}

void ClientSession::leave(std::string why) { fail(std::move(why)); }

bool ClientSession::served() const {
  if (phase_ != Phase::open) return true;
  const Counters counters = link_->transport->counters();
  return counters.smb_requests > counters.smb_responses;
}

/// To the address whose turn it is.
void ClientSession::connect() {
  if (link_) before_.add(link_->transport->counters());
  link_ = std::make_unique<Link>(*this, config_);
  transport_closed_ = false;
  const auto started = dialer_.start(*link_->transport, addresses_[tried_]);
  if (started) return;
  transport_closed_ = true;
  connect_failed(started.error().text());
  turn_.trigger();
}

/// The server's next address is tried, or this was the last one.
void ClientSession::connect_failed(const std::string& why) {
  failures_ += (failures_.empty() ? "" : "; ") + shm::address_text(addresses_[tried_]) + ": " + why;
  try_next_ = ++tried_ < addresses_.size();
  if (try_next_) return;
  log::write(log::Level::error, "%s: no SMB Direct connection to %s", name_.c_str(), failures_.c_str());
  reset_client_ = true;
}

}  // namespace smbdirect::workers::connect
