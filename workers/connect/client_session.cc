// SPDX-License-Identifier: MIT
#include "workers/connect/client_session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <utility>

#include "shm/base/log.h"
#include "shm/base/random.h"
#include "shm/base/socket_address.h"
#include "shm/base/sockets.h"

namespace smbdirect::workers::connect {

namespace {

namespace log = shm::log;

constexpr uint64_t kLingerMs = 2000;
constexpr size_t kMostDiscarded = 1u << 20;  // per turn, from a client that sends on while we close

void set_option(int fd, int level, int option, int value) {
  (void)::setsockopt(fd, level, option, &value, sizeof value);  // a refusal costs speed, nothing else
}

}  // namespace

ClientSession::ClientSession(uv_loop_t& loop, Pools& pools, Dialer& dialer, const SessionConfig& config,
                             shm::UniqueFd client, std::string name, SessionEvents tell)
    : loop_(loop),
      pools_(pools),
      dialer_(dialer),
      config_(config),
      client_(loop, std::move(client), [this](int events, int status) { on_client(events, status); }),
      name_(std::move(name)),
      events_(std::move(tell)),
      turn_(loop, [this] { turn(false); }),
      deadline_(loop, [this] { on_deadline(); }),
      patience_(loop, [this] { on_patience_over(); }) {
  set_option(client_.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(client_.fd(), SOL_SOCKET, SO_KEEPALIVE, 1);
}

ClientSession::~ClientSession() = default;

ClientSession::Link::Link(ClientSession& session, const SessionConfig& config)
    : receive_budget(UINT64_MAX),
      translator({.rdma_io = config.rdma_io,
                  .threshold = config.threshold,
                  .max_read_write_size = 0,
                  .max_descriptors = RequestForwarder::kMaxDescriptors,
                  .table_secret = shm::random_word()}),
      transport(std::make_unique<Transport>(session.loop_,
                                            Transport::Config{.role = smb_direct::Role::active,
                                                              .limits = config.limits,
                                                              .receive_pool = session.pools_.receive,
                                                              .header_pool = session.pools_.header,
                                                              .budget = receive_budget},
                                            static_cast<Transport::Owner&>(session))),
      memory(*transport),
      requests(session.pools_, config.memory, smb_direct::normalized(config.limits).max_fragmented_size,
               *transport, translator, memory, outbox),
      spill(session.pools_.stream, config.memory.responses),
      responses(*transport, translator, memory, outbox, spill) {}

ClientSession::Link::~Link() {
  // Received messages are charged to the transport: they go before it. Memory the peer can reach goes
  // after it; all of it before the paths whose budgets it is charged to.
  outbox.clear();
  transport.reset();
  memory.clear();
}

Counters ClientSession::counters() const {
  Counters all = before_;
  if (link_) all.add(link_->transport->counters());
  return all;
}

void ClientSession::trim() {
  if (link_) link_->transport->trim();
}

void ClientSession::stop() {
  if (phase_ <= Phase::connecting) {
    abort("stopped");
  } else if (phase_ == Phase::open) {
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
    turn_.trigger();
  }
}

void ClientSession::abort(std::string why) {
  if (phase_ == Phase::done) return;
  reset_client_ = true;
  if (before_server()) return finish();
  if (!transport_closed_) link_->transport->abort(std::move(why));
  turn_.trigger();
}

/// Ends both connections for a reason a person should read.
void ClientSession::fail(std::string why) {
  log::write(log::Level::warning, "%s: %s; its connection is closed", name_.c_str(), why.c_str());
  abort(std::move(why));
}

// --- events of the SMB Direct connection ---

void ClientSession::on_negotiated() {
  const auto& agreed = link_->transport->engine().agreed();
  link_->translator.set_max_read_write_size(
      std::min(agreed.max_read_write_size, link_->requests.most_rdma_channel_bytes()));
  link_->translator.set_remote_invalidate(link_->transport->endpoint()->attributes().can_be_invalidated);
  if (phase_ == Phase::connecting) {
    phase_ = Phase::open;
    input_ = RequestForwarder::State::waits;
    if (!link_->requests.begin_with(greeting_.bytes())) return fail("out of memory");
    greeting_.clear();
  }
  dialer_.worked(addresses_[tried_]);
  log::write(log::Level::info, "%s: connected, %s", name_.c_str(),
             std::string(link_->transport->endpoint()->description()).c_str());
  turn_.trigger();
}

void ClientSession::on_fragment(Fragment fragment) {
  if (reset_client_) return;
  if (auto queued = link_->responses.fragment(fragment, client_lags()); !queued) {
    fail(queued.error().text());
    return;
  }
  if (link_->responses.let_in() && !std::exchange(let_in_, true)) events_.let_in(*this);
  if (client_gone_) link_->outbox.clear();
  turn_.trigger();
}

/// So many receives hold what the client has not taken that the server may soon get no credits.
bool ClientSession::client_lags() const {
  if (!output_blocked_) return false;
  const uint64_t receives = link_->receive_budget.used() / pools_.receive.slab_size();
  const auto credits = link_->transport->engine().credits();
  return receives > credits.posted + uint64_t{config_.limits.receive_credit_max} / 2;
}

void ClientSession::on_read_done(uint64_t /*cookie*/) {}

void ClientSession::on_invalidated(uint32_t token) {
  ++link_->transport->own_counters().invalidates;
  link_->memory.invalidated(token);
}

void ClientSession::on_progress() {
  if (input_ == RequestForwarder::State::waits || phase_ == Phase::draining) turn_.trigger();
}

void ClientSession::on_fault(const std::string& why) {
  log::write(log::Level::warning, "%s: %s", name_.c_str(), why.c_str());
  disconnecting_ = true;
  if (phase_ == Phase::open) phase_ = Phase::draining;
}

void ClientSession::on_closed(const std::string& why, bool clean) {
  transport_closed_ = true;
  link_->memory.clear();  // the fabric has let go of it
  if (phase_ == Phase::connecting) {
    if (!reset_client_) connect_failed(why);
  } else if (!clean && !reset_client_ && !disconnecting_) {
    log::write(log::Level::warning, "%s: the connection to %s was lost: %s", name_.c_str(),
               shm::address_text(addresses_[tried_]).c_str(), why.c_str());
    log_events();
  } else {
    log::write(log::Level::info, "%s: closed: %s", name_.c_str(), why.c_str());
  }
  turn_.trigger();
}

/// The last protocol events, one line each.
void ClientSession::log_events() {
  if (!log::enabled(log::Level::debug)) return;
  const std::string text = link_->transport->events().text(uv_now(&loop_));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    log::write(log::Level::debug, "%s:%s", name_.c_str(), text.substr(begin, end - begin).c_str());
    begin = end + 1;
  }
}

// --- events of the client ---

void ClientSession::on_client(int events, int status) {
  if (phase_ == Phase::done) return;
  if (status < 0) {
    int error = 0;
    socklen_t size = sizeof error;
    (void)::getsockopt(client_.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (before_server()) return finish();
    client_lost(std::strerror(error != 0 ? error : ECONNRESET));
    turn(false);
    return;
  }
  turn((events & UV_READABLE) != 0);
}

void ClientSession::client_lost(const std::string& why) {
  if (client_gone_) return;
  client_gone_ = client_ended_ = true;
  reset_client_ = reset_client_ || transport_closed_;
  link_->outbox.clear();
  log::write(log::Level::info, "%s: the client is gone: %s", name_.c_str(), why.c_str());
  if (phase_ != Phase::open) return;
  if (link_->requests.between_requests()) {
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
  } else {
    abort("the client closed in the middle of a request");
  }
}

void ClientSession::on_deadline() {
  if (phase_ == Phase::greeting) return fail("it has sent no SMB2 NEGOTIATE in time");
  if (phase_ == Phase::waiting) return fail("too many clients without a session are waiting for the server");
  over_ = true;
  turn(false);
}

// --- one turn: everything that can be done now ---

void ClientSession::turn(bool readable) {
  if (phase_ == Phase::done) return;
  if (before_server()) {
    if (phase_ == Phase::greeting && readable) greet();
    return;
  }
  if (std::exchange(try_next_, false) && !reset_client_) return connect();
  write_responses();  // first: it frees memory that requests may wait for
  if (phase_ == Phase::open && (readable || input_ == RequestForwarder::State::waits)) {
    read_requests();
    if (!link_->outbox.empty() && !output_blocked_) write_responses();  // to a NetBIOS session request
  }
  watch_waiting();
  if (phase_ == Phase::draining) drain();
  if (!transport_closed_) {
    link_->transport->pump();
  } else {
    finish_client();
  }
  if (phase_ == Phase::lingering) linger(readable);
  if (phase_ != Phase::done) wait_for_events();
}

void ClientSession::read_requests() {
  const auto state = link_->requests.run(client_.fd());
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
  if (input_ == RequestForwarder::State::ended) {
    client_ended_ = true;
    phase_ = Phase::draining;
    deadline_.start(config_.drain_timeout_ms);
  }
}

/// What is read waits for memory, as long as some comes back now and then.
void ClientSession::watch_waiting() {
  const bool waits = phase_ == Phase::open && input_ == RequestForwarder::State::waits &&
                     link_->requests.waits_for_answers();
  const uint64_t closed = link_->memory.closed();
  if (!waits) {
    waiting_ = false;
    patience_.stop();
  } else if (!std::exchange(waiting_, true) || std::exchange(closed_seen_, closed) != closed) {
    closed_seen_ = closed;
    moved_seen_ = moved();
    patience_.start(config_.patience_ms);
  }
}

/// Bytes by RDMA, either way.
uint64_t ClientSession::moved() const {
  const Counters counters = link_->transport->counters();
  return counters.rdma_read_bytes + counters.rdma_write_bytes;
}

void ClientSession::on_patience_over() {
  const uint64_t before = std::exchange(moved_seen_, moved());
  // Memory that the client has yet to read is released when it does; that is up to the client.
  if (before != moved_seen_ || output_blocked_) return patience_.start(config_.patience_ms);
  link_->requests.stop_waiting();
  turn(false);
}

void ClientSession::write_responses() {
  if (client_gone_ || reset_client_) {
    link_->outbox.clear();
    output_blocked_ = false;
    return;
  }
  const auto flushed = link_->outbox.flush(client_.fd());
  if (!flushed) {
    output_blocked_ = false;
    client_lost(flushed.error().text());
    return;
  }
  output_blocked_ = *flushed == Outbox::Flush::blocked;
  if (input_ == RequestForwarder::State::hungry) link_->requests.trim();
}

/// Closes the SMB Direct connection once everything that was sent has been answered for.
void ClientSession::drain() {
  if (transport_closed_ || disconnecting_) return;
  if (over_) {
    disconnecting_ = true;
    link_->transport->abort("requests in flight took too long");
  } else if (link_->memory.empty() && link_->transport->idle()) {
    disconnecting_ = true;
    link_->transport->disconnect(client_ended_ ? "the client closed" : "stopped");
  }
}

/// The SMB Direct connection is gone: deliver what is whole, then close the client's.
void ClientSession::finish_client() {
  if (phase_ != Phase::flushing && phase_ != Phase::lingering) {
    phase_ = Phase::flushing;
    over_ = false;
    deadline_.start(config_.drain_timeout_ms);
  }
  if (link_->responses.in_response()) reset_client_ = true;
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

void ClientSession::linger(bool readable) {
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

void ClientSession::finish() {
  phase_ = Phase::done;
  client_.want(0);
  deadline_.stop();
  patience_.stop();
  if (link_) link_->outbox.clear();
  if (reset_client_ || over_) shm::reset_on_close(client_.fd());
  events_.done(*this);
}

void ClientSession::wait_for_events() {
  const bool wants_requests =
      phase_ == Phase::open && input_ == RequestForwarder::State::hungry && !reset_client_ && !client_gone_;
  const bool wants_input = wants_requests || phase_ == Phase::lingering;
  client_.want((wants_input ? UV_READABLE : 0) | (output_blocked_ ? UV_WRITABLE : 0));
}

}  // namespace smbdirect::workers::connect
