// SPDX-License-Identifier: MIT
// The RDMA devices that this process has open: opened at first use by node GUID, closed when they have been
// idle for a while or are removed. Owned by the fabric object, outlives its endpoints; the loop's thread
// only. Everything ends with the process.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <uv.h>

#include "shm/base/result.h"
#include "workers/fabric/verbs/device.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/fabric/verbs/verbs_api.h"
#include "workers/memory/arena.h"

namespace smbdirect::workers::fabric::verbs {

class DeviceTable final : private Device::Owner {
 public:
  /// All three outlive the table.
  DeviceTable(uv_loop_t& loop, Arena& arena, VerbsApi& api);
  ~DeviceTable();
  DeviceTable(const DeviceTable&) = delete;
  DeviceTable& operator=(const DeviceTable&) = delete;

  /// The device with this node GUID, for taking a seat on it at once. Fails when there is none, when it
  /// cannot be opened, when it cannot do what SMB Direct needs, or while it is going away.
  [[nodiscard]] shm::Result<Device*> open(uint64_t node_guid, const Options& options);

  [[nodiscard]] size_t devices_open() const { return devices_.size(); }
  [[nodiscard]] const std::vector<std::unique_ptr<Device>>& devices() const { return devices_; }

 private:
  void device_done(Device& device) override;

  uv_loop_t& loop_;
  Arena& arena_;
  VerbsApi& api_;
  std::vector<std::unique_ptr<Device>> devices_;
};

}  // namespace smbdirect::workers::fabric::verbs
