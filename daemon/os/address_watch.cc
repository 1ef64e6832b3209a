// SPDX-License-Identifier: MIT
#include "daemon/os/address_watch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <span>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "daemon/os/netlink.h"

namespace smbdirect::daemon {
namespace {

constexpr std::array<uint64_t, 3> kLooksMs{1, 400, 1'500};  // after what was told, each after the one before
constexpr int kReadsPerWake = 64;

bool tells_of_an_end(std::span<const std::byte> rest) {
  while (rest.size() >= sizeof(nlmsghdr)) {
    const auto header = netlink_value<nlmsghdr>(rest);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size()) return false;
    if (header.nlmsg_type == RTM_DELADDR) return true;
    rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), rest.size()));
  }
  return false;
}

bool is_on(const char* sysctl_file) {
  const shm::UniqueFd fd(open(sysctl_file, O_RDONLY | O_CLOEXEC));
  char value = '0';
  return fd.valid() && ::read(fd.get(), &value, 1) == 1 && value == '1';
}

}  // namespace

AddressWatch::AddressWatch(shm::Loop& loop, std::function<void()> look)
    : loop_(loop), look_(std::move(look)), timer_(loop, [this] { due(); }) {}

shm::Result<> AddressWatch::start() {
  shm::UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd.valid()) return shm::fail("open a netlink socket for addresses that go", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return shm::fail("listen to the kernel for addresses that go", errno);
  socket_ = {*loop_.get(), std::move(fd), [this](int /*events*/, int /*status*/) { read(); }};
  socket_.want(UV_READABLE);
  return {};
}

void AddressWatch::stop() {
  timer_.stop();
  socket_.reset();
}

void AddressWatch::read() {
  alignas(nlmsghdr) std::array<std::byte, 8192> bytes;
  bool ended = false;
  for (int i = 0; i < kReadsPerWake; ++i) {
    const ssize_t got = recv(socket_.fd(), bytes.data(), bytes.size(), MSG_TRUNC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != ENOBUFS) break;
    // Told in part, or not at all: nobody knows what it was.
    ended = ended || got < 0 || size_t(got) > bytes.size() || tells_of_an_end({bytes.data(), size_t(got)});
  }
  if (!ended) return;
  looks_ = 0;
  timer_.start(kLooksMs[0]);
}

void AddressWatch::due() {
  if (++looks_ < kLooksMs.size()) timer_.start(kLooksMs[looks_]);
  look_();
}

const char* takes_every_address() {
  if (is_on("/proc/sys/net/ipv4/ip_nonlocal_bind")) return "net.ipv4.ip_nonlocal_bind";
  return is_on("/proc/sys/net/ipv6/ip_nonlocal_bind") ? "net.ipv6.ip_nonlocal_bind" : nullptr;
}

}  // namespace smbdirect::daemon
