// SPDX-License-Identifier: MIT
#include "daemon/contract/contract.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utility>
#include <vector>

#include "daemon/contract/message_codec.h"
#include "shm/base/sockets.h"

namespace smbdirect::daemon {
namespace {

/// Room for more descriptors than any message carries, so that a sender of too many is caught with all of
/// them in hand instead of by MSG_CTRUNC alone.
constexpr size_t kDescriptorRoom = 4;

/// Every descriptor that came along, owned at once: whatever is refused later closes them.
std::vector<shm::UniqueFd> take_descriptors(msghdr& header) {
  std::vector<shm::UniqueFd> descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

template <class Said>
bool carries_descriptor(const Said& message) {
  return std::visit([](const auto& one) { return one.kCarriesDescriptor; }, message);
}

template <class Said>
shm::Result<> send(int control_fd, uint32_t generation, const Said& message, int descriptor) {
  const std::string what = "send '" + std::string(message_name(message)) + "' on the control socket";
  if (carries_descriptor(message) != (descriptor >= 0)) return shm::fail(what, EINVAL);
  const MessageBytes bytes = encode_message(generation, message);
  const ssize_t sent = shm::send_datagram(control_fd, bytes.data(), bytes.size(), descriptor, MSG_DONTWAIT);
  if (sent < 0) return shm::fail(what, errno);
  return {};  // a datagram is sent whole or not at all
}

}  // namespace

std::string_view end_reason_text(EndReason reason) {
  switch (reason) {
    case EndReason::asked_for:
      return "ended by an administrator";
    case EndReason::place_needed:
      return "it has no session yet, and another client needs its place "
             "(/limits/connections_without_session)";
    case EndReason::address_leaves:
      return "the address that the client is connected to leaves this host";
  }
  return "the supervisor asked the worker to end it";
}

shm::Result<> send_message(int control_fd, uint32_t generation, const FromWorker& message, int descriptor) {
  return send(control_fd, generation, message, descriptor);
}
shm::Result<> send_message(int control_fd, uint32_t generation, const FromSupervisor& message,
                           int descriptor) {
  return send(control_fd, generation, message, descriptor);
}

template <class Said>
shm::Result<std::optional<Received<Said>>> receive_message(int control_fd) {
  std::array<std::byte, kMessageSize + 1> bytes;  // one more, to see a longer datagram
  iovec data{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kDescriptorRoom)> control{};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = recvmsg(control_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
  if (got < 0) return shm::fail("receive on the control socket", errno);
  std::vector<shm::UniqueFd> descriptors = take_descriptors(header);
  if (got == 0) return shm::fail("control socket closed by the other side", ECONNRESET);
  if ((header.msg_flags & MSG_TRUNC) != 0) return shm::fail("control message: too long", EPROTO);
  auto decoded = decode_message<Said>(std::span(bytes).first(size_t(got)));
  if (!decoded) return std::unexpected(decoded.error());
  const size_t expected = carries_descriptor(decoded->message) ? 1 : 0;
  // The kernel drops a descriptor that finds no room in our table: no fault of the sender's.
  const bool lost = (header.msg_flags & MSG_CTRUNC) != 0 && descriptors.empty() && expected == 1;
  if (descriptors.size() != expected && !lost) {
    return shm::fail("control message: '" + std::string(message_name(decoded->message)) + "' with " +
                         std::to_string(descriptors.size()) + " descriptors instead of " +
                         std::to_string(expected),
                     EPROTO);
  }
  Received<Said> received{decoded->generation, std::move(decoded->message), {}};
  if (!descriptors.empty()) received.descriptor = std::move(descriptors.front());
  return received;
}

template shm::Result<std::optional<Received<FromWorker>>> receive_message(int control_fd);
template shm::Result<std::optional<Received<FromSupervisor>>> receive_message(int control_fd);

}  // namespace smbdirect::daemon
