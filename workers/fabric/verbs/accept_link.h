// SPDX-License-Identifier: MIT
// The accepting side's link: a connection request that the supervisor handed over, once its id is on the
// worker's own rdma_cm file. Owned by its endpoint, on the loop's thread; the file outlives it. Destroying it
// rejects a request that was not accepted and ends a connection that was. When the process dies the kernel
// does the same.
#pragma once

#include <optional>
#include <string>

#include "daemon/contract/rdma_ucm.h"
#include "shm/loop/loop.h"
#include "workers/fabric/verbs/accept_file.h"
#include "workers/fabric/verbs/cm_link.h"
#include "workers/fabric/verbs/private_data.h"

namespace smbdirect::workers::fabric::verbs {

class AcceptLink final : public CmLink, private AcceptFile::Link {
 public:
  /// id: on the file already; the link's from now on. request: what came with it.
  AcceptLink(AcceptFile& file, uint32_t id, const daemon::CmParameters& request);
  ~AcceptLink() override;

  void start(Observer& observer) override;
  [[nodiscard]] const DevicePort& device() const override { return device_; }
  [[nodiscard]] shm::Result<QpAttributes> qp_attributes(ibv_qp_state state) override;
  [[nodiscard]] shm::Result<> accept(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> connect(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> establish() override;
  [[nodiscard]] shm::Result<> disconnect() override;
  [[nodiscard]] bool device_in_doubt() override;
  [[nodiscard]] std::string description() const override { return description_; }

 private:
  enum class State : uint8_t { taken, resolved, accepting, established, over };

  void resolve();
  void on_event(const daemon::CmEvent& event) override;
  void on_file_lost(const std::string& why) override;
  void fail(std::string detail);
  void ended(const char* how);

  AcceptFile& file_;
  const uint32_t id_;
  const uint64_t cookie_;
  const daemon::CmParameters request_;
  shm::Deferred resolve_;
  Observer* observer_ = nullptr;
  State state_ = State::taken;
  DevicePort device_;
  sockaddr_storage local_{};
  bool iwarp_ = false;
  std::optional<IrdOrd> client_limits_;
  std::string description_ = "a request";
};

}  // namespace smbdirect::workers::fabric::verbs
