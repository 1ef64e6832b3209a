// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/device_table.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <span>
#include <string>

#include "shm/base/log.h"

namespace smbdirect::workers::fabric::verbs {

namespace log = shm::log;

namespace {

/// As `ibv_devices` prints it.
std::string guid_text(uint64_t network_order) {
  const uint64_t value = __builtin_bswap64(network_order);
  char text[24];
  std::snprintf(text, sizeof text, "%04x:%04x:%04x:%04x", static_cast<unsigned>(value >> 48U & 0xFFFF),
                static_cast<unsigned>(value >> 32U & 0xFFFF), static_cast<unsigned>(value >> 16U & 0xFFFF),
                static_cast<unsigned>(value & 0xFFFF));
  return text;
}

/// The library's list of devices; what is open stays valid without it.
class DeviceList {
 public:
  explicit DeviceList(VerbsApi& api) : api_(api), list_(api.get_device_list(&count_)) {}
  ~DeviceList() {
    if (list_ != nullptr) api_.free_device_list(list_);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;
  [[nodiscard]] bool valid() const { return list_ != nullptr; }
  [[nodiscard]] std::span<ibv_device*> devices() const { return {list_, static_cast<size_t>(count_)}; }

 private:
  VerbsApi& api_;
  int count_ = 0;
  ibv_device** list_;
};

}  // namespace

DeviceTable::DeviceTable(uv_loop_t& loop, Arena& arena, VerbsApi& api)
    : loop_(loop), arena_(arena), api_(api) {}

DeviceTable::~DeviceTable() = default;

shm::Result<Device*> DeviceTable::open(uint64_t node_guid, const Options& options) {
  const auto known = std::ranges::find(devices_, node_guid, &Device::node_guid);
  if (known != devices_.end()) {
    if ((*known)->removed())
      return shm::fail(std::string("RDMA device ") + (*known)->name() + " is going away");
    (*known)->set_idle_ms(options.device_idle_ms);
    (*known)->set_busy_poll(options.busy_poll_us, options.busy_poll);
    return known->get();
  }
  const DeviceList list(api_);
  if (!list.valid()) return shm::fail("ibv_get_device_list", errno);
  for (ibv_device* device : list.devices()) {
    if (api_.get_device_guid(device) != node_guid) continue;
    auto opened = Device::open(api_, loop_, arena_, *device, *this);
    if (!opened) return std::unexpected(opened.error());
    devices_.push_back(std::move(*opened));
    Device& made = *devices_.back();
    made.set_idle_ms(options.device_idle_ms);
    made.set_busy_poll(options.busy_poll_us, options.busy_poll);
    made.start_idle();
    log::write(log::Level::info, "RDMA device %s opened", made.name());
    return &made;
  }
  return shm::fail("no RDMA device has the node GUID " + guid_text(node_guid) +
                   " (is its provider installed?)");
}

void DeviceTable::device_done(Device& device) {
  if (device.users() > 0) return;
  const std::string name = device.name();
  std::erase_if(devices_, [&device](const auto& one) { return one.get() == &device; });
  log::write(log::Level::info, "RDMA device %s closed", name.c_str());
}

}  // namespace smbdirect::workers::fabric::verbs
