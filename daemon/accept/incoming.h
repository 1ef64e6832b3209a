// SPDX-License-Identifier: MIT
// A connection that has arrived and has no worker yet, over either fabric: how it is offered to a worker,
// taken back and handed over (contract.h). Owned by its offer, in the supervisor; destroying it closes the
// connection, unless it has been handed over. When the supervisor dies, those that have not been handed over
// close.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "daemon/contract/messages.h"
#include "shm/base/result.h"
#include "shm/base/sockets.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class RdmaCm;

/// Where a client is when its offer is over.
enum class TakenBack : uint8_t {
  ours,     // here: it can be offered again
  workers,  // with the worker already, whatever that said
  gone,     // nowhere: its device is gone
};

class Incoming {
 public:
  Incoming() = default;
  Incoming(const Incoming&) = delete;
  Incoming& operator=(const Incoming&) = delete;
  virtual ~Incoming() = default;

  /// Before the OFFER: makes it takeable for a worker, and says so in the message. handover: the worker's,
  /// null in a pool without verbs; open until the offer was taken back.
  [[nodiscard]] virtual shm::Result<> prepare(RdmaCm* handover, message::Offer& offer) = 0;
  /// What a TAKE is answered with: the descriptor of its GRANT, or nothing.
  [[nodiscard]] virtual std::optional<int> grant() const { return std::nullopt; }
  /// It is the worker's now.
  virtual void handed_over() = 0;
  [[nodiscard]] virtual TakenBack take_back() = 0;
  /// Destroying it from now on refuses the connection, for the client to see at once.
  virtual void turn_away_at_once() {}
};

/// An accepted TCP connection (iwarp). It stays here until it is granted.
class IncomingSocket final : public Incoming {
 public:
  explicit IncomingSocket(shm::UniqueFd connection) : connection_(std::move(connection)) {}

  [[nodiscard]] shm::Result<> prepare(RdmaCm* /*handover*/, message::Offer& offer) override {
    offer.fabric = Fabric::iwarp;
    return {};
  }
  [[nodiscard]] std::optional<int> grant() const override { return connection_.get(); }
  void handed_over() override { connection_.reset(); }  // the worker has its own
  [[nodiscard]] TakenBack take_back() override { return TakenBack::ours; }
  void turn_away_at_once() override { shm::reset_on_close(connection_.get()); }

 private:
  shm::UniqueFd connection_;
};

}  // namespace smbdirect::daemon
