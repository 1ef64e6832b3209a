// SPDX-License-Identifier: MIT
#include "workers/session/session.h"

#include <algorithm>
#include <utility>

#include "shm/base/log.h"
#include "shm/base/probes.h"
#include "shm/base/random.h"
#include "shm/base/socket_address.h"
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
      translator_(
          {.max_read_write_size = resources.config.max_read_write_size, .table_secret = shm::random_word()}),
      requests_(budget_),
      transport_(resources.loop,
                 {.role = smb_direct::Role::passive,
                  .limits = limits_of(resources.config),
                  .receive_pool = resources.receive_slabs,
                  .header_pool = resources.header_slabs,
                  .budget = budget_,
                  .progress_timeout_ms = resources.config.progress_timeout_ms,
                  .latencies = resources.latencies},
                 *this),
      context_{transport_, translator_, admission_, resources.slabs, budget_, memory_, *this},
      exchange_(resources.make_exchange(context_)),
      stream_(resources.loop, *exchange_, resources.config.upstream_progress_timeout_ms, *this),
      retry_timer_(resources.loop, [this] { on_retry(); }),
      negotiate_timer_(resources.loop,
                       [this] { on_broken("no SMB2 NEGOTIATE within /limits/handshake_timeout_ms"); }),
      session_timer_(resources.loop, [this] { end("no SMB2 session within /limits/session_timeout_ms"); }),
      since_ms_(uv_now(&resources.loop)) {
  transport_.limit_receive_credits(resources.config.receive_credit_initial);
  resources.memory.add(*this);
}

Session::~Session() {
  resources_.memory.remove(*this);
  close_stream(false);
  transport_.drop();  // before the memory that it moves data from and to
}

bool Session::start(const Transport::MakeEndpoint& make_endpoint) {
  shm::probe::session_begin(number());
  session_timer_.start(resources_.config.session_timeout_ms);
  return transport_.start(make_endpoint);
}

void Session::stop(const std::string& why) { transport_.disconnect(why); }

void Session::leave(const std::string& why) {
  if (over_ || goodbye_timer_) return;
  goodbye_timer_ =
      std::make_unique<shm::Timer>(resources_.loop, [this] { end("the client has not gone in time"); });
  on_broken(why);
  if (!over_) goodbye_timer_->start(kGoodbyeMs);
}

/// A client that was not let in is owed no orderly end: it could take as long over that as it likes.
void Session::end(const std::string& why) {
  if (over_) return;
  over_ = true;
  stop_timers();
  close_stream(false);
  transport_.drop();
  tell_end(why, false);
}

void Session::stop_timers() {
  for (shm::Timer* timer : {&negotiate_timer_, &session_timer_, &retry_timer_, goodbye_timer_.get()})
    if (timer != nullptr) timer->stop();
}

// --- from the client ---

void Session::on_negotiated() {
  const smb_direct::Agreed& agreed = transport_.engine().agreed();
  shm::log::write(
      shm::log::Level::info,
      "connection established peer=%s max_send_size=%u max_receive_size=%u max_fragmented_send_size=%u",
      client_.peer.c_str(), agreed.max_send_size, agreed.max_receive_size, agreed.max_fragmented_send_size);
  shm::probe::session_negotiated(number(), agreed.max_send_size, agreed.max_receive_size);
  negotiate_timer_.start(resources_.config.handshake_timeout_ms);
}

void Session::on_fragment(Fragment fragment) { exchange_->on_fragment(fragment); }

void Session::on_read_done(uint64_t cookie) { exchange_->on_read_done(cookie); }

void Session::on_writes_done(uint64_t count) { exchange_->on_writes_done(count); }

void Session::on_progress() {
  requests_.set(translator_.bytes());
  limit_receives();
  exchange_->resume();
  stream_.flush();
  exchange_->trim();
  stream_.resume_reading();
  await_memory();
}

/// Memory that other connections hold comes back without an event of ours: look again soon.
void Session::await_memory() {
  if (broken_ || over_ || !(exchange_->stalled() || stream_.paused())) return;
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

uint64_t Session::stuck_since() { return std::min(transport_.stuck_since(), stream_.stuck_since()); }

bool Session::waits_for_others() const {
  return !over_ && !broken_ && (exchange_->stalled() || stream_.paused()) &&
         memory_.short_of() == Room::others;
}

void Session::let_through() {
  admission_.let_through();
  memory_.let_through();
  on_retry();
}

// --- the server ---

void Session::on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) {
  if (broken_ || over_) return;
  negotiate_timer_.stop();
  client_guid_ = negotiate.client_guid;
  // Before SMB 2.1 the field means nothing (MS-SMB2 2.2.3).
  const bool claims = negotiate.highest_dialect >= kSmb21;
  UpstreamRequest request{.connection = client_.connection,
                          .client_guid = {negotiate.client_guid.bytes},
                          .claimed = claims,
                          .client = client_.address,
                          .server = client_.server,
                          .negotiate = pdu};
  auto way = exchange_->open_upstream(std::move(request));
  if (!way) return on_broken(way.error().text());
  claimed_ = claims;
  if (claims) resources_.claim(client_.connection, negotiate.client_guid);
  stream_.open(std::move(*way));
}

