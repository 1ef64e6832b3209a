// SPDX-License-Identifier: MIT
#include "passing.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <utility>
#include <vector>

namespace smbdirect::tests::peer {
namespace {

constexpr size_t kMostState = size_t{1} << 20;  // it has the client's NEGOTIATE in it
constexpr timeval kPatience{.tv_sec = 1, .tv_usec = 0};

std::unexpected<std::string> failed(const char* what, int error) {
  return std::unexpected(std::string(what) + ": " + std::strerror(error));
}

Outcome<sockaddr_un> address_in(const std::string& directory) {
  const std::string path = directory + "/adopt.sock";
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof address.sun_path) return std::unexpected("too long for a socket: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Outcome<Fd> new_socket() {
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return failed("socket", errno);
  return fd;
}

/// Both directions of sendmsg and recvmsg: one message with room for two descriptors.
struct Message {
  iovec bytes{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr header{};
  Message(void* data, size_t size) : bytes{data, size} {
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
};

Outcome<> send_channel(int socket, std::span<const int, 2> descriptors, std::vector<std::byte>& state) {
  Message message(state.data(), state.size());
  cmsghdr* control = CMSG_FIRSTHDR(&message.header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(control), descriptors.data(), descriptors.size_bytes());
  if (::sendmsg(socket, &message.header, MSG_NOSIGNAL) < 0) return failed("passing the channel on", errno);
  return {};
}

}  // namespace

Outcome<> pass_on(ChannelPtr channel, const Options& options) {
  const auto address = address_in(options.pass_to);
  if (!address) return std::unexpected(address.error());
  size_t size = 0;
  std::array<int, 2> numbers{-1, -1};
  int exported = smbdirect_channel_export(channel.get(), numbers.data(), nullptr, &size);
  if (exported != -ENOSPC) return failed("asking for the state's size", -exported);
  std::vector<std::byte> state(size);
  exported = smbdirect_channel_export(channel.get(), numbers.data(), state.data(), &size);
  if (exported < 0) return failed("exporting the channel", -exported);
  (void)channel.release();  // the export has closed it
  const Fd first(numbers[0]);
  const Fd second(numbers[1]);
  state.resize(size);
  stop_if_at(options, Label::exported);

  const auto socket = new_socket();
  if (!socket) return std::unexpected(socket.error());
  (void)::setsockopt(socket->get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0) {
    return failed(address->sun_path, errno);
  }
  return send_channel(socket->get(), numbers, state);
}

Outcome<Fd> listen_for_channels(const std::string& directory) {
  const auto address = address_in(directory);
  if (!address) return std::unexpected(address.error());
  auto socket = new_socket();
  if (!socket) return socket;
  (void)::unlink(address->sun_path);
  if (::bind(socket->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0 ||
      ::listen(socket->get(), 16) < 0) {
    return failed(address->sun_path, errno);
  }
  return socket;
}

Outcome<ChannelPtr> adopt_one(int listening) {
  const Fd from(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
  if (!from) return failed("accept", errno);
  (void)::setsockopt(from.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  std::vector<std::byte> state(kMostState);
  Message message(state.data(), state.size());
  const ssize_t n = ::recvmsg(from.get(), &message.header, MSG_CMSG_CLOEXEC);
  if (n < 0) return failed("receiving a channel", errno);
  std::array<int, 2> numbers{-1, -1};
  const cmsghdr* control = CMSG_FIRSTHDR(&message.header);
  if (control != nullptr && control->cmsg_type == SCM_RIGHTS && control->cmsg_len > CMSG_LEN(0)) {
    std::memcpy(numbers.data(), CMSG_DATA(control),
                std::min(sizeof numbers, size_t{control->cmsg_len} - CMSG_LEN(0)));
  }
  Fd first(numbers[0]);
  Fd second(numbers[1]);
  if (!first || !second) return std::unexpected("a message without a channel's two descriptors");
  smbdirect_channel* channel = nullptr;
  const int imported =
      smbdirect_channel_import(numbers.data(), state.data(), static_cast<size_t>(n), &channel);
  if (imported < 0) return failed("importing a channel", -imported);
  (void)first.release();
  (void)second.release();
  return ChannelPtr(channel);
}

}  // namespace smbdirect::tests::peer
