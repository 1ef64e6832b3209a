// SPDX-License-Identifier: MIT
// A connection request of the RDMA connection manager (verbs): an id that is on the listeners' file, or,
// while it is offered, on a worker's hand-over file. The kernel decides which process has it: the one that
// moved it last. Owned by its offer, in the supervisor, which does not outlive either file; destroying it
// rejects the request.
#pragma once

#include "daemon/accept/incoming.h"
#include "daemon/contract/rdma_ucm.h"

namespace smbdirect::daemon {

class IncomingRdma final : public Incoming {
 public:
  /// listeners: the file the id is on; outlives this.
  IncomingRdma(RdmaCm& listeners, const CmEvent& request);
  ~IncomingRdma() override;

  [[nodiscard]] shm::Result<> prepare(RdmaCm* handover, message::Offer& offer) override;
  void handed_over() override { where_ = TakenBack::workers; }  // it took the request before it said so
  [[nodiscard]] TakenBack take_back() override;

 private:
  RdmaCm& listeners_;
  CmRequest request_;
  RdmaCm* handover_ = nullptr;  // where it is offered; null: it is not
  TakenBack where_ = TakenBack::ours;
};

}  // namespace smbdirect::daemon