void Session::on_stream_up(uint32_t process) {
  on_attached(process);
  transport_.record(EventKind::upstream_connected, resources_.config.upstream_port, 1);
  stream_.flush();
  transport_.pump();
}

/// The stream is up, or has gone to another process of the server's.
void Session::on_attached(uint32_t process) {
  if (!stream_.up()) return;  // said while the stream was being closed
  process_ = process;
  shm::probe::session_connected(number(), process);
  resources_.channel_up(client_.connection, process);
  exchange_->attached(process);
}

void Session::introduce() const {
  if (context_.set_up) resources_.session_up(client_.connection);
  if (!claimed_ || broken_ || over_ || !(stream_.connecting() || stream_.up())) return;
  resources_.claim(client_.connection, client_guid_);
  if (stream_.up()) resources_.channel_up(client_.connection, process_);
}

void Session::on_stream_moved() {
  if (broken_ || over_) return;
  requests_.set(translator_.bytes());
  exchange_->resume();
  stream_.flush();
  await_memory();
  transport_.pump();
}

void Session::on_stream_end() {
  const bool unfinished = exchange_->unfinished();
  transport_.record(EventKind::upstream_closed, 0, unfinished ? 1 : 0);
  transport_.disconnect(std::string(exchange_->names().server) + " closed the " + exchange_->names().stream);
}

void Session::on_session_set_up() {
  if (context_.set_up || broken_ || over_) return;
  session_timer_.stop();
  allow_all();
  shm::probe::session_set_up(number());
  resources_.session_up(client_.connection);
}

void Session::on_agreed(const smb2::NegotiateResponse& agreed) {
  const auto advice = size_advice(agreed, sizes_of(resources_.config));
  if (advice) resources_.advise(*advice);
}

void Session::close_stream(bool orderly) {
  // At once: a client that does not close its side keeps the connection for some seconds more.
  if (stream_.connecting() || stream_.up()) resources_.channel_down(client_.connection);
  exchange_->detached();
  stream_.close(orderly);
}

// --- what is shown of it ---

shm::ConnectionRow Session::row() const {
  const Counters counters = transport_.counters();
  const smb_direct::Credits credits = transport_.engine().credits();
  shm::ConnectionRow row{.connection = client_.connection,
                         .phase = phase(),
                         .area = exchange_->area_state(),
                         .direct = exchange_->direct_state(),
                         .peer = shm::host_of(client_.address),
                         .peer_port = shm::port_of(client_.address),
                         .upstream_local_port = stream_.local_port(),
                         .upstream_remote_port = stream_.remote_port(),
                         .guid = {client_guid_.bytes},
                         .since_ms = since_ms_,
                         .receive_credits = credits.granted,
                         .send_credits = credits.send,
                         .requests = counters.smb_requests,
                         .direct_files = exchange_->direct_files(),
                         .direct_reads = counters.direct_reads,
                         .direct_writes = counters.direct_writes,
                         .bytes = {}};
  const auto bytes = [&](shm::Transfer kind) -> uint64_t& { return row.bytes[size_t(kind)]; };
  bytes(shm::Transfer::inline_in) = counters.bytes_inline_received;
  bytes(shm::Transfer::inline_out) = counters.bytes_inline_sent;
  bytes(shm::Transfer::rdma_read) = counters.rdma_read_bytes;
  bytes(shm::Transfer::rdma_write) = counters.rdma_write_bytes;
  bytes(shm::Transfer::area_in) = counters.area_write_bytes;
  bytes(shm::Transfer::area_out) = counters.area_read_bytes;
  bytes(shm::Transfer::direct_in) = counters.direct_write_bytes;
  bytes(shm::Transfer::direct_out) = counters.direct_read_bytes;
  return row;
}

shm::ConnectionPhase Session::phase() const {
  if (over_ || broken_ || stream_.ended()) return shm::ConnectionPhase::closing;
  if (stream_.up()) return shm::ConnectionPhase::serving;
  return stream_.connecting() ? shm::ConnectionPhase::connecting : shm::ConnectionPhase::negotiating;
}

// --- the end ---

void Session::on_broken(std::string why) {
  if (broken_ || over_) return;
  broken_ = std::move(why);
  stop_timers();
  // Deliver nothing more to smbd, and let the client see an orderly close after what it was already sent.
  close_stream(false);
  exchange_->outbox().clear();
  transport_.fail(*broken_);
}

void Session::on_fault(const std::string& why) {
  if (!broken_) broken_ = why;
  const smb_direct::Engine& engine = transport_.engine();
  const bool by_engine = engine.phase() == smb_direct::Phase::closed;
  if (by_engine && engine.fault() == smb_direct::Fault::exceeds_max_fragmented)
    *broken_ += oversize_advice(sizes_of(resources_.config));
  close_stream(!exchange_->unfinished());
}

void Session::on_closed(const std::string& why, bool clean) {
  if (over_) return;
  over_ = true;
  stop_timers();
  const bool whole = !exchange_->unfinished();
  close_stream(whole);
  tell_end(why, clean && !broken_ && whole);
}

void Session::tell_end(const std::string& why, bool clean) {
  const std::string& cause = broken_ ? *broken_ : why;
  shm::probe::session_end(number(), clean, cause.c_str());
  ended_(cause, clean || goodbye_timer_);  // leaving is no failure, whatever it cuts short
}

}  // namespace smbdirect::workers
