// SPDX-License-Identifier: MIT
#include "workers/native/peer_listener.h"

#include <cerrno>
#include <span>
#include <sys/socket.h>
#include <utility>

#include "shm/base/sockets.h"

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

PeerListener::PeerListener(uv_loop_t& loop, shm::UniqueFd listening, Opened opened)
    : loop_(loop),
      listening_(loop, std::move(listening), [this](int, int status) { accept(status); }),
      opened_(std::move(opened)),
      rest_(loop, [this] { listening_.want(UV_READABLE); }) {
  listening_.want(UV_READABLE);
}

void PeerListener::rest() {
  listening_.want(0);
  rest_.start(kRestMs);
}

void PeerListener::accept(int status) {
  if (status < 0) return rest();
  for (size_t i = 0; i < kMaxPending; ++i) {
    shm::UniqueFd socket(::accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid() && shm::no_room_to_accept(errno)) rest();
    if (!socket.valid()) return;
    if (pending_.size() >= kMaxPending) pending_.erase(pending_.begin());  // the oldest
    const uint64_t number = next_++;
    Pending& pending = pending_[number];
    pending.socket =
        shm::Watched(loop_, std::move(socket), [this, number](int, int error) { read(number, error); });
    pending.deadline = std::make_unique<shm::Timer>(loop_, [this, number] { pending_.erase(number); });
    pending.deadline->start(kPendingMs);
    pending.socket.want(UV_READABLE);
  }
}

void PeerListener::read(uint64_t number, int status) {
  Pending& pending = pending_.at(number);
  // Not a byte more than HELLO: what follows is the channel's.
  const ssize_t got = ::recv(pending.socket.fd(), pending.said.data() + pending.have,
                             kHelloBytes - pending.have, MSG_DONTWAIT);
  if (got < 0 && status >= 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    pending_.erase(number);
    return;
  }
  pending.have += size_t(got);
  if (pending.have < kHelloBytes) return;
  const std::span<const std::byte, kHelloBytes> said(pending.said);
  const auto header = proxy::parse_frame_header(said.first<proxy::kFrameHeaderBytes>(), proxy::Sender::peer);
  if (header && header->type == proxy::FrameType::hello) {
    const auto cookie = proxy::parse_hello(said.subspan<proxy::kFrameHeaderBytes>());
    shm::UniqueFd socket = pending.socket.release();
    if (cookie) (void)opened_(*cookie, socket);
  }
  pending_.erase(number);
}

}  // namespace smbdirect::workers
