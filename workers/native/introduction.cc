// SPDX-License-Identifier: MIT
#include "workers/native/introduction.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>

#include "workers/memory/slab.h"
#include "workers/stream/outbox.h"
#include "workers/stream/reader.h"

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

Introduction::Introduction(uv_loop_t& loop, shm::UniqueFd socket, Done done)
    : socket_(loop, std::move(socket), [this](int, int status) { read(status); }), done_(std::move(done)) {
  socket_.want(UV_READABLE);
}

shm::Result<std::unique_ptr<Introduction>> Introduction::make(uv_loop_t& loop, shm::UniqueFd socket,
                                                              std::span<const std::byte> introduction,
                                                              int area, Done done) {
  const int one = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one) != 0) {
    return shm::fail("set up the channel to the server process", errno);
  }
  shm::UniqueFd copy(::fcntl(area, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return shm::fail("copy the descriptor of the data area", errno);
  Outbox outbox;
  outbox.push_descriptor(std::move(copy));
  outbox.push({}, introduction);
  const auto said = outbox.flush(socket.get());
  if (!said) return std::unexpected(said.error());
  // Its buffer is empty and larger than that.
  if (*said == Outbox::Flush::blocked) return shm::fail("send to the server process", ENOBUFS);
  return std::unique_ptr<Introduction>(new Introduction(loop, std::move(socket), std::move(done)));
}

void Introduction::read(int status) {
  // Not a byte more than ATTACHED: what follows is the session's.
  iovec into{said_.data() + have_, said_.size() - have_};
  pid_t sender = 0;
  const ssize_t got = receive_from(socket_.fd(), std::span(&into, 1), sender);
  if (got < 0 && status >= 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    return finish(shm::fail("the server process ended before it served the connection", ECONNRESET));
  }
  have_ += size_t(got);
  if (have_ < said_.size()) return;
  const std::span<const std::byte, kAttachedBytes> said(said_);
  const auto header = proxy::parse_frame_header(said.first<proxy::kFrameHeaderBytes>(), proxy::Sender::peer);
  if (!header || header->type != proxy::FrameType::attached ||
      !proxy::parse_version(said.subspan<proxy::kFrameHeaderBytes>())) {
    return finish(
        shm::fail("the server process sent something else before it attached to the channel", EPROTO));
  }
  // Another PID namespace's, or it said this before the kernel was asked for names.
  if (sender == 0) {
    return finish(
        shm::fail("the server process has no process id here (does it run in another container?)", EPROTO));
  }
  finish(Attached{socket_.release(), uint32_t(sender)});
}

void Introduction::finish(shm::Result<Attached> result) {
  socket_.reset();
  const Done done = std::move(done_);  // the callback may destroy this object
  done(std::move(result));
}

shm::Result<std::pair<shm::UniqueFd, shm::UniqueFd>> socket_pair() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    return shm::fail("make a channel to the server process", errno);
  }
  return std::pair{shm::UniqueFd(ends[0]), shm::UniqueFd(ends[1])};
}

}  // namespace smbdirect::workers
