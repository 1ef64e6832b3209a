// SPDX-License-Identifier: MIT
#include "daemon/os/local_addresses.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <span>
#include <sys/socket.h>

namespace smbdirect::daemon {

shm::Result<std::vector<shm::Host>> local_addresses(Netlink& netlink, int family) {
  ifaddrmsg header{};
  header.ifa_family = uint8_t(family);
  const auto messages =
      netlink.ask(NetlinkRequest(RTM_GETADDR, NLM_F_DUMP, header), "read this host's addresses");
  if (!messages) return std::unexpected(messages.error());
  std::vector<shm::Host> hosts;
  for (const NetlinkMessage& message : *messages) {
    if (message.type != RTM_NEWADDR || message.body.size() < sizeof header) continue;
    const auto facts = netlink_value<ifaddrmsg>(message.body);
    if (facts.ifa_family != family || facts.ifa_scope >= RT_SCOPE_LINK) continue;
    shm::Host host{};
    bool found = false;
    for_each_attribute(std::span(message.body).subspan(sizeof header), [&](uint16_t type, auto value) {
      // IFA_ADDRESS is the other end's of a point-to-point link, where there is IFA_LOCAL.
      if (type != IFA_LOCAL && (type != IFA_ADDRESS || found)) return;
      found = true;
      host = netlink_host(value);
    });
    if (found) hosts.push_back(host);
  }
  return hosts;
}

}  // namespace smbdirect::daemon
