// SPDX-License-Identifier: MIT
// A connection's set-up: TCP where we connect, then the MPA request and reply.
#include <cerrno>
#include <cstring>
#include <utility>

#include "workers/fabric/iwarp/connection.h"

namespace smbdirect::workers::fabric::iwarp {

void Connection::begin_tcp() {
  const int error = begin_connect(socket_.fd(), *to_);
  if (error != 0 && error != EINPROGRESS) {
    setup_failed(std::string("connect: ") + std::strerror(error));
    return;
  }
  phase_ = Phase::connecting;
  watch(UV_WRITABLE);
}

void Connection::tcp_connected() {
  const int error = pending_error(socket_.fd());
  if (error != 0) {
    setup_failed(std::string("connect: ") + std::strerror(error));
    return;
  }
  set_no_delay(socket_.fd());
  description_ = describe_socket(socket_.fd(), false, &*to_);
  frame_ = make_request(offer());
  frame_sent_ = 0;
  phase_ = Phase::handshake;
  write_frame();
}

SetupOffer Connection::offer() const {
  return {.want_crc = options_.want_crc,
          .max_inbound_reads = options_.max_inbound_reads,
          .max_outbound_reads = options_.max_outbound_reads,
          .revision = options_.mpa_revision};
}

bool Connection::write_frame() {
  while (frame_sent_ < frame_.size) {
    const iovec rest{frame_.bytes.data() + frame_sent_, frame_.size - frame_sent_};
    const IoResult result = send_from(socket_.fd(), {&rest, 1}, false);
    if (result.kind == IoResult::Kind::failed) {
      setup_failed(std::string("send: ") + std::strerror(result.system_errno));
      return false;
    }
    if (result.kind != IoResult::Kind::moved) {
      watch(UV_WRITABLE);  // nothing is read before all of it is out
      return false;
    }
    frame_sent_ += result.bytes;
  }
  watch(UV_READABLE);
  return true;
}

void Connection::read_handshake() {
  while (phase_ == Phase::handshake) {
    const auto room = reader_.want();
    iovec into{room.data(), room.size()};
    const IoResult result = receive_into(socket_.fd(), {&into, 1});
    switch (result.kind) {
      case IoResult::Kind::would_block:
        return;
      case IoResult::Kind::end:
        return setup_failed("the peer closed the connection during set-up");
      case IoResult::Kind::failed:
        return setup_failed(std::string("receive: ") + std::strerror(result.system_errno));
      case IoResult::Kind::moved:
        break;
    }
    const auto complete = reader_.consumed(result.bytes);
    if (!complete) return frame_malformed(complete.error());
    if (!*complete) continue;
    if (to_) {
      handle_reply();
    } else {
      handle_request();
    }
  }
}

void Connection::frame_malformed(MpaError error) {
  if (to_ && frame_sent_ == frame_.size) {
    // We may send FPDUs by now, so the peer can be told (RFC 5044 8).
    refuse_reply({mpa_error_text(error), terminate::kInvalidSetupFrame});
  } else {
    setup_failed(mpa_error_text(error));
  }
}

void Connection::handle_request() {
  const SetupAnswer answer = answer_request(offer(), reader_.header(), reader_.private_data());
  frame_ = answer.reply;
  frame_sent_ = 0;
  agreed_ = answer.agreed;
  refusal_ = answer.refusal;
  phase_ = Phase::replying;
  write_reply();
}

void Connection::write_reply() {
  if (!write_frame()) return;
  if (agreed_) {
    establish(*agreed_);
  } else {
    reject(refusal_);
  }
}

void Connection::handle_reply() {
  const auto agreed = judge_reply(offer(), reader_.header(), reader_.private_data());
  if (agreed) {
    establish(*agreed);
  } else {
    refuse_reply(agreed.error());
  }
}

void Connection::refuse_reply(const SetupFailure& failure) {
  if (!failure.terminate) return setup_failed(failure.why);
  const Agreed least{.crc = options_.want_crc || reader_.header().crc, .ird = 1, .ord = 1};
  stream_.establish(least, segment_size(socket_.fd()), true);
  begin_terminate(Fault{.code = *failure.terminate, .why = failure.why}, CloseCause::setup_failed,
                  failure.why);
}

void Connection::establish(const Agreed& agreed) {
  attributes_.max_outbound_reads = agreed.ord;
  attributes_.crc = agreed.crc;
  attributes_.sends_files = !agreed.crc;
  // The accepting side is silent until the first FPDU has come in (RFC 5044 7.1.2).
  stream_.establish(agreed, segment_size(socket_.fd()), to_.has_value());
  if (options_.peer_timeout_ms > 0) set_peer_timeout(socket_.fd(), options_.peer_timeout_ms);
  timer_.stop();
  phase_ = Phase::established;
  announce_established_ = true;
  watch(UV_READABLE);
}

void Connection::setup_failed(std::string why) { finish(CloseCause::setup_failed, std::move(why)); }

}  // namespace smbdirect::workers::fabric::iwarp
