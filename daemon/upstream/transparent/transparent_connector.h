// SPDX-License-Identifier: MIT
// Upstream mode "transparent": connections to the listening smbd with the client's own address, opened for
// workers, which lack the privilege. Needs TransparentRoutes in force. Owned by the supervisor; its loop's
// thread. Connections that were handed out do not need this any more; pending ones end with it, and their
// callbacks are not called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "daemon/upstream/smbd_connector.h"
#include "daemon/upstream/transparent/socket_lookup.h"
#include "daemon/upstream/transparent/source_ports.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class TransparentConnector final : public SmbdConnector {
 public:
  struct Options {
    uint32_t mark = 0;  // TransparentConfig::mark
    PortRange ports;
    uint32_t port_tries = 64;
    uint32_t deadline_ms = 1'000;
    size_t max_pending = 1'024;
    std::string no_ipv6;  // TransparentRoutes::no_ipv6()
  };

  TransparentConnector(shm::Loop& loop, Options options);
  ~TransparentConnector() override;

  /// server must be an address of this host. The client's port is not used: the kernel would mix the
  /// connection up with a real one of the client's.
  [[nodiscard]] uint64_t open(const sockaddr_storage& client, const sockaddr_storage& server,
                              Done done) override;
  void cancel(uint64_t number) override;
  [[nodiscard]] size_t pending() const { return attempts_.size(); }

 private:
  struct Attempt;

  [[nodiscard]] shm::Result<> begin(Attempt& attempt);
  [[nodiscard]] shm::Result<> try_ports(Attempt& attempt);
  [[nodiscard]] shm::Result<> check_families(const Attempt& attempt) const;
  void writable(uint64_t number);
  void finish(uint64_t number, shm::Result<shm::UniqueFd> result);
  [[nodiscard]] std::string what(const Attempt& attempt) const;

  shm::Loop& loop_;
  Options options_;
  std::optional<SocketLookup> lookup_;  // nothing: the kernel has no answers
  uint64_t last_number_ = 0;
  std::map<uint64_t, std::unique_ptr<Attempt>> attempts_;
};

}  // namespace smbdirect::daemon
