// SPDX-License-Identifier: MIT
#include "workers/worker.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shm/base/socket_address.h"
#include "workers/fabric/iwarp/iwarp.h"
#include "workers/native/native_exchange.h"
#include "workers/upstream/connector.h"

namespace smbdirect::workers {

namespace log = shm::log;
using daemon::ExitCode;
namespace message = daemon::message;

namespace {

constexpr uint32_t kSlabBytes = 256 * 1024;
constexpr uint32_t kHeaderSlabBytes = 32 * 1024;
constexpr uint32_t kSmallestReceive = 512;  // a padded negotiate request (MS-SMBD 3.1.5.5)
constexpr uint64_t kEndLineIntervalMs = 10'000;
constexpr uint64_t kAdviceIntervalMs = 3'600'000;
constexpr size_t kEndLineKeys = 4096;
constexpr uint64_t kDescriptorsPerConnection = 5, kOwnDescriptors = 256, kShareForFiles = 4;
constexpr size_t kFileJobs = 1024;  // READs and WRITEs that wait for disks, or for a thread
constexpr size_t kMaxCauses = 256;
constexpr uint32_t kAnswerGraceMs = 3'000;  // the supervisor always answers in time, unless it has died

/// For open files of clients: connections come first, each with its stream, its link and its memory, but a
/// low limit is seldom one that they use up.
uint64_t descriptors_to_spare(uint64_t connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const uint64_t kept = kDescriptorsPerConnection * connections + kOwnDescriptors;
  const uint64_t left = limit.rlim_cur - std::min<uint64_t>(limit.rlim_cur, kept);
  return std::max(left, limit.rlim_cur / kShareForFiles);
}

/// A cause without what varies from one connection to the next.
std::string host_of(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

Worker::Worker(uv_loop_t& loop, shm::UniqueFd control, const shm::WorkerRef& self,
               const daemon::WorkerConfig& config)
    : loop_(loop),
      control_(loop, std::move(control), [this](int events, int status) { on_control(events, status); }),
      self_(self),
      config_(config),
      to_supervisor_(control_.fd(), self.generation,
                     [this](bool waits) { control_.want(UV_READABLE | (waits ? UV_WRITABLE : 0)); }),
      slabs_(arena_, kSlabBytes),
      receive_slabs_(arena_, std::max(kSmallestReceive, config.max_receive_size)),
      header_slabs_(arena_, kHeaderSlabBytes),
      memory_(loop, config.buffered_bytes_per_worker, config.ipv6_prefix_length),
      areas_(config.native_area_bytes_per_worker),
      module_areas_(config.module_area_bytes_per_worker),
      direct_descriptors_(descriptors_to_spare(config.connections)),
      relief_(loop),
      file_threads_(loop, kFileJobs, &relief_),
      busy_poll_(loop, config.direct_busy_poll_us),
      supervisor_connector_(
          loop,
          [this](shm::ConnectionId connection) { to_supervisor_.send(message::WantSmbd{{connection}}); },
          config.upstream_connect_timeout_ms + kAnswerGraceMs),
      connect_([this](const UpstreamRequest& request) { return connect_upstream(request); }),
      resources_{
          loop_,
          config_,
          slabs_,
          receive_slabs_,
          header_slabs_,
          memory_,
          [this](SessionContext& context) { return make_exchange(context); },
          [this](shm::ConnectionId connection, const smb2::Guid& guid) {
            to_supervisor_.send(message::Claim{{connection}, {{guid.bytes}}});
          },
          [this](shm::ConnectionId connection, uint32_t process) {
            to_supervisor_.send(message::ChannelUp{{connection}, {process}});
          },
          [this](shm::ConnectionId connection) { to_supervisor_.send(message::ChannelDown{{connection}}); },
          [this](shm::ConnectionId connection) { to_supervisor_.send(message::SessionUp{{connection}}); },
          [this](const std::string& text) {
            if (advice_lines_.pass(text, uv_now(&loop_))) log::write(log::Level::warning, "%s", text.c_str());
          },
          &latencies_},
      end_lines_(kEndLineIntervalMs, kEndLineKeys),
      advice_lines_(kAdviceIntervalMs, kEndLineKeys),
      destroy_soon_(loop, [this] { destroy_ended(); }),
      deadline_(loop, [this] { begin_stop(true, 0); }),
      housekeeper_(
          loop, {&slabs_, &receive_slabs_, &header_slabs_}, [this] { return sessions_.size(); },
          [this](size_t share) { trim_some(share); }) {
  if (config_.upstream == daemon::WorkerConfig::Upstream::native) {
    peer_finder_.emplace(
        loop_,
        [this](const daemon::FromWorker& said, int descriptor) { to_supervisor_.send(said, descriptor); },
        config_.handshake_timeout_ms);
  }
  if (config_.upstream != daemon::WorkerConfig::Upstream::native) prepare_module_use();
  control_.want(UV_READABLE);
}

shm::Result<> Worker::start_threads() {
  if (auto started = file_closer_.start(); !started) return started;
  return relief_.start();
}

void Worker::prepare_module_use() {
  if (!config_.module_area && !config_.direct) return;
  module_link_.emplace(LinkResources{.loop = loop_,
                                     .ask =
                                         [this](shm::ConnectionId connection, int stream) {
                                           return to_supervisor_.send(message::WantModule{{connection}, {}},
                                                                      stream);
                                         },
                                     .closer = &file_closer_});
  if (config_.module_area) {
    module_area_.emplace(AreaResources{.loop = loop_,
                                       .budget = module_areas_,
                                       .threshold = config_.module_area_threshold,
                                       .bytes = config_.module_area_bytes,
                                       .huge_pages = config_.module_area_huge_pages});
  }
  if (config_.direct)
    direct_.emplace(DirectResources{.descriptors = direct_descriptors_,
                                    .files = config_.direct_files,
                                    .threads = file_threads_,
                                    .closer = file_closer_,
                                    .mapped = mapped_files_,
                                    .loop = loop_,
                                    .busy = busy_poll_});
}

Worker::~Worker() {
  to_supervisor_.close();  // sessions that end now tell nobody
}

void Worker::show_scoreboard() {
  auto writer = shm::ScoreboardWriter::create(
      {.slot = self_.slot, .generation = self_.generation, .pid = static_cast<uint32_t>(::getpid())});
  if (!writer) {
    log::write(log::Level::warning,
               "cannot make a scoreboard, so smbdirectctl will not show this worker's connections: %s",
               writer.error().text().c_str());
    return;
  }
  scoreboard_.emplace(loop_, std::move(*writer), [this](ScoreboardPublisher::View& view) { look(view); });
  to_supervisor_.send(message::Scoreboard{}, scoreboard_->fd());
}

void Worker::look(ScoreboardPublisher::View& view) const {
  view.summary.phase = draining_ ? shm::WorkerPhase::draining : shm::WorkerPhase::ready;
  Counters all = totals_;
  for (const auto& [connection, session] : sessions_) {
    all.add(session->counters());
    view.connections.push_back(session->row());
    ++view.summary.connections[size_t(view.connections.back().phase)];
  }
  all.direct_idle_us = busy_poll_.idled() / 1000;
  all.direct_held_up = file_threads_.held_up();
  view.summary.counters = all.values();
  view.summary.latencies = latencies_;
}

void Worker::report(uint64_t sequence, const shm::UniqueFd& into) {
  std::string text = R"({"connections":[)";
  for (const auto& [connection, session] : sessions_) {
    if (text.back() != '[') text += ',';
    text += R"({"number":)" + shm::connection_text(connection) + R"(,"events":)" +
            session->events().json(uv_now(&loop_)) + "}";
  }
  text += "]}";
  // If the write is short or fails, the supervisor finds no JSON there and logs that.
  if (!into.valid() || ::write(into.get(), text.data(), text.size()) < 0) {
    log::write(log::Level::warning, "cannot write the report of connection events for smbdirectctl: %s",
               std::strerror(errno));
  }
  to_supervisor_.send(message::Reported{{sequence}});
}

void Worker::announce_ready() {
  to_supervisor_.send(message::Ready{});
  log::write(log::Level::info, "ready (pid %d, generation %u)", static_cast<int>(::getpid()),
             self_.generation);
}

ExitCode Worker::run() {
  relief_.run();
  return exit_code_;
}

void Worker::on_offer(const message::Offer& offer) {
  const bool verbs = offer.fabric == daemon::Fabric::verbs;
  bool take = !draining_ && sessions_.size() < config_.connections && !sessions_.contains(offer.connection);
  if (take && verbs) take = take_request(offer);
  if (!take) return (void)to_supervisor_.send(message::Refuse{{offer.connection}});
  to_supervisor_.send(message::Take{{offer.connection}});
  if (verbs) accept_request(offer);
}

fabric::verbs::Request Worker::request_of(const message::Offer& offer) {
  fabric::verbs::Request request{.id = offer.cm.id, .handover_fd = daemon::kHandoverFd, .parameters = {}};
  request.parameters.responder_resources = offer.cm.responder_resources;
  request.parameters.initiator_depth = offer.cm.initiator_depth;
  // Private data longer than what is kept of it is not SMB Direct's; its length shows that.
  request.parameters.private_data_length = offer.cm.private_data_length;
  std::ranges::copy(offer.cm.private_data, request.parameters.private_data.begin());
  return request;
}

shm::Result<> Worker::open_verbs() {
  auto opened = fabric::verbs::Fabric::open(loop_, arena_);
  if (!opened) return std::unexpected(opened.error());
  verbs_ = std::move(*opened);
  return {};
}

bool Worker::take_request(const message::Offer& offer) {
  if (verbs_ == nullptr) return false;
  const auto taken = verbs_->take(request_of(offer));
  if (!taken) {
    log::write(log::Level::info, "cannot take over the connection request of %s: %s",
               shm::address_text(offer.peer).c_str(), taken.error().text().c_str());
  }
  return taken.has_value();
}

void Worker::accept_request(const message::Offer& offer) {
  const fabric::verbs::Options options{
      .max_outbound_reads = static_cast<uint8_t>(config_.verbs_max_outbound_reads),
      .max_receive_work = uint32_t{config_.receive_credit_max} + 1,
      .handshake_timeout_ms = config_.handshake_timeout_ms,
      .busy_poll_us = config_.verbs_busy_poll_us,
      .busy_poll = &busy_poll_,
      .device_idle_ms = config_.verbs_device_idle_ms};
  begin_session(offer.connection, offer.peer, offer.local, [&](fabric::Handler& handler) {
    return verbs_->accept(request_of(offer), options, handler);
  });
}

void Worker::on_grant(shm::ConnectionId connection, shm::UniqueFd socket) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  // It found no room in our table, is one that we have, or is gone already.
  if (!socket.valid() || sessions_.contains(connection) ||
      ::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
    return (void)to_supervisor_.send(message::Closed{{connection}});
  }
  const fabric::iwarp::Options options{
      .want_crc = config_.iwarp_crc,
      .max_inbound_reads = config_.iwarp_max_inbound_reads,
      .max_outbound_reads = config_.iwarp_max_outbound_reads,
      .handshake_timeout_ms = config_.handshake_timeout_ms,
      .peer_timeout_ms = config_.idle_timeout_ms + config_.keepalive_timeout_ms};
  sockaddr_storage server{};
  length = sizeof server;
  (void)::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&server), &length);
  begin_session(connection, peer, server, [&](fabric::Handler& handler) {
    return fabric::iwarp::accept(loop_, std::move(socket), options, handler);
  });
}

