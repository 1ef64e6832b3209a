// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/rdma_ports.h"

#include <algorithm>

#include "daemon/ctl/doctor/smb_conf.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr const char* kDevices = "/sys/class/infiniband";

/// What follows the number in "4: ACTIVE".
std::string name_in(const shm::Result<std::string>& text) {
  if (!text) return "";
  const size_t colon = text->find(':');
  return std::string(trimmed(std::string_view(*text).substr(colon == text->npos ? 0 : colon + 1)));
}

bool is_set(const shm::Host& gid) {
  return std::ranges::any_of(gid, [](uint8_t byte) { return byte != 0; });
}

void add_interface(RdmaPort& port, const std::string& name) {
  if (!name.empty() && std::ranges::find(port.interfaces, name) == port.interfaces.end())
    port.interfaces.push_back(name);
}

RdmaPort look(Host& host, const std::string& device, const std::string& number) {
  const std::string at = std::string(kDevices) + "/" + device;
  const std::string below = at + "/ports/" + number;
  RdmaPort port{.device = device, .port = number, .state = name_in(host.read(below + "/state"))};
  port.iwarp = name_in(host.read(at + "/node_type")) == "RNIC";
  port.ethernet = name_in(host.read(below + "/link_layer")) != "InfiniBand";
  port.software = !host.kind(at + "/device");
  for (const std::string& index : host.list(below + "/gids")) {
    const auto text = host.read(below + "/gids/" + index);
    const auto gid = text ? shm::address_from_text(trimmed(*text), 0) : std::nullopt;
    if (!gid || !is_set(shm::host_of(*gid))) continue;
    port.gids.push_back(shm::host_of(*gid));
    // Not set entries are an error to read.
    add_interface(port, name_in(host.read(below + "/gid_attrs/ndevs/" + index)));
  }
  for (const std::string& interface : host.list(at + "/device/net")) add_interface(port, interface);
  add_interface(port, name_in(host.read(at + "/parent")));  // of rxe
  return port;
}

}  // namespace

bool RdmaPort::has_gid_of(const shm::Host& host) const { return std::ranges::find(gids, host) != gids.end(); }

bool RdmaPort::serves(const Host::Address& address) const {
  if (has_gid_of(address.host)) return true;
  if (std::ranges::find(interfaces, address.interface) != interfaces.end()) return true;
  // siw does not tell its interface; its name is mostly made of it.
  return siw() && interfaces.empty();
}

std::vector<RdmaPort> rdma_ports(Host& host) {
  std::vector<RdmaPort> ports;
  for (const std::string& device : host.list(kDevices)) {
    for (const std::string& number : host.list(std::string(kDevices) + "/" + device + "/ports"))
      ports.push_back(look(host, device, number));
  }
  return ports;
}

}  // namespace smbdirect::daemon::doctor
