// SPDX-License-Identifier: MIT
#include "workers/native/channel_door.h"

#include <cerrno>
#include <span>
#include <sys/socket.h>
#include <utility>

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

ChannelDoor::ChannelDoor(uv_loop_t& loop, shm::UniqueFd listening, Opened opened)
    : loop_(loop),
      listening_(loop, std::move(listening), [this](int, int status) { accept(status); }),
      opened_(std::move(opened)),
      rest_(loop, [this] { listening_.want(UV_READABLE); }) {
  listening_.want(UV_READABLE);
}

void ChannelDoor::rest() {
  listening_.want(0);
  rest_.start(kRestMs);
}

void ChannelDoor::accept(int status) {
  if (status < 0) return rest();
  for (size_t i = 0; i < kMaxGuests; ++i) {
    shm::UniqueFd socket(::accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
      rest();
    if (!socket.valid()) return;
    if (guests_.size() >= kMaxGuests) guests_.erase(guests_.begin());  // the oldest
    const uint64_t number = next_++;
    Guest& guest = guests_[number];
    guest.socket = Watched(loop_, std::move(socket), [this, number](int, int error) { read(number, error); });
    guest.deadline = std::make_unique<Timer>(loop_, [this, number] { guests_.erase(number); });
    guest.deadline->start(kGuestMs);
    guest.socket.want(UV_READABLE);
  }
}

void ChannelDoor::read(uint64_t number, int status) {
  Guest& guest = guests_.at(number);
  // Not a byte more than HELLO: what follows is the channel's.
  const ssize_t got =
      ::recv(guest.socket.fd(), guest.said.data() + guest.have, kHelloBytes - guest.have, MSG_DONTWAIT);
  if (got < 0 && status >= 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    guests_.erase(number);
    return;
  }
  guest.have += size_t(got);
  if (guest.have < kHelloBytes) return;
  const std::span<const std::byte, kHelloBytes> said(guest.said);
  const auto header = proxy::parse_frame_header(said.first<proxy::kFrameHeaderBytes>(), proxy::Sender::peer);
  if (header && header->type == proxy::FrameType::hello) {
    const auto cookie = proxy::parse_hello(said.subspan<proxy::kFrameHeaderBytes>());
    shm::UniqueFd socket = guest.socket.release();
    if (cookie) (void)opened_(*cookie, socket);
  }
  guests_.erase(number);
}

}  // namespace smbdirect::workers