std::unique_ptr<Exchange> Worker::make_exchange(SessionContext& context) {
  if (peer_finder_) return std::make_unique<NativeExchange>(context, config_, areas_, *peer_finder_);
  return std::make_unique<SmbdExchange>(context, connect_,
                                        ModuleUse{.link = module_link_ ? &*module_link_ : nullptr,
                                                  .area = module_area_ ? &*module_area_ : nullptr,
                                                  .direct = direct_ ? &*direct_ : nullptr});
}

std::unique_ptr<Upstream> Worker::connect_upstream(const UpstreamRequest& request) {
  if (config_.upstream == daemon::WorkerConfig::Upstream::ask)
    return supervisor_connector_.request(request.connection);
  return std::make_unique<Connector>(loop_, config_.upstream_address, config_.upstream_port,
                                     config_.upstream_connect_timeout_ms);
}

/// Its session may have ended meanwhile.
void Worker::on_module(shm::ConnectionId connection, shm::Result<shm::UniqueFd> link) {
  const auto at = sessions_.find(connection);
  if (at != sessions_.end()) at->second->module_answered(std::move(link));
}

void Worker::on_smbd(shm::ConnectionId connection, shm::Result<shm::UniqueFd> stream) {
  if (peer_finder_) return peer_finder_->refused(connection, stream ? 0 : stream.error().system_errno);
  supervisor_connector_.answered(connection, std::move(stream));
}

