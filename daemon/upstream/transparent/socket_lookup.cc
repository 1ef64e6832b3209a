// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/socket_lookup.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>

#include "shm/base/socket_address.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {
namespace {

/// An address as inet_diag has it: IPv4 is the first of four words.
void put_host(const sockaddr_storage& address, void* words) {
  const shm::Host host = shm::host_of(address);
  if (address.ss_family == AF_INET) {
    std::memcpy(words, &host[12], 4);
  } else {
    std::memcpy(words, host.data(), host.size());
  }
}

/// A listener of our own that the kernel must find, or it finds none.
shm::Result<> try_out(SocketLookup& lookup) {
  const std::string what = "look up a TCP socket";
  sockaddr_storage here = shm::address_from_text("127.0.0.1", 0).value_or(sockaddr_storage{});
  const sockaddr_storage nowhere = shm::address_from_text("127.0.0.1", 1).value_or(sockaddr_storage{});
  socklen_t length = shm::length_of(here);
  auto* plain = reinterpret_cast<sockaddr*>(&here);
  const shm::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener.valid() || bind(listener.get(), plain, length) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), plain, &length) != 0) {
    return shm::fail(what + ": listen on 127.0.0.1", errno);
  }
  const auto reached = lookup.look(nowhere, here);
  if (!reached) return std::unexpected(reached.error());
  if (*reached != SocketLookup::Reached::listener) {
    return shm::fail(what + ": the kernel does not answer (is the module tcp_diag missing?)");
  }
  return {};
}

}  // namespace

shm::Result<SocketLookup> SocketLookup::open() {
  auto netlink = Netlink::open(NETLINK_SOCK_DIAG);
  if (!netlink) return std::unexpected(netlink.error());
  SocketLookup lookup(std::move(*netlink));
  if (const auto tried = try_out(lookup); !tried) return std::unexpected(tried.error());
  return lookup;
}

shm::Result<SocketLookup::Reached> SocketLookup::look(const sockaddr_storage& from,
                                                      const sockaddr_storage& to) {
  inet_diag_req_v2 question{};
  question.sdiag_family = uint8_t(to.ss_family);
  question.sdiag_protocol = IPPROTO_TCP;
  question.idiag_states = ~0u;
  question.id.idiag_sport = htons(shm::port_of(to));
  question.id.idiag_dport = htons(shm::port_of(from));
  put_host(to, question.id.idiag_src);
  put_host(from, question.id.idiag_dst);
  question.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  question.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  const auto answer = netlink_.ask(NetlinkRequest(SOCK_DIAG_BY_FAMILY, 0, question),
                                   "look up the socket at " + shm::address_text(to));
  if (!answer && answer.error().system_errno == ENOENT) return Reached::nobody;
  if (!answer) return std::unexpected(answer.error());
  for (const auto& message : *answer) {
    if (message.type != SOCK_DIAG_BY_FAMILY) continue;
    return netlink_value<inet_diag_msg>(message.body).idiag_state == TCP_LISTEN ? Reached::listener
                                                                                : Reached::connection;
  }
  return Reached::nobody;
}

}  // namespace smbdirect::daemon
