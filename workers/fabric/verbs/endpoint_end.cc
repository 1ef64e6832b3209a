// SPDX-License-Identifier: MIT
// The ways a connection ends. All of them come to finish(), and from there, on a clean turn of the loop, to
// release() and on_closed().
#include <utility>

#include "shm/base/log.h"
#include "workers/fabric/verbs/endpoint.h"
#include "workers/fabric/verbs/work_status.h"

namespace smbdirect::workers::fabric::verbs {

namespace log = shm::log;

namespace {

/// How it looks when the device goes away: it ends connections in whatever way it gets to first. The peer may
/// even have closed them, when the device is its own as well.
bool may_be_removal(CloseCause cause) {
  return cause == CloseCause::peer_closed || cause == CloseCause::peer_reset ||
         cause == CloseCause::setup_failed;
}

}  // namespace

// --- what brings it about ---

void VerbsEndpoint::disconnect() {
  if (phase_ < Phase::established) {
    setup_ended(CloseCause::local, "disconnected during set-up");
    return;
  }
  if (phase_ != Phase::established) return;
  ring();
  if (phase_ != Phase::established) return;  // that failed
  phase_ = Phase::finishing;
  close_ = Close{CloseCause::local, "disconnected"};
  arm(times_.disconnect_ms);
  proceed();
}

void VerbsEndpoint::abort() {
  mute_ = true;
  if (phase_ < Phase::established) {
    setup_ended(CloseCause::local, "aborted");
  } else if (phase_ < Phase::draining) {
    lost(CloseCause::local, "aborted");
  }
}

void VerbsEndpoint::on_disconnected() {
  if (phase_ < Phase::established) {
    setup_ended(CloseCause::setup_failed, "closed by the peer during set-up");
  } else if (phase_ < Phase::draining) {
    verdict_open_ = link_->device_in_doubt();
    lost(CloseCause::peer_closed, "closed by the peer");
  } else if (verdict_open_) {
    Close close{CloseCause::peer_closed, "closed by the peer"};
    if (link_->device_in_doubt()) {
      close_ = std::move(close);
    } else {
      settle(std::move(close));
    }
  }
}

void VerbsEndpoint::on_failed(CloseCause cause, std::string detail) {
  if (phase_ < Phase::established) {
    setup_ended(cause, std::move(detail));
  } else if (phase_ < Phase::draining) {
    // Its first message had come, and so it was established; then the connection manager gave up on it.
    lost(CloseCause::peer_reset, std::move(detail));
  }
}

void VerbsEndpoint::on_device_removed() {
  if (seat_ != nullptr) {
    seat_->device().remove("was removed");  // comes back as on_device_gone()
  } else {
    setup_ended(CloseCause::setup_failed, "the RDMA device was removed");
  }
}

void VerbsEndpoint::on_device_gone(const std::string& why) {
  if (!close_ || may_be_removal(close_->cause)) {
    const bool set_up = close_ ? close_->cause != CloseCause::setup_failed : phase_ >= Phase::established;
    close_ = Close{set_up ? CloseCause::peer_reset : CloseCause::setup_failed, "the RDMA device " + why};
  }
  verdict_open_ = false;
  // Its work may never come back; destroying the queue pair is enough for our memory to be left alone.
  finish();
}

void VerbsEndpoint::on_device_event(ibv_event_type event) {
  if (phase_ < Phase::draining) {
    lost(CloseCause::protocol_error, std::string("the device reports: ") + ibv_event_type_str(event));
  }
}

void VerbsEndpoint::work_failed(const WorkId& id, const ibv_wc& completion) {
  if (completion.status == IBV_WC_WR_FLUSH_ERR) {
    if (phase_ >= Phase::draining) return;
    // The queue pair broke without our doing. Who knows why comes next: another completion, or the
    // connection manager.
    if (phase_ == Phase::established) {
      verdict_open_ = true;
      close_ = Close{CloseCause::peer_reset, "the connection broke"};
    } else if (phase_ < Phase::established) {
      // A refusal on iWARP flushes the receives first; the connection manager's event has the reason.
      if (!close_) {
        close_ = Close{CloseCause::setup_failed, "the connection broke during set-up"};
        arm(times_.verdict_ms);
      }
      return;
    }
    drain();
    return;
  }
  Close close = close_for(completion.status, id.kind);
  if (phase_ < Phase::established) {
    setup_ended(CloseCause::setup_failed, std::move(close.detail));
  } else if (phase_ < Phase::draining) {
    lost(close.cause, std::move(close.detail));
  } else if (verdict_open_) {
    settle(std::move(close));
  } else if (close_ && close_->cause == CloseCause::peer_closed &&
             close.cause == CloseCause::peer_terminate) {
    close_ = std::move(close);  // it closed because of what we asked for
  }
}

void VerbsEndpoint::posting_failed(std::string why) {
  seat_->device().look();  // it may be on its way out, and then that is the reason
  lost(CloseCause::protocol_error, std::move(why));
}

// --- how it goes on from there ---

void VerbsEndpoint::setup_failed(std::string why) { setup_ended(CloseCause::setup_failed, std::move(why)); }

/// Nothing of the caller's is on its way: the queue pair can go at once.
void VerbsEndpoint::setup_ended(CloseCause cause, std::string detail) {
  close_ = Close{cause, std::move(detail)};
  finish();
}

/// Established, and now over. An end that we called for stays ours, whatever happens on the way.
void VerbsEndpoint::lost(CloseCause cause, std::string detail) {
  if (phase_ < Phase::established) {
    setup_ended(CloseCause::setup_failed, std::move(detail));
    return;
  }
  if (phase_ >= Phase::draining) return;
  if (!close_) close_ = Close{cause, std::move(detail)};
  (void)tell_peer();
  drain();
}

void VerbsEndpoint::settle(Close close) {
  verdict_open_ = false;
  close_ = std::move(close);
  proceed();
}

bool VerbsEndpoint::tell_peer() {
  if (std::exchange(peer_told_, true)) return true;
  return link_->disconnect().has_value();
}

void VerbsEndpoint::drain() {
  phase_ = Phase::draining;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  const int error = seat_->device().api().modify_qp(qp_.get(), &attributes, IBV_QP_STATE);
  // On iWARP the kernel may have brought it there already, and then refuses.
  if (error != 0 && !seat_->device().is_iwarp()) {
    log::write(log::Level::warning, "%s: %s", description_.c_str(),
               shm::Error{"ibv_modify_qp to the error state", error}.text().c_str());
    force();
    return;
  }
  arm(times_.drain_ms);
  proceed();
}

/// Takes the next step when what it waits for is there.
void VerbsEndpoint::proceed() {
  if (phase_ == Phase::finishing && sends_.idle()) {
    phase_ = Phase::closing;
    // The peer cannot answer if it could not be told, as when it has disconnected already.
    if (!tell_peer()) drain();
  } else if (phase_ == Phase::draining && sends_.outstanding() + receives_.outstanding() == 0) {
    if (!verdict_open_) {
      finish();
    } else if (!std::exchange(awaiting_verdict_, true)) {
      arm(times_.verdict_ms);
    }
  }
}

void VerbsEndpoint::deadline_passed() {
  switch (phase_) {
    case Phase::idle:
    case Phase::established:
    case Phase::closed:
      return;
    case Phase::resolving:
    case Phase::connecting:
      setup_failed(close_ ? close_->detail : "no RDMA connection in time");
      return;
    case Phase::finishing:
    case Phase::closing:
      (void)tell_peer();
      drain();
      return;
    case Phase::draining:
      if (awaiting_verdict_) {
        finish();
        return;
      }
      log::write(log::Level::warning, "%s: %u sends and %u receives did not come back from the device",
                 description_.c_str(), sends_.outstanding(), receives_.outstanding());
      force();
      return;
  }
}

void VerbsEndpoint::force() {
  ++seat_->device().stats().forced;
  finish();
}

void VerbsEndpoint::finish() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  timer_.stop();
  later_.trigger();
}

void VerbsEndpoint::tell_closed() {
  if (seat_ != nullptr && close_ && may_be_removal(close_->cause)) seat_->device().look();
  release();
  handler_.on_closed(close_.value_or(Close{CloseCause::local, "closed"}));
}

void VerbsEndpoint::release() {
  qp_.reset();
  exposed_.clear();
  sink_.reset();
  domain_ = nullptr;
  own_domain_.reset();
  seat_.reset();
  link_.reset();
}

void VerbsEndpoint::arm(uint64_t after_ms) {
  uv_update_time(&loop_);  // a busy turn must not eat into the deadline
  timer_.start(after_ms);
}

}  // namespace smbdirect::workers::fabric::verbs
