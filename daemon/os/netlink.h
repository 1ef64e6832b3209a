// SPDX-License-Identifier: MIT
// A netlink socket that sends the kernel one request at a time and waits for the answer: routing rules,
// routes and links (NETLINK_ROUTE), sockets (NETLINK_SOCK_DIAG). Supervisor process; each object is used by
// one thread and belongs to the network namespace in which that thread opened it. The kernel answers within
// the call that asks, so nothing here blocks but a dump of very many routes. Nothing is left behind when the
// process dies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <linux/netlink.h>
#include <span>
#include <string>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/socket_address.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// One request as it goes to the kernel: header, the family's own structure, attributes.
class NetlinkRequest {
 public:
  template <class Body>
  NetlinkRequest(uint16_t type, uint16_t flags, const Body& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = flags;
    append(&header, sizeof header);
    append(&body, sizeof body);
  }
  template <class Value>
  void put(uint16_t attribute, const Value& value) {
    put_bytes(attribute, std::as_bytes(std::span<const Value, 1>(&value, 1)));
  }
  void put_bytes(uint16_t attribute, std::span<const std::byte> value);

  /// With the length and the sequence number filled in.
  [[nodiscard]] std::span<const std::byte> finish(uint32_t sequence);
  [[nodiscard]] bool is_dump() const;

 private:
  void append(const void* bytes, size_t count);
  std::vector<std::byte> bytes_;
};

/// One message of the answer, without its header.
struct NetlinkMessage {
  uint16_t type = 0;
  std::vector<std::byte> body;
};

/// Calls visit(attribute, value) for each attribute after a message's structure. Stops at one that is cut
/// off.
void for_each_attribute(std::span<const std::byte> attributes,
                        const std::function<void(uint16_t, std::span<const std::byte>)>& visit);

/// The value at the start of these bytes; zero bytes where there are too few.
template <class Value>
[[nodiscard]] Value netlink_value(std::span<const std::byte> bytes) {
  Value value{};
  std::memcpy(&value, bytes.data(), bytes.size() < sizeof value ? bytes.size() : sizeof value);
  return value;
}

/// An address as the kernel tells it, and is told it: 4 bytes of IPv4, or 16.
[[nodiscard]] shm::Host netlink_host(std::span<const std::byte> bytes);
[[nodiscard]] std::span<const std::byte> netlink_bytes(const shm::Host& host);

class Netlink {
 public:
  [[nodiscard]] static shm::Result<Netlink> open(int protocol = NETLINK_ROUTE);

  /// `what` names the request in an error: "add the rule ...". The messages of the answer; none for a change
  /// that was made.
  [[nodiscard]] shm::Result<std::vector<NetlinkMessage>> ask(NetlinkRequest request, const std::string& what);

 private:
  explicit Netlink(shm::UniqueFd fd) : fd_(std::move(fd)) {}
  struct Answer {
    std::vector<NetlinkMessage> messages;
    bool done = false;
    bool interrupted = false;  // the tables changed during the dump
  };
  [[nodiscard]] shm::Result<> receive(Answer& answer, const std::string& what);

  shm::UniqueFd fd_;
  uint32_t sequence_ = 0;
};

}  // namespace smbdirect::daemon
