// SPDX-License-Identifier: MIT
// smbdirect-worker: one process, one loop, which one thread at a time runs. Takes the connections the
// supervisor offers, runs their sessions, answers pings, ends when told or, after the supervisor is gone,
// when its last connection ends, unless another supervisor adopts it. When it dies its connections are lost
// and nothing else is affected.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <uv.h>

#include "daemon/contract/contract.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/loop/busy_poll.h"
#include "shm/loop/loop.h"
#include "shm/loop/relief.h"
#include "shm/loop/watched.h"
#include "shm/registry_layout.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/memory/file_closer.h"
#include "workers/memory/housekeeper.h"
#include "workers/memory/slab.h"
#include "workers/native/peer_finder.h"
#include "workers/process/control_sender.h"
#include "workers/session/session.h"
#include "workers/smbd/file_threads.h"
#include "workers/smbd/smbd_exchange.h"
#include "workers/stats/counters.h"
#include "workers/stats/scoreboard_publisher.h"
#include "workers/upstream/supervisor_connector.h"

namespace smbdirect::workers {

class Worker {
 public:
  Worker(uv_loop_t& loop, shm::UniqueFd control, const shm::WorkerRef& self,
         const daemon::WorkerConfig& config);
  ~Worker();

  /// Opens the RDMA connection manager; after the last change of credentials.
  [[nodiscard]] shm::Result<> open_verbs();
  /// Starts the thread that runs the loop while a system call holds up the other (shm/loop/relief.h), and the
  /// one that closes files; before the worker is confined.
  [[nodiscard]] shm::Result<> start_threads();
  /// Publishes the worker's state (shm/scoreboard.h). If that fails the worker serves nevertheless.
  void show_scoreboard();
  /// Tells the supervisor that connections may come.
  void announce_ready();
  /// Runs until told to end; the exit code.
  [[nodiscard]] daemon::ExitCode run();

 private:
  void on_control(int events, int status);
  void lost_supervisor(const shm::Error& why);
  void on_found();
  void on_adopt(const shm::WorkerRef& self);
  void on_message(daemon::Received<daemon::FromSupervisor> received);
  void on_offer(const daemon::message::Offer& offer);
  void on_grant(shm::ConnectionId connection, shm::UniqueFd socket);
  void on_end(const daemon::message::End& end);
  void prepare_module_use();
  void on_module(shm::ConnectionId connection, shm::Result<shm::UniqueFd> link);
  void on_smbd(shm::ConnectionId connection, shm::Result<shm::UniqueFd> stream);
  [[nodiscard]] std::unique_ptr<Exchange> make_exchange(SessionContext& context);
  [[nodiscard]] std::unique_ptr<Upstream> connect_upstream(const UpstreamRequest& request);
  [[nodiscard]] static fabric::verbs::Request request_of(const daemon::message::Offer& offer);
  [[nodiscard]] bool take_request(const daemon::message::Offer& offer);
  void accept_request(const daemon::message::Offer& offer);
  void begin_session(shm::ConnectionId connection, const sockaddr_storage& client,
                     const sockaddr_storage& server, const Transport::MakeEndpoint& make_endpoint);
  void on_session_ended(shm::ConnectionId connection, const std::string& why, bool clean);
  void report_end(const Session& session, const std::string& why, bool clean);
  void destroy_ended();
  void trim_some(size_t share);
  void begin_stop(bool at_once, uint32_t deadline_ms);
  void finish_if_empty();
  void dump();
  void look(ScoreboardPublisher::View& view) const;
  void report(uint64_t sequence, const shm::UniqueFd& into);

  uv_loop_t& loop_;
  shm::Watched<shm::UniqueFd> control_;  // outlives all that send messages on it
  shm::UniqueFd adoption_socket_;
  shm::Watched<shm::UniqueFd> adoption_;  // the same socket, while there is no supervisor
  shm::WorkerRef self_;
  daemon::WorkerConfig config_;
  ControlSender to_supervisor_;
  Arena arena_;
  SlabPool slabs_;
  SlabPool receive_slabs_;
  SlabPool header_slabs_;
  WorkerMemory memory_;
  Budget areas_;
  Budget module_areas_;
  Budget direct_descriptors_;
  Budget mapped_files_{uint64_t{16} << 30};
  FileCloser file_closer_;  // dies before the budgets, after all that has files
  shm::LoopRelief relief_;
  FileThreads file_threads_;  // dies before the slabs and the descriptors that its jobs have
  shm::BusyPoll busy_poll_;   // outlives verbs_ and the sessions, which look at it
  std::optional<LinkResources> module_link_;
  std::optional<AreaResources> module_area_;
  std::optional<DirectResources> direct_;
  SupervisorConnector supervisor_connector_;  // outlives the sessions' attempts, as what follows
  std::optional<PeerFinder> peer_finder_;
  OpenUpstream connect_;  // to an smbd
  shm::Latencies latencies_{};
  SessionResources resources_;
  std::unique_ptr<fabric::verbs::Fabric> verbs_;  // outlives the sessions' endpoints
  std::map<shm::ConnectionId, std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<Session>> dead_;  // destroyed by destroy_ended(), outside their callbacks
  Counters totals_;                             // of sessions that have ended
  std::map<std::string, uint64_t> ends_;        // abnormal ends, by cause
  shm::log::RateLimit end_lines_;
  shm::log::RateLimit advice_lines_;
  shm::Deferred destroy_soon_;
  shm::Timer deadline_;
  Housekeeper housekeeper_;
  shm::ConnectionId trimmed_{};  // the connection of the session that was trimmed last
  std::optional<ScoreboardPublisher> scoreboard_;
  bool draining_ = false;
  daemon::ExitCode exit_code_ = daemon::ExitCode::ok;
};

}  // namespace smbdirect::workers
