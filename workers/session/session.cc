// SPDX-License-Identifier: MIT
#include "workers/session/session.h"

#include <algorithm>
#include <sys/socket.h>
#include <utility>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "shm/base/sockets.h"
#include "shm/loop/watched.h"
#include "workers/session/configured_limits.h"
#include "workers/session/size_advice.h"

namespace smbdirect::workers {

namespace {

SizeLimits sizes_of(const daemon::WorkerConfig& config) {
  return {.max_fragmented_size = config.max_fragmented_size,
          .max_read_write_size = config.max_read_write_size};
}

constexpr uint64_t kMemoryRetryMs = 20;

/// The configured limit is for payload; the receives come on top.
uint64_t connection_limit(const SessionResources& resources) {
  return resources.config.buffered_bytes_per_connection +
         uint64_t{resources.config.receive_credit_max} * resources.receive_slabs.slab_size();
}

/// Likewise, while the server has not let the client in.
uint64_t first_limit(const SessionResources& resources) {
  const uint64_t standing =
      uint64_t{resources.config.receive_credit_initial} * resources.receive_slabs.slab_size() +
      resources.header_slabs.slab_size();
  return std::min(WorkerMemory::kBeforeSession + standing, connection_limit(resources));
}

uint16_t port_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (ask(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return shm::port_of(address);
}

constexpr uint16_t kSmb21 = 0x0210;

}  // namespace

Session::Session(const SessionResources& resources, Client client, Ended ended)
    : resources_(resources),
      client_(std::move(client)),
      ended_(std::move(ended)),
      share_(resources.memory.client(client_.address)),
      budget_(first_limit(resources), &share_->held),
      admission_(first_limit(resources), resources.memory, share_, budget_),
      memory_(resources.memory, share_, resources.slabs, budget_),
      translator_({.max_read_write_size = resources.config.max_read_write_size}),
      transport_(resources.loop,
                 {.role = smb_direct::Role::passive,
                  .limits = limits_of(resources.config),
                  .receive_pool = resources.receive_slabs,
                  .header_pool = resources.header_slabs,
                  .budget = budget_,
                  .progress_timeout_ms = resources.config.progress_timeout_ms},
                 *this),
      context_{transport_, translator_, admission_, resources.slabs, budget_, memory_, *this},
      exchange_(resources.make_exchange(context_)),
      again_(resources.loop, [this] { on_upstream_ready(UV_READABLE, 0); }),
      retry_timer_(resources.loop, [this] { on_retry(); }),
      upstream_timer_(resources.loop, [this] { on_upstream_overdue(); }),
      negotiate_timer_(resources.loop,
                       [this] { on_broken("no SMB2 NEGOTIATE within the handshake deadline"); }),
      session_timer_(resources.loop, [this] { end("no SMB2 session within /limits/session_timeout_ms"); }),
      since_ms_(uv_now(&resources.loop)) {
  transport_.limit_receive_credits(resources.config.receive_credit_initial);
  resources.memory.add(*this);
}

Session::~Session() {
  resources_.memory.remove(*this);
  close_upstream(false);
  transport_.drop();  // before the memory that it moves data from and to
}

bool Session::start(const Transport::MakeEndpoint& make_endpoint) {
  session_timer_.start(resources_.config.session_timeout_ms);
  return transport_.start(make_endpoint);
}

void Session::stop(const std::string& why) { transport_.disconnect(why); }

/// A client that was not let in is owed no orderly end: it could take as long over that as it likes.
void Session::end(const std::string& why) {
  if (over_) return;
  over_ = true;
  stop_timers();
  close_upstream(false);
  transport_.drop();
  ended_(broken_ ? *broken_ : why, false);
}

void Session::stop_timers() {
  for (shm::Timer* timer : {&negotiate_timer_, &session_timer_, &retry_timer_, &upstream_timer_})
    timer->stop();
}

// --- from the client ---

void Session::on_negotiated() {
  const smb_direct::Agreed& agreed = transport_.engine().agreed();
  shm::log::write(
      shm::log::Level::info,
      "connection established peer=%s max_send_size=%u max_receive_size=%u max_fragmented_send_size=%u",
      client_.peer.c_str(), agreed.max_send_size, agreed.max_receive_size, agreed.max_fragmented_send_size);
  negotiate_timer_.start(resources_.config.handshake_timeout_ms);
}

void Session::on_fragment(Fragment fragment) { exchange_->on_fragment(fragment); }

void Session::on_read_done(uint64_t cookie) { exchange_->on_read_done(cookie); }

void Session::on_writes_done(uint64_t count) { exchange_->on_writes_done(count); }

void Session::on_progress() {
  limit_receives();
  exchange_->resume();
  flush_upstream();
  exchange_->trim();
  if (read_paused_ && upstream_.valid()) {
    read_paused_ = false;
    want_upstream();
    read_upstream();  // what was read and has waited brings no event
  }
  await_memory();
}

/// Memory that other connections hold comes back without an event of ours: look again soon.
void Session::await_memory() {
  if (broken_ || over_ || !(exchange_->stalled() || read_paused_)) return;
  retry_timer_.start(kMemoryRetryMs);
  if (waits_for_others()) resources_.memory.somebody_waits();
}

void Session::on_retry() {
  on_progress();
  transport_.pump();
}

/// The server has let the client in: it may have what is configured.
void Session::allow_all() {
  context_.set_up = true;
  const uint64_t limit = connection_limit(resources_);
  admission_.set_limit(limit);
  budget_.set_limit(Admission::hard_limit(limit));
  limit_receives();
}

void Session::limit_receives() {
  const bool many = context_.set_up && resources_.memory.plenty();
  if (std::exchange(many_receives_, many) == many) return;
  transport_.limit_receive_credits(many ? resources_.config.receive_credit_max
                                        : resources_.config.receive_credit_initial);
}

// --- memory, when others need it ---

uint64_t Session::reclaimable() const {
  if (over_) return 0;
  const uint64_t standing = transport_.standing_bytes();
  return (budget_.used() > standing ? budget_.used() - standing : 0) + admission_.reserved();
}

uint64_t Session::stuck_since() {
  const uint64_t client = transport_.stuck_since();
  return write_blocked_ ? std::min(client, blocked_since_ms_) : client;
}

bool Session::waits_for_others() const {
  return !over_ && !broken_ && (exchange_->stalled() || read_paused_) && memory_.short_of() == Room::others;
}

void Session::let_through() {
  admission_.let_through();
  memory_.let_through();
  on_retry();
}

void Session::on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) {
  negotiate_timer_.stop();
  client_guid_ = negotiate.client_guid;
  // Before SMB 2.1 the field means nothing (MS-SMB2 2.2.3).
  const bool claims = negotiate.highest_dialect >= kSmb21;
  UpstreamRequest request{.offer = client_.offer,
                          .client_guid = negotiate.client_guid,
                          .claimed = claims,
                          .client = client_.address,
                          .server = client_.server,
                          .negotiate = pdu};
  auto way = exchange_->open_upstream(std::move(request));
  if (!way) return on_broken(way.error().text());
  if (claims) resources_.claim(client_.offer, negotiate.client_guid);
  connector_ = std::move(*way);
  connector_->start([this](shm::Result<shm::UniqueFd> result) { on_upstream_connected(std::move(result)); });
}

// --- to and from smbd ---

void Session::on_upstream_connected(shm::Result<shm::UniqueFd> result) {
  if (over_ || broken_) return;
  if (!result) {
    return on_broken(result.error().text() + exchange_->names().unreachable);
  }
  upstream_ = shm::Watched(resources_.loop, std::move(*result),
                           [this](int events, int status) { on_upstream_ready(events, status); });
  upstream_local_port_ = port_of(upstream_.fd(), ::getsockname);
  upstream_remote_port_ = port_of(upstream_.fd(), ::getpeername);
  on_attached(connector_->process());
  transport_.record(EventKind::upstream_connected, resources_.config.upstream_port, 1);
  flush_upstream();
  want_upstream();
  transport_.pump();
}

void Session::on_session_set_up() {
  if (context_.set_up || broken_ || over_) return;
  session_timer_.stop();
  allow_all();
  resources_.session_up(client_.offer);
}

void Session::on_agreed(const smb2::NegotiateResponse& agreed) {
  const auto advice = size_advice(agreed, sizes_of(resources_.config));
  if (advice) resources_.advise(*advice);
}

/// The stream is up, or has gone to another process of the server's.
void Session::on_attached(uint32_t process) {
  if (!upstream_.valid()) return;  // said while the stream was being closed
  resources_.channel_up(client_.offer, process);
  exchange_->attached(process);
}

void Session::want_upstream() {
  upstream_.want((read_paused_ || upstream_ended_ ? 0 : UV_READABLE) | (write_blocked_ ? UV_WRITABLE : 0));
}

void Session::on_upstream_ready(int events, int status) {
  if ((events & UV_WRITABLE) != 0) {
    write_blocked_ = false;
    flush_upstream();
    want_upstream();
  }
  if (status < 0 || (events & UV_READABLE) != 0) read_upstream();
  if (status < 0 && !broken_ && !upstream_ended_) {
    on_broken(stream() + " cannot be watched: " + uv_strerror(status));
  }
  if (!broken_) exchange_->resume();
  flush_upstream();
  await_memory();
  transport_.pump();
}

void Session::read_upstream() {
  if (!upstream_.valid() || read_paused_ || upstream_ended_) return;
  switch (exchange_->pump(upstream_.fd())) {
    case Exchange::State::again:
      return again_.trigger();
    case Exchange::State::more:
    case Exchange::State::drained:
    case Exchange::State::broken:
      return;
    case Exchange::State::no_memory:
      read_paused_ = true;  // until sends complete (on_progress)
      want_upstream();
      return;
    case Exchange::State::end:
      upstream_ended_ = true;
      want_upstream();
      transport_.record(EventKind::upstream_closed, 0, exchange_->unfinished() ? 1 : 0);
      transport_.disconnect(std::string(exchange_->names().server) + " closed the " +
                            exchange_->names().stream);
      return;
  }
}

/// How messages begin that are about it: "smbd's connection".
std::string Session::stream() const {
  return std::string(exchange_->names().server) + "'s " + exchange_->names().stream;
}

/// What smbd has taken all of may be what a request waits for, and brings no event.
void Session::flush_upstream() {
  while (upstream_.valid() && !write_blocked_ && !exchange_->outbox().empty()) {
    const auto flushed = exchange_->outbox().flush(upstream_.fd());
    if (!flushed) {
      // What the server said before it closed is the better reason ("refused: hosts allow").
      read_upstream();
      return on_broken(stream() + ": " + flushed.error().text());
    }
    if (*flushed == Outbox::Flush::blocked) {
      write_blocked_ = true;
      watch_upstream();
      return want_upstream();
    }
    if (exchange_->stalled()) exchange_->resume();
  }
}

/// smbd has not taken all. It is asked again only when there is room, so that it has taken something since
/// the last time, if there was one: its time begins anew.
void Session::watch_upstream() {
  blocked_since_ms_ = uv_now(&resources_.loop);
  if (std::exchange(upstream_watched_, true)) return;
  upstream_timer_.start(resources_.config.upstream_progress_timeout_ms);
}

void Session::on_upstream_overdue() {
  if (!write_blocked_ || broken_ || over_) {
    upstream_watched_ = false;
    return;
  }
  const uint64_t silent_ms = uv_now(&resources_.loop) - blocked_since_ms_;
  const uint64_t timeout_ms = resources_.config.upstream_progress_timeout_ms;
  if (silent_ms < timeout_ms) return upstream_timer_.start(timeout_ms - silent_ms);
  const Exchange::Names& names = exchange_->names();
  on_broken(std::string(names.server) + " has read nothing from its " + names.stream + " for " +
            std::to_string(silent_ms) +
            " ms (/limits/upstream_progress_timeout_ms); is the process stopped, or its storage?");
}

/// Closes the server's side. A stream that ends in the middle of something, or unexpectedly, is reset: smbd
/// must not take the end of the bytes for the end of a message, nor wait for a client that is gone.
void Session::close_upstream(bool orderly) {
  // At once: a client that does not close its side keeps the connection for some seconds more.
  if (connector_ || upstream_.valid()) resources_.channel_down(client_.offer);
  exchange_->detached();
  connector_.reset();
  if (upstream_.valid() && !orderly) shm::reset_on_close(upstream_.fd());
  upstream_.reset();
}

// --- what is shown of it ---

shm::ConnectionRow Session::row() const {
  const Counters counters = transport_.counters();
  const smb_direct::Credits credits = transport_.engine().credits();
  shm::ConnectionRow row{.number = client_.offer,
                         .phase = phase(),
                         .peer = shm::host_of(client_.address),
                         .peer_port = shm::port_of(client_.address),
                         .upstream_local_port = upstream_local_port_,
                         .upstream_remote_port = upstream_remote_port_,
                         .guid = client_guid_,
                         .since_ms = since_ms_,
                         .receive_credits = credits.granted,
                         .send_credits = credits.send,
                         .requests = counters.smb_requests,
                         .bytes = {}};
  const auto bytes = [&](shm::Transfer kind) -> uint64_t& { return row.bytes[size_t(kind)]; };
  bytes(shm::Transfer::inline_in) = counters.bytes_inline_received;
  bytes(shm::Transfer::inline_out) = counters.bytes_inline_sent;
  bytes(shm::Transfer::rdma_read) = counters.rdma_read_bytes;
  bytes(shm::Transfer::rdma_write) = counters.rdma_write_bytes;
  return row;
}

shm::ConnectionPhase Session::phase() const {
  if (over_ || broken_ || upstream_ended_) return shm::ConnectionPhase::closing;
  if (upstream_.valid()) return shm::ConnectionPhase::serving;
  return connector_ ? shm::ConnectionPhase::connecting : shm::ConnectionPhase::negotiating;
}

// --- the end ---

void Session::on_broken(std::string why) {
  if (broken_ || over_) return;
  broken_ = std::move(why);
  stop_timers();
  // Deliver nothing more to smbd, and let the client see an orderly close after what it was already sent.
  close_upstream(false);
  exchange_->outbox().clear();
  transport_.fail(*broken_);
}

void Session::on_fault(const std::string& why) {
  if (!broken_) broken_ = why;
  const smb_direct::Engine& engine = transport_.engine();
  const bool by_engine = engine.phase() == smb_direct::Phase::closed;
  if (by_engine && engine.fault() == smb_direct::Fault::exceeds_max_fragmented)
    *broken_ += oversize_advice(sizes_of(resources_.config));
  close_upstream(false);
}

void Session::on_closed(const std::string& why, bool clean) {
  if (over_) return;
  over_ = true;
  stop_timers();
  const bool orderly = clean && !broken_ && !exchange_->unfinished();
  close_upstream(orderly);
  ended_(broken_ ? *broken_ : why, orderly);
}

}  // namespace smbdirect::workers
