// SPDX-License-Identifier: MIT
// The pool's life: starts the workers, opens the listeners when one is ready, keeps the slots filled, and
// ends everything in order. One object, one thread, one loop, in the process smbdirectd. It sees no client
// bytes and opens no RDMA device. When it dies, workers keep serving their connections (contract.h).
//
//     starting -> serving -> draining (QUIT) -> stopping (TERM, INT; or a failure) -> run() returns
//
// Two of them share a host while one takes over from the other (daemon/takeover): the new one serves once its
// workers are ready, and the former one drains from then on.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/accept/dispatcher.h"
#include "daemon/accept/leaving_addresses.h"
#include "daemon/accept/listeners.h"
#include "daemon/clients/channel_router.h"
#include "daemon/clients/client_registry.h"
#include "daemon/config/pool_config.h"
#include "daemon/control/actions.h"
#include "daemon/control/control.h"
#include "daemon/launcher.h"
#include "daemon/os/address_watch.h"
#include "daemon/os/pid_file.h"
#include "daemon/os/sd_notify.h"
#include "daemon/prefork/worker_pool.h"
#include "daemon/takeover/former_daemon.h"
#include "daemon/takeover/successor.h"
#include "daemon/upstream/module_requests.h"
#include "daemon/upstream/smbd_requests.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"

namespace smbdirect::daemon {

class Supervisor final : public WorkerSlot::Observer, public Successor::Observer {
 public:
  struct Options {
    std::string worker_program;
    /// Reads the pool file again. The error: its problems, as texts for a person.
    std::function<std::expected<PoolConfig, std::vector<std::string>>()> read_config;
    Launcher launcher;  // is told when the listeners are open
    SdNotify notify;
    uint64_t watchdog_ms;  // how often systemd is told that the loop runs; 0: never
    PidFile pid_file{};
    OwnProgram own{};                        // what upgrade() starts
    std::unique_ptr<FormerDaemon> former{};  // whose place this one takes; null: nobody's
  };
  /// What a supervisor cannot be without: memory for its registry of clients.
  [[nodiscard]] static shm::Result<std::unique_ptr<Supervisor>> create(PoolConfig config, Options options);

  /// Until the pool has ended.
  [[nodiscard]] ExitCode run();

 private:
  enum class Phase : uint8_t { starting, serving, draining, stopping };

  Supervisor(PoolConfig config, Options options, shm::RegistryWriter registry);
  void worker_ready(size_t slot) override;
  void worker_adopted(size_t slot) override;
  void worker_said(size_t slot, Received<FromWorker> said) override;
  void kept(size_t slot, const message::Kept& kept);
  void worker_answers(size_t slot) override;
  void worker_gone(size_t slot, const Obituary& obituary) override;

  [[nodiscard]] std::optional<ExitCode> open();
  [[nodiscard]] ExitCode cannot_start(ExitCode code, const std::string& why);
  [[nodiscard]] std::optional<ExitCode> open_control();
  void serve();
  void announce();
  void stop(ExitCode code, const std::string& why);
  void drain(const std::string& why);
  void dump();
  void watch_parent();
  [[nodiscard]] std::expected<Reloaded, Refused> reload();
  [[nodiscard]] std::expected<Resized, Refused> resize(uint32_t workers);
  /// No slot: the whole pool. held: takes no more connections; else takes them again.
  [[nodiscard]] std::expected<Held, Refused> hold(std::optional<uint32_t> slot, bool held);
  /// Ends connections. whose: a number of `connections`, a ClientGuid or an address.
  [[nodiscard]] std::expected<Kicked, Refused> kick(const std::string& whose);
  /// Connections to a local address are ended, and new ones refused until take() (supervisor_leave.cc).
  using LeaveAnswer = std::function<void(std::expected<Left, Refused>)>;
  void leave(const std::string& address, LeaveAnswer answer);
  [[nodiscard]] std::expected<TakenIn, Refused> take(const std::string& address);
  [[nodiscard]] std::expected<shm::Host, Refused> local_address(const std::string& text) const;
  [[nodiscard]] LeavingAddresses::Elsewhere at_former();
  void watch_addresses();
  /// Local addresses may have gone without a word: connections to them are ended.
  void look_for_addresses();
  /// Of the daemon and of its workers.
  [[nodiscard]] std::expected<shm::log::Level, Refused> set_log_level(const std::string& name);
  void tell_log_level();
  [[nodiscard]] std::optional<Refused> not_serving() const;
  void become(Phase phase);
  [[nodiscard]] std::string_view phase_name() const;
  void approach_configuration();
  void reload_by_signal();
  void reap();
  void finish_if_empty();
  void former_is_overdue();
  void show_status();

  // --- another daemon takes over from this one (supervisor_upgrade.cc) ---
  using UpgradeAnswer = std::function<void(std::expected<Upgraded, Refused>)>;
  void upgrade(UpgradeAnswer answer);
  [[nodiscard]] shm::Result<> successor_waits() override;
  void successor_ready(shm::UniqueFd rdma_file) override;
  void go_if_empty();
  void successor_serves() override;
  void successor_failed(const note::Failed& why) override;
  void successor_died(const std::string& how) override;
  void successor_says_stop() override;
  void successor_says_leave(const note::Leave& leave) override;
  void abandon_upgrade(const std::string& why);

  // --- this one takes over from another (supervisor_takeover.cc) ---
  [[nodiscard]] bool takes_over() const { return former_ && !former_->is_done(); }
  [[nodiscard]] shm::Result<> watch_former();
  void ready_to_take_over();
  void take_over(const note::Go& go);
  void taken_over(note::Done done);

  [[nodiscard]] bool native() const { return config_.upstream_mode == UpstreamMode::native; }

  PoolConfig config_;
  Options options_;
  shm::Loop loop_;  // before all that has handles
  WorkerPool workers_;
  Listeners listeners_;
  Dispatcher dispatcher_;
  LeavingAddresses leaving_;
  ClientRegistry clients_;
  SmbdRequests smbd_requests_;
  ModuleRequests module_requests_;
  ChannelRouter peers_;
  Control control_;
  shm::Timer start_timer_;
  shm::Timer former_timer_;
  shm::Timer watchdog_timer_;
  shm::Watched<shm::UniqueFd> parent_;
  AddressWatch address_watch_;
  std::vector<shm::SignalWatch> signals_;
  std::unique_ptr<FormerDaemon> former_;
  bool former_overdue_ = false;  // it was told to stop, and has not
  std::unique_ptr<Successor> successor_;
  bool goes_ = false;  // the successor waits for GO
  shm::UniqueFd successors_rdma_file_;
  UpgradeAnswer upgrade_answer_;
  Phase phase_ = Phase::starting;
  ExitCode exit_code_ = ExitCode::ok;
};

}  // namespace smbdirect::daemon
