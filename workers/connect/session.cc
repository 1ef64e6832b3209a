// SPDX-License-Identifier: MIT
#include "workers/connect/session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "shm/log.h"
#include "shm/socket_address.h"

namespace smbdirect::workers::connect {

namespace {

namespace log = shm::log;

constexpr uint64_t kLingerMs = 2000;
constexpr size_t kMostDiscarded = 1u << 20;  // per turn, from a client that sends on while we close

void set_option(int fd, int level, int option, int value) {
  (void)::setsockopt(fd, level, option, &value, sizeof value);  // a refusal costs speed, nothing else
}

}  // namespace

ConnectSession::ConnectSession(uv_loop_t& loop, Pools& pools, Dialer& dialer, const SessionConfig& config,
                               shm::UniqueFd client, std::string name, std::function<void()> done)
    : loop_(loop),
      pools_(pools),
      dialer_(dialer),
      config_(config),
      client_(loop, std::move(client), [this](int events, int status) { on_client(events, status); }),
      name_(std::move(name)),
      done_(std::move(done)),
      turn_(loop, [this] { turn(false); }),
      deadline_(loop, [this] { on_deadline(); }),
      receive_budget_(UINT64_MAX),
      translator_({.rdma_io = config.rdma_io,
                   .threshold = config.threshold,
                   .max_read_write_size = 0,
                   .max_descriptors = RequestPath::kMaxDescriptors}),
      transport_(std::make_unique<Transport>(loop,
                                             Transport::Config{.role = smbd::Role::active,
                                                               .limits = config.limits,
                                                               .receive_pool = pools.receive,
                                                               .header_pool = pools.header,
                                                               .budget = receive_budget_},
                                             static_cast<Transport::Owner&>(*this))),
      memory_(*transport_),
      requests_(pools, config.memory, *transport_, translator_, memory_),
      spill_(pools.stream, config.memory.responses),
      responses_(*transport_, translator_, memory_, outbox_, spill_) {
  set_option(client_.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(client_.fd(), SOL_SOCKET, SO_KEEPALIVE, 1);
}

ConnectSession::~ConnectSession() {
  // Received messages are charged to the transport: they go before it. Memory the peer can reach goes
  // after it; all of it before the paths whose budgets it is charged to.
  outbox_.clear();
  transport_.reset();
  memory_.clear();
}

void ConnectSession::start() {
  const auto started = dialer_.start(*transport_);
  if (started) return;
  transport_closed_ = true;
  log::write(log::Level::error, "%s: cannot connect to %s: %s", name_.c_str(),
             shm::address_text(dialer_.target().to).c_str(), started.error().text().c_str());
  reset_client_ = true;
  turn_.trigger();
}

void ConnectSession::stop() {
  if (phase_ == Phase::connecting) {
    abort("stopped");
  } else if (phase_ == Phase::open) {
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
    turn_.trigger();
  }
}

void ConnectSession::abort(std::string why) {
  if (phase_ == Phase::done) return;
  reset_client_ = true;
  if (!transport_closed_) transport_->abort(std::move(why));
  turn_.trigger();
}

/// Ends both connections for a reason a person should read.
void ConnectSession::fail(std::string why) {
  log::write(log::Level::warning, "%s: %s; its connection is closed", name_.c_str(), why.c_str());
  abort(std::move(why));
}

// --- events of the SMB Direct connection ---

void ConnectSession::on_negotiated() {
  const auto& agreed = transport_->engine().agreed();
  translator_.set_max_read_write_size(std::min(agreed.max_read_write_size, requests_.most_channel_bytes()));
  translator_.set_remote_invalidate(transport_->endpoint()->attributes().can_be_invalidated);
  if (phase_ == Phase::connecting) phase_ = Phase::open;
  log::write(log::Level::info, "%s: connected, %s", name_.c_str(),
             std::string(transport_->endpoint()->description()).c_str());
  turn_.trigger();
}

void ConnectSession::on_fragment(Fragment fragment) {
  if (reset_client_) return;
  if (auto queued = responses_.fragment(fragment, client_lags()); !queued) {
    fail(queued.error().text());
    return;
  }
  if (client_gone_) outbox_.clear();
  turn_.trigger();
}

/// So many receives hold what the client has not taken that the server may soon get no credits.
bool ConnectSession::client_lags() const {
  if (!output_blocked_) return false;
  const uint64_t receives = receive_budget_.used() / pools_.receive.slab_size();
  const auto credits = transport_->engine().credits();
  return receives > credits.posted + uint64_t{config_.limits.receive_credit_max} / 2;
}

void ConnectSession::on_read_done(uint64_t /*cookie*/) {}

void ConnectSession::on_invalidated(uint32_t token) {
  ++transport_->own_counters().invalidates;
  memory_.invalidated(token);
}

void ConnectSession::on_progress() {
  if (input_ == RequestPath::State::waits || phase_ == Phase::draining) turn_.trigger();
}

void ConnectSession::on_fault(const std::string& why) {
  log::write(log::Level::warning, "%s: %s", name_.c_str(), why.c_str());
  disconnecting_ = true;
  if (phase_ == Phase::open) phase_ = Phase::draining;
}

void ConnectSession::on_closed(const std::string& why, bool clean) {
  transport_closed_ = true;
  memory_.clear();  // the fabric has let go of it
  if (phase_ == Phase::connecting) {
    if (!reset_client_) {
      log::write(log::Level::error, "%s: no SMB Direct connection to %s: %s", name_.c_str(),
                 shm::address_text(dialer_.target().to).c_str(), why.c_str());
    }
    reset_client_ = true;
  } else if (!clean && !reset_client_ && !disconnecting_) {
    log::write(log::Level::warning, "%s: the connection to %s was lost: %s", name_.c_str(),
               shm::address_text(dialer_.target().to).c_str(), why.c_str());
    log_events();
  } else {
    log::write(log::Level::info, "%s: closed: %s", name_.c_str(), why.c_str());
  }
  turn_.trigger();
}

/// The last protocol events, one line each.
void ConnectSession::log_events() {
  if (!log::enabled(log::Level::debug)) return;
  const std::string text = transport_->events().text(uv_now(&loop_));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    log::write(log::Level::debug, "%s:%s", name_.c_str(), text.substr(begin, end - begin).c_str());
    begin = end + 1;
  }
}

// --- events of the client ---

void ConnectSession::on_client(int events, int status) {
  if (phase_ == Phase::done) return;
  if (status < 0) {
    int error = 0;
    socklen_t size = sizeof error;
    (void)::getsockopt(client_.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    client_lost(std::strerror(error != 0 ? error : ECONNRESET));
    turn(false);
    return;
  }
  turn((events & UV_READABLE) != 0);
}

void ConnectSession::client_lost(const std::string& why) {
  if (client_gone_) return;
  client_gone_ = client_ended_ = true;
  reset_client_ = reset_client_ || transport_closed_;
  outbox_.clear();
  log::write(log::Level::info, "%s: the client is gone: %s", name_.c_str(), why.c_str());
  if (phase_ != Phase::open) return;
  if (requests_.between_requests()) {
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
  } else {
    abort("the client closed in the middle of a request");
  }
}

void ConnectSession::on_deadline() {
  over_ = true;
  turn(false);
}

// --- one turn: everything that can be done now ---

void ConnectSession::turn(bool readable) {
  if (phase_ == Phase::done) return;
  write_responses();  // first: it frees memory that requests may wait for
  if (phase_ == Phase::open && (readable || input_ == RequestPath::State::waits)) read_requests();
  if (phase_ == Phase::draining) drain();
  if (!transport_closed_) {
    transport_->pump();
  } else {
    finish_client();
  }
  if (phase_ == Phase::lingering) linger(readable);
  if (phase_ != Phase::done) wait_for_events();
}

void ConnectSession::read_requests() {
  const auto state = requests_.run(client_.fd());
  if (!state) {
    const std::string why = state.error().text();
    if (state.error().system_errno != 0) {
      client_lost(why);
    } else {
      fail(why);
    }
    return;
  }
  input_ = *state;
  if (input_ == RequestPath::State::ended) {
    client_ended_ = true;
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
  }
}

void ConnectSession::write_responses() {
  if (client_gone_ || reset_client_) {
    outbox_.clear();
    output_blocked_ = false;
    return;
  }
  const auto flushed = outbox_.flush(client_.fd());
  if (!flushed) {
    output_blocked_ = false;
    client_lost(flushed.error().text());
    return;
  }
  output_blocked_ = *flushed == Outbox::Flush::blocked;
  if (input_ == RequestPath::State::hungry) requests_.trim();
}

/// Closes the SMB Direct connection once everything that was sent has been answered for.
void ConnectSession::drain() {
  if (transport_closed_ || disconnecting_) return;
  if (over_) {
    disconnecting_ = true;
    transport_->abort("what was under way took too long");
  } else if (memory_.empty() && transport_->idle()) {
    disconnecting_ = true;
    transport_->disconnect(client_ended_ ? "the client closed" : "stopped");
  }
}

/// The SMB Direct connection is gone: deliver what is whole, then close the client's.
void ConnectSession::finish_client() {
  if (phase_ != Phase::flushing && phase_ != Phase::lingering) {
    phase_ = Phase::flushing;
    over_ = false;
    deadline_.start(config_.drain_timeout_ms);
  }
  if (responses_.in_response()) reset_client_ = true;
  if (reset_client_ || client_gone_ || over_) {
    finish();
    return;
  }
  if (phase_ == Phase::flushing && !output_blocked_) {
    // Closing with unread bytes would make a reset of it, and lose what the client has not read yet.
    if (client_ended_ || ::shutdown(client_.fd(), SHUT_WR) != 0) {
      finish();
      return;
    }
    phase_ = Phase::lingering;
    deadline_.start(kLingerMs);
  }
}

void ConnectSession::linger(bool readable) {
  if (!readable) return;
  for (size_t discarded = 0; discarded < kMostDiscarded;) {
    std::array<std::byte, 4096> scratch;
    const ssize_t n = ::recv(client_.fd(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
      finish();
      return;
    }
    discarded += static_cast<size_t>(n);
  }
}

void ConnectSession::finish() {
  phase_ = Phase::done;
  client_.want(0);
  deadline_.stop();
  outbox_.clear();
  if (reset_client_ || over_) {
    const ::linger reset{.l_onoff = 1, .l_linger = 0};
    (void)::setsockopt(client_.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  done_();
}

void ConnectSession::wait_for_events() {
  const bool wants_requests =
      phase_ == Phase::open && input_ == RequestPath::State::hungry && !reset_client_ && !client_gone_;
  const bool wants_input = wants_requests || phase_ == Phase::lingering;
  client_.want((wants_input ? UV_READABLE : 0) | (output_blocked_ ? UV_WRITABLE : 0));
}

}  // namespace smbdirect::workers::connect
