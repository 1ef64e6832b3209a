// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/setup.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers::fabric::iwarp {
namespace {

constexpr uint8_t kNewestRevision = 2;
constexpr uint16_t kMostDepth = 255;  // what SMB Direct peers clamp to in the legacy exchange

/// A depth the peer named, or ours where it named none. Zero names none: a peer that serves no READs is
/// sent none, since it exposes no memory, and the smallest queue there is has one place.
uint16_t limit(uint16_t own, uint32_t peers) {
  if (peers == 0) return 1;
  return static_cast<uint16_t>(std::clamp<uint32_t>(peers, 1, std::max<uint16_t>(own, 1)));
}

uint16_t limit_enhanced(uint16_t own, uint16_t peers) {
  return peers == kDepthNotNegotiated ? std::max<uint16_t>(own, 1) : limit(own, peers);
}

/// Some initiators write these in host order, which reads as a huge depth, or write a zero for "any".
uint16_t limit_legacy(uint16_t own, uint32_t peers) {
  const uint16_t most = std::clamp<uint16_t>(own, 1, kMostDepth);
  return peers == 0 ? most : limit(most, peers);
}

uint16_t offered(uint16_t depth) { return std::min<uint16_t>(depth, kDepthNotNegotiated - 1); }

/// Which RTR of those a peer-to-peer initiator can send we ask for (RFC 6581 9.1). The zero-length Write
/// costs neither side anything; it is also what to propose where none was named.
void choose_rtr(const EnhancedData& asked, EnhancedData& answer) {
  answer.peer_to_peer = asked.peer_to_peer;
  if (!asked.peer_to_peer) return;
  if (!asked.rtr_write && asked.rtr_read) {
    answer.rtr_read = true;
  } else if (!asked.rtr_write && asked.rtr_empty) {
    answer.rtr_empty = true;
  } else {
    answer.rtr_write = true;
  }
}

}  // namespace

SetupAnswer answer_request(const SetupOffer& offer, const MpaHeader& request, const MpaPrivateData& data) {
  SetupAnswer answer;
  MpaHeader reply{.kind = MpaFrameKind::reply};
  reply.crc = offer.want_crc || request.crc;
  // A revision we do not know gets the nearest one we do, so that the peer can tell why it was rejected.
  reply.revision = std::clamp<uint8_t>(request.revision, 1, kNewestRevision);

  Agreed agreed;
  agreed.crc = reply.crc;
  agreed.ord = std::max<uint16_t>(offer.max_outbound_reads, 1);
  agreed.ird = std::max<uint16_t>(offer.max_inbound_reads, 1);
  MpaPrivateData out;
  if (data.enhanced) {
    agreed.ord = limit_enhanced(offer.max_outbound_reads, data.enhanced->ird);
    agreed.ird = limit_enhanced(offer.max_inbound_reads, data.enhanced->ord);
    EnhancedData& e = out.enhanced.emplace();
    e.ord = offered(agreed.ord);
    // An initiator that will send no READ reads zero here as well; one place is kept for an RTR anyway.
    e.ird = data.enhanced->ord == 0 ? 0 : offered(agreed.ird);
    choose_rtr(*data.enhanced, e);
    agreed.rtr_empty = e.rtr_empty;
  }
  if (data.legacy) {
    // MS-SMBD would have a zero rejected, but nothing is gained by turning such a client away.
    const uint16_t ord = limit_legacy(offer.max_outbound_reads, data.legacy->ird);
    const uint16_t ird = limit_legacy(offer.max_inbound_reads, data.legacy->ord);
    out.legacy = LegacyDepths{.ird = ord, .ord = ird};  // as MS-SMBD 6.1 words it
    agreed.ord = std::min(agreed.ord, ord);
  }
  if (request.revision < 1 || request.revision > kNewestRevision) {
    answer.refusal = "the MPA request has a revision that is not supported";
    out = {};
  } else if (request.markers) {
    answer.refusal = "the MPA request asks for markers, which are not supported";
    out.legacy.reset();
  } else {
    answer.agreed = agreed;
  }
  reply.reject = !answer.agreed;
  answer.reply = encode_mpa_frame(reply, out);
  return answer;
}

