// SPDX-License-Identifier: MIT
// What the host needs for upstream mode "transparent", from start to exit: the rule that sends packets of our
// mark to our routing table, the route there that makes every address local, and the sysctl by which a
// connection that came in with a mark answers with it. So smbd's packets to the client's address, on a
// connection that we opened with that address, stay on this host.
//
// Owned by the supervisor, made before it listens. Removes at its end what it added, and nothing else: an
// administrator's own rule, route or setting stays. When the supervisor is killed everything stays in force
// (the workers' connections need it); the next supervisor recognises it as ours (policy_routing.h) and
// removes it at its own end. Supervisors that run at the same time are counted (user_count_lock.h), and the
// last one removes it. All of this applies to the network namespace of the process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/os/netlink.h"
#include "daemon/upstream/policy_routing.h"
#include "daemon/upstream/transparent/user_count_lock.h"
#include "shm/base/result.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class TransparentRoutes {
 public:
  struct Options {
    TransparentConfig routing;
    std::string lock_directory;
    std::vector<shm::Host> sources{};  // that smbd answers from; empty: any address of this host
  };

  /// Everything in force and tried with a connection over loopback, or an error that names the missing step
  /// and what to do. Blocks for up to a second or two.
  [[nodiscard]] static shm::Result<std::unique_ptr<TransparentRoutes>> set_up(const Options& options);
  ~TransparentRoutes();
  TransparentRoutes(const TransparentRoutes&) = delete;
  TransparentRoutes& operator=(const TransparentRoutes&) = delete;

  /// Why IPv6 clients cannot be served, empty when they can.
  [[nodiscard]] const std::string& no_ipv6() const { return no_ipv6_; }

 private:
  TransparentRoutes(const Options& options, Netlink netlink, UserCountLock lock, uint32_t loopback);

  [[nodiscard]] shm::Result<> prepare();
  [[nodiscard]] shm::Result<> prepare_family(int family);
  [[nodiscard]] shm::Result<> prepare_sysctl();
  [[nodiscard]] shm::Result<RoutingState> look(int family);
  [[nodiscard]] shm::Result<> keep_one_rule(const RoutingRule& wanted, const std::vector<RoutingRule>& ours);
  [[nodiscard]] shm::Result<> change(NetlinkRequest request, const std::string& what);
  void take_back();
  void take_back_family(int family);

  Options options_;
  Netlink netlink_;
  UserCountLock lock_;
  uint32_t loopback_;
  std::string no_ipv6_;
  bool switched_sysctl_ = false;
};

}  // namespace smbdirect::daemon
