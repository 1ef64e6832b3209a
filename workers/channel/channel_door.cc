// SPDX-License-Identifier: MIT
#include "workers/channel/channel_door.h"

#include <cerrno>
#include <span>
#include <sys/socket.h>
#include <utility>

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

ChannelDoor::ChannelDoor(uv_loop_t& loop, shm::UniqueFd listening, Opened opened)
    : loop_(loop),
      listening_(std::move(listening)),
      opened_(std::move(opened)),
      poll_(loop, listening_.get(), [this](int, int) { accept(); }),
      rest_(loop, [this] { poll_.want(UV_READABLE); }) {
  poll_.want(UV_READABLE);
}

void ChannelDoor::accept() {
  for (size_t i = 0; i < kMaxGuests; ++i) {
    shm::UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      poll_.want(0);
      rest_.start(kRestMs);
    }
    if (!socket.valid()) return;
    if (guests_.size() >= kMaxGuests) guests_.erase(guests_.begin());  // the oldest
    const uint64_t number = next_++;
    Guest& guest = guests_[number];
    guest.socket = std::move(socket);
    guest.deadline = std::make_unique<Timer>(loop_, [this, number] { guests_.erase(number); });
    guest.deadline->start(kGuestMs);
    guest.poll =
        std::make_unique<Poll>(loop_, guest.socket.get(), [this, number](int, int) { read(number); });
    guest.poll->want(UV_READABLE);
  }
}

void ChannelDoor::read(uint64_t number) {
  Guest& guest = guests_.at(number);
  // Not a byte more than HELLO: what follows is the channel's.
  const ssize_t got =
      ::recv(guest.socket.get(), guest.said.data() + guest.have, kHelloBytes - guest.have, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
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
    guest.poll.reset();
    if (cookie) (void)opened_(*cookie, guest.socket);
  }
  guests_.erase(number);
}

}  // namespace smbdirect::workers