MpaFrame make_request(const SetupOffer& offer) {
  const MpaHeader header{.kind = MpaFrameKind::request,
                         .crc = offer.want_crc,
                         .revision = std::clamp<uint8_t>(offer.revision, 1, 2)};
  MpaPrivateData data;
  if (header.revision >= 2) {
    // Client-server model (A clear): SMB Direct's client always speaks first, so no RTR is needed.
    data.enhanced =
        EnhancedData{.ird = offered(offer.max_inbound_reads), .ord = offered(offer.max_outbound_reads)};
  }
  data.legacy = LegacyDepths{.ird = offer.max_inbound_reads, .ord = offer.max_outbound_reads};
  return encode_mpa_frame(header, data);
}

std::expected<Agreed, SetupFailure> judge_reply(const SetupOffer& offer, const MpaHeader& reply,
                                                const MpaPrivateData& data) {
  if (reply.reject) return std::unexpected(SetupFailure{"the peer rejected the MPA request", {}});
  if (reply.revision != std::clamp<uint8_t>(offer.revision, 1, 2)) {
    return std::unexpected(
        SetupFailure{"the MPA reply has another revision than the request", terminate::kInvalidSetupFrame});
  }
  if (reply.revision >= 2 && !data.enhanced) {
    return std::unexpected(
        SetupFailure{"the MPA reply lacks the enhanced set-up data", terminate::kInvalidSetupFrame});
  }
  if (reply.markers) {
    return std::unexpected(SetupFailure{"the MPA reply asks for markers, which are not supported", {}});
  }
  Agreed agreed;
  agreed.crc = offer.want_crc || reply.crc;
  agreed.ird = std::max<uint16_t>(offer.max_inbound_reads, 1);
  agreed.ord = std::max<uint16_t>(offer.max_outbound_reads, 1);
  if (data.enhanced) {
    const EnhancedData& e = *data.enhanced;
    if (e.peer_to_peer) {
      return std::unexpected(
          SetupFailure{"the MPA reply asks for an RTR that was not offered", terminate::kNoMatchingRtr});
    }
    if (e.ord != kDepthNotNegotiated && e.ord > agreed.ird) {
      return std::unexpected(SetupFailure{"the peer's ORD is larger than the IRD that was offered",
                                          terminate::kInsufficientIrd});
    }
    agreed.ord = limit_enhanced(offer.max_outbound_reads, e.ird);
  }
  if (data.legacy && data.legacy->ord != 0) {
    agreed.ord = std::min(agreed.ord, limit(offer.max_outbound_reads, data.legacy->ord));
  }
  return agreed;
}

const char* mpa_error_text(MpaError error) {
  switch (error) {
    case MpaError::truncated:
      return "the MPA frame is cut short";
    case MpaError::wrong_key:
      return "the received data is not the MPA frame expected here (wrong key)";
    case MpaError::private_data_long:
      return "the MPA frame's private data is longer than 512 bytes";
    case MpaError::enhanced_missing:
      return "the MPA frame has the enhanced flag but is too short for the enhanced data";
  }
  return "malformed MPA frame";
}

std::span<std::byte> MpaFrameReader::want() { return std::span(bytes_).subspan(have_, need_ - have_); }

std::expected<bool, MpaError> MpaFrameReader::consumed(size_t n) {
  have_ += n;
  if (have_ < need_) return false;
  const auto all = std::span(std::as_const(bytes_)).first(have_);
  if (need_ == kMpaHeaderSize) {
    const auto header = parse_mpa_header(all);
    if (!header) return std::unexpected(header.error());
    if (header->kind != kind_) return std::unexpected(MpaError::wrong_key);
    header_ = *header;
    need_ += header_.private_data_length;
    if (have_ < need_) return false;
  }
  const auto data = parse_mpa_private_data(header_.enhanced, all.subspan(kMpaHeaderSize));
  if (!data) return std::unexpected(data.error());
  data_ = *data;
  return true;
}

}  // namespace smbdirect::workers::fabric::iwarp
