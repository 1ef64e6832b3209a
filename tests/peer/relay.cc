// SPDX-License-Identifier: MIT
#include "relay.h"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <string>

namespace smbdirect::tests::peer {
namespace {

// Above the first the client's messages are left in the channel, above the second smbd's in its socket. smbd
// kills a client that leaves an oplock break unread for 1.2 s: the second is for clients that take nothing.
constexpr size_t kMostForSmbd = size_t{16} << 20;
constexpr uint64_t kMostForClient = uint64_t{32} << 20;
constexpr int kEventsPerTurn = 64;
constexpr auto kFinish = std::chrono::seconds(1);

smb2::ServerTranslator::Limits limits_of(const smbdirect_facts& facts) {
  smb2::ServerTranslator::Limits limits;
  limits.max_read_write_size = static_cast<uint32_t>(facts.max_read_write);
  return limits;
}

}  // namespace

Relay::Relay(ChannelPtr channel, Fd smbd, std::function<void(ChannelPtr)> another)
    : channel_(std::move(channel)),
      smbd_(std::move(smbd)),
      another_(std::move(another)),
      translator_(limits_of(*smbdirect_channel_facts(channel_.get()))),
      transfers_(*channel_, totals_),
      requests_(transfers_, translator_),
      responses_(*channel_, transfers_, translator_, totals_) {}

Outcome<> Relay::begin() {
  const smbdirect_facts& facts = *smbdirect_channel_facts(channel_.get());
  more_events_ = true;
  ++totals_.pdus_in;
  return requests_.take(std::as_bytes(std::span(facts.negotiate, facts.negotiate_size)));
}

/// The DONEs of operations come behind the client's messages: while some are under way, messages must be
/// taken too. How many is bounded by the credits smbd gives.
bool Relay::paused() const { return requests_.waiting_bytes() > kMostForSmbd && !transfers_.under_way(); }

Relay::Wants Relay::wants() const {
  Wants wants{.channel = smbdirect_channel_events(channel_.get())};
  if (paused()) wants.channel = static_cast<short>(wants.channel & ~POLLIN);
  wants.at_once = more_events_ && !paused();
  if (finish_by_) {
    wants.soon = true;
    return wants;
  }
  if (requests_.wants_to_write()) wants.smbd = static_cast<short>(wants.smbd | POLLOUT);
  if (waiting_for_client_ <= kMostForClient && smbd_state_ != ResponseRelay::State::blocked) {
    wants.smbd = static_cast<short>(wants.smbd | POLLIN);
    wants.at_once = wants.at_once || smbd_state_ == ResponseRelay::State::more;
  }
  return wants;
}

Outcome<> Relay::turn(short channel, short smbd) {
  const bool ended = (channel & (POLLHUP | POLLERR)) != 0;
  if (ended || (((channel & POLLIN) != 0 || more_events_) && !paused())) {
    if (auto read = read_events(ended); !read) return read;
  }
  if (!finish_by_) {
    if (auto advanced = requests_.advance(smbd_.get()); !advanced) return advanced;
    if ((smbd & ~POLLOUT) != 0 || smbd_state_ != ResponseRelay::State::drained) {
      if (auto read = read_smbd(); !read) return read;
    }
  }
  const int64_t waiting = smbdirect_channel_flush(channel_.get());
  if (waiting < 0)
    return std::unexpected(std::string("the client's channel: ") + std::strerror(int(-waiting)));
  waiting_for_client_ = static_cast<uint64_t>(waiting);
  return finish_by_ ? finish() : Outcome<>{};
}

Outcome<> Relay::read_events(bool ended) {
  more_events_ = true;
  for (int i = 0; i < kEventsPerTurn && (ended || !paused()); ++i) {
    smbdirect_event event{};
    const int next = smbdirect_channel_next(channel_.get(), &event);
    if (next == 0) {
      more_events_ = false;
      return {};
    }
    if (next == -ECONNRESET) return std::unexpected("the client's connection has ended");
    if (next < 0) return std::unexpected(std::string("the client's channel: ") + std::strerror(-next));
    switch (event.type) {
      case SMBDIRECT_EVENT_PDU:
        ++totals_.pdus_in;
        if (finish_by_) break;  // nobody is there to answer it
        if (auto taken = requests_.take(std::as_bytes(std::span(event.pdu, event.pdu_size))); !taken) {
          return taken;
        }
        break;
      case SMBDIRECT_EVENT_DONE:
        if (auto done = transfers_.on_done(event.id); !done) return done;
        break;
      case SMBDIRECT_EVENT_CHANNEL:
        another_(ChannelPtr(event.channel));
        break;
    }
  }
  return {};
}

Outcome<> Relay::read_smbd() {
  if (waiting_for_client_ > kMostForClient) return {};
  const auto state = responses_.pump(smbd_.get());
  if (!state) return std::unexpected(state.error());
  smbd_state_ = *state;
  if (*state == ResponseRelay::State::end) finish_by_ = Clock::now() + kFinish;
  return {};
}

/// Over when the client has what smbd said before it closed, or does not take it.
Outcome<> Relay::finish() const {
  if (waiting_for_client_ > 0 || transfers_.under_way()) {
    if (Clock::now() < *finish_by_) return {};
  }
  return std::unexpected("smbd closed its connection");
}

}  // namespace smbdirect::tests::peer
