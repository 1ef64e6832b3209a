// SPDX-License-Identifier: MIT
// Upstream mode "handoff": for each connection a TCP pair with the client's and the server's real addresses,
// one end for the worker, the other for an `smbd -i` of its own, which serves it or passes it to the smbd
// that has the client already. For hosts whose routing must not be changed. Owned by the supervisor; its
// loop's thread (and netns_thread.h's).
//
// An `smbd -i` would serve even when the smbd service is stopped, so one is started only while the listening
// smbd runs, and all are ended when that or this object ends. When the supervisor is killed, they keep
// serving their clients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/upstream/handoff/listening_smbd.h"
#include "daemon/upstream/handoff/netns_thread.h"
#include "daemon/upstream/handoff/samba_settings.h"
#include "daemon/upstream/handoff/spawned_smbd.h"
#include "daemon/upstream/smbd_connector.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class HandoffConnector final : public SmbdConnector {
 public:
  struct Options {
    Samba samba{.testparm = HandoffConfig{}.testparm, .smb_conf = {}};
    std::string smbd = HandoffConfig{}.smbd;
    std::string pid_directory;  // of the listening smbd; empty: ask Samba
    std::string run_directory;  // made where it is missing
    size_t max_spawned = HandoffConfig{}.processes;
    uint32_t deadline_ms = 3'000;    // of a burst the last one waits for the others' fork and exec
    uint32_t stop_grace_ms = 2'000;  // between SIGTERM and SIGKILL
  };

  /// Asks Samba for its settings, and starts the thread; blocks for as long. The error says what to do.
  [[nodiscard]] static shm::Result<std::unique_ptr<HandoffConnector>> set_up(shm::Loop& loop,
                                                                             Options options);
  /// Ends every smbd of ours and waits for it.
  ~HandoffConnector() override;

  /// server: port 445, never 139, at which smbd speaks NetBIOS. The client's port is used where it is free.
  [[nodiscard]] uint64_t open(const sockaddr_storage& client, const sockaddr_storage& server,
                              Done done) override;
  void cancel(uint64_t number) override;
  [[nodiscard]] size_t spawned() const { return spawned_.size(); }

 private:
  struct Pending;

  HandoffConnector(shm::Loop& loop, Options options);
  [[nodiscard]] shm::Result<> check(const Pending& pending);
  void pair_made(uint64_t number, shm::Result<TcpPair> pair);
  void finish(uint64_t number, shm::Result<shm::UniqueFd> result);
  [[nodiscard]] shm::Result<> carry(uint64_t number, shm::UniqueFd stream, const std::string& client);
  void end_all(const char* why);

  shm::Loop& loop_;
  Options options_;
  SmbdCommand command_;
  uint64_t last_number_ = 0;
  std::map<uint64_t, std::unique_ptr<Pending>> pending_;
  std::map<uint64_t, std::unique_ptr<SpawnedSmbd>> spawned_;
  std::vector<uint64_t> ending_;  // those that were told to end, and are killed when they do not
  ListeningSmbd main_;
  shm::Timer kill_timer_;
  std::unique_ptr<NetnsThread> thread_;
};

}  // namespace smbdirect::daemon