void Worker::begin_session(shm::ConnectionId connection, const sockaddr_storage& client,
                           const sockaddr_storage& server, const Transport::MakeEndpoint& make_endpoint) {
  auto session = std::make_unique<Session>(
      resources_, Session::Client{connection, client, server, shm::address_text(client)},
      [this, connection](const std::string& why, bool clean) { on_session_ended(connection, why, clean); });
  Session& started = *session;
  sessions_.emplace(connection, std::move(session));
  if (!started.start(make_endpoint)) on_session_ended(connection, "out of memory", false);
}

void Worker::on_session_ended(shm::ConnectionId connection, const std::string& why, bool clean) {
  const auto at = sessions_.find(connection);
  if (at == sessions_.end()) return;
  report_end(*at->second, why, clean);
  dead_.push_back(std::move(at->second));
  sessions_.erase(at);
  to_supervisor_.send(message::Closed{{connection}});
  destroy_soon_.trigger();
}

void Worker::on_end(const message::End& end) {
  const auto at = sessions_.find(end.connection);
  if (at == sessions_.end()) return;  // the message crossed one of ours
  const std::string why(daemon::end_reason_text(end.reason));
  switch (end.reason) {
    case daemon::EndReason::asked_for:
      return at->second->stop(why);
    case daemon::EndReason::address_leaves:
      return at->second->leave(why);
    case daemon::EndReason::place_needed:
      if (!at->second->has_session()) at->second->end(why);
  }
}

