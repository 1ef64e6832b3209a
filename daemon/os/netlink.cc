// SPDX-License-Identifier: MIT
#include "daemon/os/netlink.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace smbdirect::daemon {
namespace {

constexpr size_t kReceiveBytes = 64 * 1024;  // the kernel makes dump messages of at most 32 KiB
constexpr int kDumpTries = 5;
constexpr timeval kPatience{.tv_sec = 2, .tv_usec = 0};

/// The kernel's own words about a refusal, when it has any.
std::string kernel_words(std::span<const std::byte> error_body) {
  std::string words;
  if (error_body.size() <= sizeof(nlmsgerr)) return words;
  for_each_attribute(error_body.subspan(sizeof(nlmsgerr)), [&](uint16_t type, auto value) {
    if (type != NLMSGERR_ATTR_MSG) return;
    const std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
    words = " (" + std::string(text.substr(0, text.find('\0'))) + ")";
  });
  return words;
}

}  // namespace

void NetlinkRequest::append(const void* bytes, size_t count) {
  const auto* first = static_cast<const std::byte*>(bytes);
  bytes_.insert(bytes_.end(), first, first + count);
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
}

void NetlinkRequest::put_bytes(uint16_t attribute, std::span<const std::byte> value) {
  nlattr header{};
  header.nla_len = uint16_t(sizeof header + value.size());
  header.nla_type = attribute;
  append(&header, sizeof header);
  append(value.data(), value.size());
}

std::span<const std::byte> NetlinkRequest::finish(uint32_t sequence) {
  auto header = netlink_value<nlmsghdr>(bytes_);
  header.nlmsg_len = uint32_t(bytes_.size());
  header.nlmsg_flags |= NLM_F_REQUEST;
  if (!is_dump()) header.nlmsg_flags |= NLM_F_ACK;
  header.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &header, sizeof header);
  return bytes_;
}

bool NetlinkRequest::is_dump() const {
  return (netlink_value<nlmsghdr>(bytes_).nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
}

void for_each_attribute(std::span<const std::byte> attributes,
                        const std::function<void(uint16_t, std::span<const std::byte>)>& visit) {
  while (attributes.size() >= sizeof(nlattr)) {
    const auto header = netlink_value<nlattr>(attributes);
    if (header.nla_len < sizeof header || header.nla_len > attributes.size()) return;
    visit(header.nla_type & NLA_TYPE_MASK, attributes.subspan(sizeof header, header.nla_len - sizeof header));
    attributes = attributes.subspan(std::min<size_t>(NLA_ALIGN(header.nla_len), attributes.size()));
  }
}

shm::Host netlink_host(std::span<const std::byte> bytes) {
  shm::Host host{};
  const bool v4 = bytes.size() == sizeof(in_addr);
  if (v4) host[10] = host[11] = 0xff;
  std::memcpy(host.data() + (v4 ? 12 : 0), bytes.data(), v4 ? 4 : std::min(bytes.size(), host.size()));
  return host;
}

std::span<const std::byte> netlink_bytes(const shm::Host& host) {
  return std::as_bytes(std::span(host)).subspan(shm::is_ipv4(host) ? 12 : 0);
}

shm::Result<Netlink> Netlink::open(int protocol) {
  shm::UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd.valid()) return shm::fail("open a netlink socket", errno);
  const int on = 1;
  // What an older kernel does not know of these, it does without.
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);  // dumps of one table
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return Netlink(std::move(fd));
}

shm::Result<std::vector<NetlinkMessage>> Netlink::ask(NetlinkRequest request, const std::string& what) {
  for (int attempt = 0; attempt < kDumpTries; ++attempt) {
    const auto bytes = request.finish(++sequence_);
    if (send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return shm::fail(what, errno);
    Answer answer;
    while (!answer.done) {
      if (auto received = receive(answer, what); !received) {
        return std::unexpected(std::move(received.error()));
      }
    }
    if (!answer.interrupted) return std::move(answer.messages);
  }
  return shm::fail(what + ": the table changed each time it was read", EINTR);
}

shm::Result<> Netlink::receive(Answer& answer, const std::string& what) {
  std::vector<std::byte> buffer(kReceiveBytes);
  const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), MSG_TRUNC);
  if (got < 0 && errno == EINTR) return {};
  if (got < 0) return shm::fail(what, errno == EAGAIN ? ETIMEDOUT : errno);
  if (size_t(got) > buffer.size()) return shm::fail(what, EMSGSIZE);
  std::span<const std::byte> rest = std::span(buffer).first(size_t(got));
  while (rest.size() >= sizeof(nlmsghdr)) {
    const auto header = netlink_value<nlmsghdr>(rest);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size()) return shm::fail(what, EPROTO);
    const auto body = rest.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
    rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), rest.size()));
    if (header.nlmsg_seq != sequence_) continue;  // the rest of an answer that was given up
    if ((header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) answer.interrupted = true;
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      answer.done = true;
      // Both begin with the result: 0, or a negative errno.
      const int result = netlink_value<int>(body);
      if (result < 0) return shm::fail(what + kernel_words(body), -result);
      continue;
    }
    answer.messages.push_back({header.nlmsg_type, {body.begin(), body.end()}});
  }
  return {};
}

}  // namespace smbdirect::daemon
