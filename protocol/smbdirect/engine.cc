// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/engine.h"

#include <algorithm>

#include "protocol/smbdirect/messages.h"
#include "protocol/smbdirect/negotiation.h"

namespace smbdirect::protocol::smb_direct {
namespace {

template <size_t N>
Outgoing outgoing(const std::array<std::byte, N>& header) {
  Outgoing message;
  static_assert(N <= sizeof(message.header));
  std::ranges::copy(header, message.header.begin());
  message.header_size = static_cast<uint8_t>(N);
  return message;
}

}  // namespace

Engine::Engine(Role role, const Limits& limits, Millis now)
    : role_(role),
      limits_(normalized(limits)),
      negotiate_due_(role == Role::active),
      credits_(limits_),
      reassembly_(limits_.max_fragmented_size),
      negotiation_timer_(limits_, now),
      idle_timer_(limits_),
      send_credit_timer_(limits_) {}

// --- receiving ---

uint32_t Engine::receives_wanted() const {
  return phase_ == Phase::negotiating || phase_ == Phase::established ? credits_.wanted() : 0;
}

void Engine::receives_posted(uint32_t count) { credits_.posted(count); }

std::expected<Delivery, Fault> Engine::receive(std::span<const std::byte> message, Millis now) {
  observe(now);
  switch (phase_) {
    case Phase::negotiating:
      return role_ == Role::passive ? receive_request(message) : receive_response(message, now);
    case Phase::established:
      return receive_data(message, now);
    case Phase::refusing:
      return Delivery{};
    case Phase::closed:
      break;
  }
  return std::unexpected(fault_.value_or(Fault::negotiate_refused));
}

// MS-SMBD 3.1.5.6
std::expected<Delivery, Fault> Engine::receive_request(std::span<const std::byte> message) {
  // A second message before our response: no credit was granted for it.
  if (negotiate_due_ || !credits_.consume_uncredited()) return fail(Fault::no_receive_credit);
  const auto request = parse_negotiate_request(message);
  if (!request) return fail(request.error());
  const auto agreed = check_request(*request, limits_);
  if (!agreed && agreed.error() == Fault::version_unsupported) {
    negotiation_timer_.cancel();
    fault_ = agreed.error();
    phase_ = Phase::refusing;
    refusal_due_ = true;
    return Delivery{};
  }
  if (!agreed) return fail(agreed.error());
  negotiation_timer_.cancel();
  agreed_ = *agreed;
  credits_.open(request->credits_requested);
  negotiate_due_ = true;
  return Delivery{.kind = Delivery::Kind::negotiated};
}

// MS-SMBD 3.1.5.7
std::expected<Delivery, Fault> Engine::receive_response(std::span<const std::byte> message, Millis now) {
  if (negotiate_due_ || !credits_.consume_uncredited()) return fail(Fault::no_receive_credit);
  const auto response = parse_negotiate_response(message);
  if (!response) return fail(response.error());
  const auto agreed = check_response(*response, limits_);
  if (!agreed) return fail(agreed.error());
  negotiation_timer_.cancel();
  agreed_ = *agreed;
  credits_.open(response->credits_requested);
  credits_.start_sending(response->credits_granted);
  idle_timer_.heard(now);
  phase_ = Phase::established;
  return Delivery{.kind = Delivery::Kind::negotiated, .credits_granted = response->credits_granted};
}

// MS-SMBD 3.1.5.8
std::expected<Delivery, Fault> Engine::receive_data(std::span<const std::byte> message, Millis now) {
  if (message.size() > agreed_.max_receive_size) return fail(Fault::message_too_long);
  const auto header = parse_data_transfer(message);
  if (!header) return fail(header.error());
  const auto place = reassembly_.accept(header->data_length, header->remaining_data_length);
  if (!place) return fail(place.error());
  const bool data = header->data_length > 0;
  const auto counted = credits_.receive(header->credits_requested, header->credits_granted, data, now);
  if (!counted) return fail(counted.error());

  grants_.received(data, now);
  idle_timer_.heard(now);
  if (credits_.may_send()) send_credit_timer_.waiting(false, now);
  // Answered without the flag: two sides that put it on their answers would never stop.
  if ((header->flags & DataTransfer::kResponseRequested) != 0) response_requested_ = true;
  const std::optional<Reassembly::Place>& fragment = *place;
  if (!fragment) return Delivery{.credits_granted = header->credits_granted};
  if (fragment->last) reply_expected_ = role_ == Role::passive;
  return Delivery{
      .kind = Delivery::Kind::fragment,
      .data = message.subspan(data ? header->data_offset : 0, header->data_length),
      .total = fragment->total,
      .first = fragment->first,
      .last = fragment->last,
      .credits_granted = header->credits_granted,
  };
}

void Engine::hold_grants(bool held) {
  if (credits_.held() == held) return;
  credits_.hold(held);
  if (!held) grants_.released();
}

// --- sending ---

bool Engine::sending() const { return left_ > 0; }

bool Engine::begin(uint64_t length) {
  const bool agreed =
      phase_ == Phase::established || (phase_ == Phase::negotiating && role_ == Role::passive);
  if (!agreed || sending() || length == 0) return false;
  if (length > agreed_.max_fragmented_send_size) return false;
  length_ = length;
  left_ = length;
  return true;
}

std::optional<Outgoing> Engine::next(uint64_t ready, Millis now, uint32_t max_payload) {
  observe(now);
  switch (phase_) {
    case Phase::negotiating:
      return negotiate_due_ ? next_negotiate(now) : std::nullopt;
    case Phase::established:
      return next_data(ready, now, std::max<uint32_t>(max_payload, 1));
    case Phase::refusing:
      if (refusal_due_) return refuse(kStatusNotSupported);
      break;
    case Phase::closed:
      break;
  }
  return std::nullopt;
}

std::optional<Outgoing> Engine::next_negotiate(Millis now) {
  if (role_ == Role::active) {
    if (credits_.posted() == 0) return std::nullopt;  // nowhere to receive the response
    negotiate_due_ = false;
    negotiation_timer_.start(now);
    return outgoing(encode(make_request(limits_)));
  }
  negotiate_due_ = false;
  const uint16_t granted = credits_.grant_at_negotiation();
  if (granted == 0) {
    fault_ = Fault::negotiate_refused;
    phase_ = Phase::refusing;
    return refuse(kStatusInsufficientResources);
  }
  grants_.granted_at_negotiation();
  idle_timer_.heard(now);
  phase_ = Phase::established;
  Outgoing response = outgoing(encode(make_response(agreed_, limits_, granted)));
  response.credits_granted = granted;
  return response;
}

Outgoing Engine::refuse(uint32_t status) {
  refusal_due_ = false;
  Outgoing message = outgoing(encode(make_refusal(status)));
  message.disconnect = true;
  return message;
}

// MS-SMBD 3.1.5.1
std::optional<Outgoing> Engine::next_data(uint64_t ready, Millis now, uint32_t max_payload) {
  const uint64_t most = agreed_.max_send_size - DataTransfer::kDataOffset;
  const uint64_t full = std::min({left_, most, uint64_t{max_payload}});
  const bool data = sending() && ready >= full;

  // Both sides without credits (the peer spent its last one and granted nothing) is a wait as well.
  const bool waits = data || idle_timer_.probe_due() || (credits_.granted() == 0 && credits_.grantable() > 0);
  // So is the last credit, while there is nothing to grant: it may not carry data (MS-SMBD 3.1.5.1).
  send_credit_timer_.waiting(waits && !credits_.may_send(), now);
  if (!credits_.may_send()) return std::nullopt;
  if (!grants_.ever_granted() && credits_.grantable() == 0) return std::nullopt;

  if (data) return take(static_cast<uint32_t>(full), true, now);
  if (!response_requested_ && !idle_timer_.probe_due() && grant_due() > now) return std::nullopt;
  if (!mid_message()) return take(0, false, now);
  // An empty message would end the upper-layer message, so a short fragment carries what is due.
  return take(static_cast<uint32_t>(std::min(ready, full)), true, now);
}

Outgoing Engine::take(uint32_t payload, bool fragment, Millis now) {
  const bool probe = idle_timer_.probe_due();
  // While grants are held, a message without payload carries one only at its time or for the last credit.
  const bool withhold = credits_.held() && payload == 0 && credits_.send() > 1 && grant_due() > now;
  const uint16_t grant = withhold ? 0 : credits_.grantable(payload == 0 && grants_.quiet());
  left_ -= payload;
  DataTransfer header{
      .credits_requested = limits_.send_credit_target,
      .credits_granted = grant,
      .flags = probe ? DataTransfer::kResponseRequested : uint16_t{0},
      .remaining_data_length = fragment ? static_cast<uint32_t>(left_) : 0,
      .data_offset = fragment ? DataTransfer::kDataOffset : 0,
      .data_length = payload,
  };
  Outgoing message = outgoing(encode(header));
  if (!fragment) message.header_size = DataTransfer::kHeaderSize;
  message.payload = payload;
  message.completes = fragment && left_ == 0;
  message.credits_granted = grant;
  if (message.completes) reply_expected_ = false;

  credits_.sent(grant);
  grants_.sent(payload > 0, grant, credits_, now);
  response_requested_ = false;
  if (probe) idle_timer_.probe_sent(now);
  return message;
}

// --- time ---

bool Engine::idle_clock_stands() const { return credits_.granted() == 0; }

void Engine::observe(Millis now) {
  const bool stands = idle_clock_stands();
  if (stands || idle_clock_stood_) idle_timer_.restart(now);
  idle_clock_stood_ = stands;
}

Millis Engine::grant_due() const {
  return grants_.due(credits_, reply_expected_ && !reassembly_.in_progress());
}

Millis Engine::next_deadline(bool can_send) const {
  switch (phase_) {
    case Phase::negotiating:
      return negotiation_timer_.deadline();
    case Phase::established: {
      const Millis idle = idle_clock_stands() || idle_clock_stood_ ? kNever : idle_timer_.deadline();
      return std::min({idle, send_credit_timer_.deadline(), can_send ? grant_due() : kNever});
    }
    case Phase::refusing:
    case Phase::closed:
      break;
  }
  return kNever;
}

void Engine::peer_moves(Millis now) {
  idle_timer_.answer_delayed(now);
  send_credit_timer_.restart(now);
}

bool Engine::awaits_answer() const {
  return phase_ == Phase::established &&
         (idle_timer_.awaits_answer() || send_credit_timer_.deadline() != kNever);
}

std::expected<void, Fault> Engine::tick(Millis now) {
  observe(now);
  std::expected<void, Fault> result;
  switch (phase_) {
    case Phase::negotiating:
      result = negotiation_timer_.tick(now);
      break;
    case Phase::established:
      if (!idle_clock_stands()) result = idle_timer_.tick(now);
      if (result) result = send_credit_timer_.tick(now);
      break;
    case Phase::refusing:
      return {};
    case Phase::closed:
      return std::unexpected(fault_.value_or(Fault::negotiate_refused));
  }
  if (!result) return fail(result.error());
  return {};
}

std::unexpected<Fault> Engine::fail(Fault fault) {
  fault_ = fault;
  phase_ = Phase::closed;
  left_ = 0;
  return std::unexpected(fault);
}

// --- state ---

Phase Engine::phase() const { return phase_; }
const Agreed& Engine::agreed() const { return agreed_; }

Credits Engine::credits() const {
  return {
      .posted = credits_.posted(),
      .granted = credits_.granted(),
      .available = credits_.available(),
      .receive_target = credits_.target(),
      .send = credits_.send(),
      .send_target = limits_.send_credit_target,
  };
}

}  // namespace smbdirect::protocol::smb_direct
