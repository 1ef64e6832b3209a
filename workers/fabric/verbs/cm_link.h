// SPDX-License-Identifier: MIT
// What an endpoint needs of the RDMA connection manager for its one connection, the same for both sides. Two
// implementations: AcceptLink (a request the supervisor handed over, on the worker's rdma_cm file) and
// ConnectLink (librdmacm, for smbdirect-connect). Owned by its endpoint, on the loop's thread; destroying it
// ends the connection at the peer and delivers nothing more.
//
// The order of calls:
//   accepting    start() -> on_resolved()                    -> accept(QP at RTS) -> on_established()
//   connecting   start() -> on_resolved() -> connect(QP at INIT) -> on_accepted() -> establish(QP at RTS)
//                                                                                 -> on_established()
// iWARP is the same, except that the kernel moves the QP to RTS by itself, in accept() or before
// on_accepted(): qp_attributes() of the states above INIT give mask 0, nothing to do. establish() is called
// all the same, and on_established() is delivered after it.
// Every link ends in one of on_failed(), on_disconnected(), on_device_removed(), or its destruction; after
// the first two, on_device_removed() may still follow. On the accepting side the first messages may complete
// before on_established().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <infiniband/verbs.h>

#include "shm/base/result.h"
#include "workers/fabric/fabric.h"

namespace smbdirect::workers::fabric::verbs {

/// Which device, and which of its ports: by node GUID, as ibv_get_device_guid() gives it.
struct DevicePort {
  uint64_t node_guid{};
  uint8_t port{};
};

/// The limits that the peer named, as seen from our side; 0: it named none.
struct PeerLimits {
  uint8_t initiator_depth{};      // RDMA READs we may have outstanding (our ORD)
  uint8_t responder_resources{};  // RDMA READs the peer wants outstanding to us (our IRD)
};

/// What we answer or ask for.
struct OurLimits {
  uint8_t initiator_depth{};
  uint8_t responder_resources{};
};

class CmLink {
 public:
  /// Called from the loop, never from inside a call to the link. May not destroy the link.
  class Observer {
   public:
    /// device() is valid now, and so are the request's limits (accepting side).
    virtual void on_resolved(const PeerLimits& peer) = 0;
    virtual void on_accepted(const PeerLimits& peer) = 0;
    virtual void on_established() = 0;
    /// The peer (or the network) has ended the connection; work requests are being flushed.
    virtual void on_disconnected() = 0;
    /// It never got established. detail: one line for the log.
    virtual void on_failed(CloseCause cause, std::string detail) = 0;
    /// The device goes away: destroy all that uses it.
    virtual void on_device_removed() = 0;

   protected:
    ~Observer() = default;
  };

  CmLink() = default;
  CmLink(const CmLink&) = delete;
  CmLink& operator=(const CmLink&) = delete;
  virtual ~CmLink() = default;

  virtual void start(Observer& observer) = 0;
  [[nodiscard]] virtual const DevicePort& device() const = 0;

  /// What to set the QP to for this state; mask 0: nothing. Of INIT: from on_resolved(); of RTR and RTS: when
  /// the QP is due there. The rights in qp_access_flags and the depths in max_rd_atomic and
  /// max_dest_rd_atomic are what the peer wishes: the caller puts its own in their place.
  struct QpAttributes {
    ibv_qp_attr attributes{};
    int mask{};
  };
  [[nodiscard]] virtual shm::Result<QpAttributes> qp_attributes(ibv_qp_state state) = 0;

  /// Both carry SMB Direct's iWARP private data where it applies (MS-SMBD 6.1). On iWARP both depths are at
  /// least 1: set-up may need one, and a peer may take 0 for a refusal. This gives no access to any memory.
  [[nodiscard]] virtual shm::Result<> accept(uint32_t qp_num, const OurLimits& limits) = 0;
  [[nodiscard]] virtual shm::Result<> connect(uint32_t qp_num, const OurLimits& limits) = 0;
  /// After on_accepted(), with the QP ready to send.
  [[nodiscard]] virtual shm::Result<> establish() = 0;
  /// Orderly: tells the peer; on_disconnected() follows when it has answered.
  [[nodiscard]] virtual shm::Result<> disconnect() = 0;
  /// Whether the connection manager has given the device up, and is about to report its removal. It reports
  /// to one id after the other, and the first ones to end break connections whose ids have not heard yet.
  [[nodiscard]] virtual bool device_in_doubt() = 0;

  /// "192.0.2.1:445 <- 192.0.2.7:40000", for the log.
  [[nodiscard]] virtual std::string description() const = 0;
};

}  // namespace smbdirect::workers::fabric::verbs
