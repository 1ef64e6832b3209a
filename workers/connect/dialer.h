// SPDX-License-Identifier: MIT
// How connections to the server are made, over the chosen fabric: the only part of smbdirect-connect that
// knows there are several. Owned by the program (or the probe), outlives its transports; the arena outlives
// it. One loop, one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <sys/socket.h>
#include <vector>

#include <uv.h>

#include "shm/base/result.h"
#include "workers/fabric/iwarp/iwarp.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/memory/arena.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

enum class FabricKind : uint8_t { iwarp, verbs };

struct FabricRow {
  FabricKind kind;
  const char* name;     // as the command line and the pool file have it
  const char* meaning;  // for a person
  uint16_t port;        // SMB Direct's there
};
[[nodiscard]] const FabricRow& fabric_row(FabricKind kind);
[[nodiscard]] std::optional<FabricKind> fabric_from_name(std::string_view name);

/// Where to connect to, and how.
struct Target {
  FabricKind fabric = FabricKind::iwarp;
  std::vector<sockaddr_storage> to;  // the server's addresses, in the order to try them
  std::optional<sockaddr_storage> source;
  fabric::iwarp::Options iwarp;
  // The server reads our memory as many times at once as Linux's client lets it, and we never read its.
  fabric::verbs::Options verbs{.max_inbound_reads = 32, .max_outbound_reads = 1};
};

class Dialer {
 public:
  Dialer(uv_loop_t& loop, Arena& arena, const Target& target) : loop_(loop), arena_(arena), target_(target) {}

  /// The server's addresses in the order to try them: the one that worked last first.
  [[nodiscard]] std::vector<sockaddr_storage> addresses() const;
  void worked(const sockaddr_storage& address);

  /// Starts the transport on a new connection. An error means that nothing was begun: the owner's callbacks
  /// are not called.
  [[nodiscard]] shm::Result<> start(Transport& transport, const sockaddr_storage& to);

 private:
  [[nodiscard]] shm::Result<> prepare();
  [[nodiscard]] shm::Result<std::unique_ptr<fabric::Endpoint>> dial(const sockaddr_storage& to,
                                                                    fabric::Handler& handler);

  uv_loop_t& loop_;
  Arena& arena_;
  Target target_;
  size_t first_ = 0;                                 // to be tried, in target_.to
  std::unique_ptr<fabric::verbs::Connector> verbs_;  // once it is needed
};

}  // namespace smbdirect::workers::connect
