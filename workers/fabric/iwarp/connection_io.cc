// SPDX-License-Identifier: MIT
// A connection at work: moving bytes between stream and socket, and events to the handler.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "shm/base/sockets.h"
#include "workers/fabric/iwarp/connection.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

// Work per wake-up, so that one busy peer does not hold up the loop.
constexpr int kReadsPerTurn = 64;
constexpr uint64_t kFpdusPerTurn = 256;  // of 20 bytes each they are work as well
constexpr size_t kBytesPerTurn = 1U << 20;
constexpr size_t kBytesSentPerTurn = 4U << 20;
constexpr uint64_t kFpdusSentPerTurn = 256;
constexpr size_t kLookAtSegments = 1U << 18;  // bytes sent between two looks at TCP's segment size
constexpr int kDeliveryRounds = 4;

}  // namespace

void Connection::on_socket(int events, int status) {
  sent_before_turn_ = stream_.traffic().fpdus_sent;
  if (status < 0) {
    poll_failed();
  } else {
    if ((events & UV_WRITABLE) != 0) writable();
    if ((events & UV_READABLE) != 0) readable();
  }
  service();
}

void Connection::poll_failed() {
  switch (phase_) {
    case Phase::connecting:
      return tcp_connected();  // finds out why not
    case Phase::handshake:
      return read_handshake();
    case Phase::replying:
      return setup_failed("the connection broke during set-up");
    case Phase::established:
    case Phase::draining:
    case Phase::terminating:
      return stream_broken(0);
    default:
      return finish_ending();
  }
}

void Connection::writable() {
  blocked_ = false;
  switch (phase_) {
    case Phase::connecting:
      return tcp_connected();
    case Phase::handshake:
      if (frame_sent_ < frame_.size) (void)write_frame();
      return;
    case Phase::replying:
      return write_reply();
    default:
      return;  // service() flushes
  }
}

void Connection::readable() {
  switch (phase_) {
    case Phase::handshake:
      return read_handshake();
    case Phase::established:
    case Phase::draining:
      return read_stream();
    case Phase::terminating:
    case Phase::lingering:
      return discard();
    default:
      return;
  }
}

void Connection::read_stream() {
  size_t total = 0;
  const uint64_t most_fpdus = stream_.traffic().fpdus_received + kFpdusPerTurn;
  for (int reads = 0; reads < kReadsPerTurn && total < kBytesPerTurn && !stream_.fault(); ++reads) {
    if (stream_.traffic().fpdus_received >= most_fpdus) return;  // others' turn; the socket stays readable
    const auto vectors = stream_.receive_vectors();
    size_t room = 0;
    for (const iovec& vector : vectors) room += vector.iov_len;
    const IoResult result = receive_into(socket_.fd(), vectors);
    switch (result.kind) {
      case IoResult::Kind::would_block:
        return;
      case IoResult::Kind::end:
        return stream_ended();
      case IoResult::Kind::failed:
        return stream_broken(result.system_errno);
      case IoResult::Kind::moved:
        break;
    }
    stream_.received(result.bytes);
    total += result.bytes;
    if (result.bytes < room) return;  // the socket is empty
  }
}

void Connection::stream_ended() {
  if (phase_ == Phase::draining) {
    finish(CloseCause::local, "disconnected; the peer closed first");
  } else if (stream_.at_boundary()) {
    finish(CloseCause::peer_closed, "the peer closed the connection");
  } else {
    finish(CloseCause::peer_reset, "the connection ended inside an FPDU");
  }
}

// Nothing more can be sent. What the peer said before is still there: a Terminate, perhaps.
void Connection::stream_broken(int system_errno) {
  if (phase_ == Phase::terminating) return finish_ending();
  for (int reads = 0; reads < kReadsPerTurn * kReadsPerTurn && !stream_.fault(); ++reads) {
    const IoResult result = receive_into(socket_.fd(), stream_.receive_vectors());
    if (result.kind != IoResult::Kind::moved) {
      if (result.kind == IoResult::Kind::failed) system_errno = result.system_errno;
      break;
    }
    stream_.received(result.bytes);
  }
  broken_ = system_errno == 0 ? ECONNRESET : system_errno;
  if (stream_.fault()) return begin_fault();
  const auto cause = phase_ == Phase::draining ? CloseCause::local : CloseCause::peer_reset;
  finish(cause, std::string("the connection broke: ") + std::strerror(broken_));
}

