// SPDX-License-Identifier: MIT
// The channels one process serves, in one poll loop: a child's, or those of a process that adopts them. Owned
// by that process alone. When it dies, the worker sees its channels' sockets close and ends the clients'
// connections.
#pragma once

#include <memory>
#include <poll.h>
#include <span>
#include <vector>

#include "handles.h"
#include "options.h"
#include "relay.h"

namespace smbdirect::tests::peer {

class Serving {
 public:
  explicit Serving(const Options& options) : options_(options) {}

  /// Serves a channel from now on. What fails is the end of that channel only, and says so on stderr.
  void add(ChannelPtr channel);
  [[nodiscard]] bool empty() const { return relays_.empty(); }
  /// Waits until there is something to do, and does it. `others` are waited for too; their revents are the
  /// caller's.
  void turn(std::span<pollfd> others);

 private:
  void end(const Totals& totals, const std::string& cause) const;

  const Options& options_;
  std::vector<std::unique_ptr<Relay>> relays_;
  std::vector<ChannelPtr> arrived_;  // with an event, in the middle of a turn
  std::vector<pollfd> polled_;
};

}  // namespace smbdirect::tests::peer