void Worker::report_end(const Session& session, const std::string& why, bool clean) {
  const Counters counters = session.counters();
  totals_.add(counters);
  log::write(log::Level::info, "connection closed peer=%s cause=\"%s\" %s", session.peer().c_str(),
             why.c_str(), counters.text().c_str());
  if (clean) return;
  if (ends_.size() < kMaxCauses || ends_.contains(why)) ++ends_[why];
  const auto held_back = end_lines_.pass(host_of(session.peer()) + why, uv_now(&loop_));
  if (!held_back) return;
  log::write(log::Level::warning, "connection from %s ended: %s (%llu such lines held back)\n%s",
             session.peer().c_str(), why.c_str(), static_cast<unsigned long long>(*held_back),
             const_cast<Session&>(session).events().text(uv_now(&loop_)).c_str());
}

void Worker::destroy_ended() {
  dead_.clear();
  finish_if_empty();
}

void Worker::trim_some(size_t share) {
  for (size_t n = std::min(share, sessions_.size()); n > 0; --n) {
    auto next = sessions_.upper_bound(trimmed_);
    if (next == sessions_.end()) next = sessions_.begin();
    next->second->trim();
    trimmed_ = next->first;
  }
}

void Worker::begin_stop(bool at_once, uint32_t deadline_ms) {
  draining_ = true;
  if (at_once && deadline_ms == 0) {  // a deadline has passed
    log::write(log::Level::warning, "the deadline has passed with %zu connections open; closing them now",
               sessions_.size());
    sessions_.clear();
    relief_.stop();
    return;
  }
  if (at_once) {
    for (auto& [connection, session] : sessions_) session->stop("the server is stopping");
  }
  if (deadline_ms > 0) deadline_.start(deadline_ms);
  finish_if_empty();
}

void Worker::finish_if_empty() {
  if (draining_ && sessions_.empty() && dead_.empty()) relief_.stop();
}

void Worker::dump() {
  Counters all = totals_;
  for (auto& [connection, session] : sessions_) {
    const Counters counters = session->counters();
    all.add(counters);
    const smb_direct::Credits credits = session->engine().credits();
    log::write(log::Level::notice, "connection peer=%s send_credits=%u receives_posted=%u granted=%u %s\n%s",
               session->peer().c_str(), credits.send, credits.posted, credits.granted,
               counters.text().c_str(), session->events().text(uv_now(&loop_)).c_str());
  }
  log::write(log::Level::notice, "totals open=%zu buffered_bytes=%llu %s", sessions_.size(),
             static_cast<unsigned long long>(memory_.held().used()), all.text().c_str());
  for (const auto& [cause, count] : ends_) {
    log::write(log::Level::notice, "ended cause=\"%s\" count=%llu", cause.c_str(),
               static_cast<unsigned long long>(count));
  }
}

}  // namespace smbdirect::workers