// In the middle of an FPDU: the peer must not take what follows for the rest of it.
void Connection::source_gone() {
  shm::reset_on_close(socket_.fd());
  if (phase_ == Phase::terminating) return finish_ending();
  finish(CloseCause::source_gone, "a file became shorter while it was being sent");
}

void Connection::discard() {
  std::byte scratch[16384];
  for (int reads = 0; reads < kReadsPerTurn; ++reads) {
    iovec into{scratch, sizeof scratch};
    const IoResult result = receive_into(socket_.fd(), {&into, 1});
    if (result.kind == IoResult::Kind::would_block) return;
    if (result.kind == IoResult::Kind::moved) continue;
    peer_done_ = true;
    if (phase_ == Phase::lingering || result.kind == IoResult::Kind::failed) return finish_ending();
    watch(blocked_ ? UV_WRITABLE : 0);
    return;
  }
}

void Connection::flush() {
  if (sent_since_look_ >= kLookAtSegments) {
    // TCP starts with small segments and changes its mind as the window opens and the path changes.
    sent_since_look_ = 0;
    stream_.set_segment_size(segment_size(socket_.fd()));
  }
  size_t total = 0;
  while (!blocked_ && broken_ == 0) {
    const auto vectors = stream_.send_vectors();
    if (vectors.empty()) break;
    size_t size = 0;
    for (const iovec& vector : vectors) size += vector.iov_len;
    const IoResult result = send_from(socket_.fd(), vectors, stream_.more_to_send());
    switch (result.kind) {
      case IoResult::Kind::moved:
        stream_.sent(result.bytes);
        sent_since_look_ += result.bytes;
        total += result.bytes;
        blocked_ = result.bytes < size || total >= kBytesSentPerTurn ||
                   stream_.traffic().fpdus_sent - sent_before_turn_ >= kFpdusSentPerTurn;
        break;
      case IoResult::Kind::failed:
        broken_ = result.system_errno;
        break;
      default:
        blocked_ = true;
        break;
    }
  }
  watch((peer_done_ ? 0 : UV_READABLE) | (blocked_ ? UV_WRITABLE : 0));
}

Progress Connection::progress() const {
  if (!transferring()) return {};
  Progress progress = stream_.progress();
  // The socket's share counts from the reply to the MPA request on; the stream's does not.
  const uint64_t given = progress.acknowledged + frame_sent_;
  const uint64_t held = unacknowledged(socket_.fd());
  progress.acknowledged = given - std::min(held, given);
  progress.sending = progress.sending || held > 0;
  return progress;
}

bool Connection::transferring() const {
  return phase_ == Phase::established || phase_ == Phase::draining || phase_ == Phase::terminating;
}

void Connection::service() {
  // Sending may find a fault of its own, and the Terminate for it is sent by the next round.
  while (transferring()) {
    if (broken_ != 0) {
      if (broken_ == EFAULT) {
        source_gone();
      } else {
        stream_broken(broken_);
      }
      break;
    }
    if (stream_.fault() && stream_.fault()->silent) {
      if (phase_ != Phase::terminating) {
        begin_fault();
      } else {
        shm::reset_on_close(socket_.fd());
        finish_ending();
      }
      break;
    }
    if (stream_.fault() && phase_ != Phase::terminating) {
      begin_fault();
      continue;
    }
    flush();
    if (broken_ != 0 || (stream_.fault() && phase_ != Phase::terminating)) continue;
    if (phase_ == Phase::draining && stream_.drained()) begin_linger();
    if (phase_ == Phase::terminating && stream_.terminate_sent()) begin_linger();
    break;
  }
  deliver();
}

void Connection::deliver() {
  if (delivering_ || handler_ == nullptr) return;
  delivering_ = true;
  for (int round = 0; round < kDeliveryRounds; ++round) {
    if (announce_established_) {
      announce_established_ = false;
      handler_->on_established();
    } else if (!stream_.completions().empty()) {
      handler_->on_completions(stream_.hand_out_completed());
    } else {
      break;
    }
    if (handler_ == nullptr) return;
    if (rung_) {
      rung_ = false;
      if (phase_ == Phase::established) flush();
    }
  }
  delivering_ = false;
  const bool left = announce_established_ || !stream_.completions().empty();
  if (phase_ == Phase::closed && !left) {
    if (close_delivered_) return;
    close_delivered_ = true;
    sleep();
    handler_->on_closed(*close_);
    return;
  }
  if (left || broken_ != 0 || (stream_.fault() && phase_ < Phase::terminating)) wake();
}

}  // namespace smbdirect::workers::fabric::iwarp
