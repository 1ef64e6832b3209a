// SPDX-License-Identifier: MIT
// ServerTranslator, requests: from the RDMA client to smbd.
#include <algorithm>
#include <array>
#include <utility>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/rdma_channel.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/server_translator.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

constexpr std::array<std::byte, 8> kZeros{};

void append(RewrittenRequest& out, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  out.total += bytes.size();
  if (!out.pieces.empty()) {
    Piece& back = out.pieces.back();
    if (back.fetch < 0 && back.bytes.data() + back.bytes.size() == bytes.data()) {
      back.bytes = {back.bytes.data(), back.bytes.size() + bytes.size()};
      return;
    }
  }
  out.pieces.push_back({bytes, -1});
}

}  // namespace

ServerTranslator::ServerTranslator(const Limits& limits)
    : limits_(limits), table_(limits.max_requests, limits.table_secret) {}

std::expected<RequestInfo, Violation> ServerTranslator::classify(std::span<const std::byte> prefix,
                                                                 uint64_t total) const {
  auto info = classify_request(prefix, total);
  if (info && info->opaque) {
    const uint64_t left = limits_.max_opaque_bytes - std::min(opaque_reserved_, limits_.max_opaque_bytes);
    info->reply_bytes = std::min(info->reply_bytes, left);
  }
  return info;
}

std::expected<Ticket, Violation> ServerTranslator::note(const RequestInfo& info) {
  table_.recycle();
  Ticket ticket;
  if (info.opaque) {
    ticket.opaque = true;
    opaque_reserved_ += info.reply_bytes;
    return ticket;
  }
  if (info.command == Command::cancel) {
    ticket.cancels = 1;
    return ticket;
  }
  sequence_.saw(info.channel_sequence);
  const auto request = table_.add(info.message_id);
  if (!request) return std::unexpected(request.error());
  (*request)->command = info.command;
  (*request)->credit_charge = info.credit_charge;
  (*request)->length = info.length;
  (*request)->holds = info.holds;
  (*request)->file_id = info.file_id;
  (*request)->reserved = info.reply_bytes;
  (*request)->previous_session = info.previous_session;
  table_.join(ticket.requests, **request);
  return ticket;
}

void ServerTranslator::forwarded(const Ticket& ticket, uint64_t at_time) {
  table_.for_each(ticket.requests, [&](InFlight& request) {
    ledger_.given_up(std::exchange(request.counted, uint16_t{0}));
    ledger_.forwarded(request.message_id, request.credit_charge);
    order_.begin(request.holds, request.file_id);
  });
  table_.forwarded(ticket.requests, at_time);
  cancels_ += ticket.cancels;
  if (!ticket.opaque) return;
  opaque_seen_ = true;
  ledger_.lose_count();
}

void ServerTranslator::forget(InFlight& request) {
  if (request.forwarded) order_.end(request.holds, request.file_id);
  table_.finish(request);
}

std::expected<void, Violation> ServerTranslator::request(std::span<std::byte> pdu, RewrittenRequest& out) {
  out.clear();
  table_.recycle();
  const ProtocolId kind = protocol_id(pdu);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) {
    const auto info = classify(pdu.first(std::min(pdu.size(), kPrefixBytes)), pdu.size());
    if (!info) return std::unexpected(info.error());
    const auto noted = note(*info);
    if (!noted) return std::unexpected(noted.error());
    append(out, pdu);
    out.reply_bytes = info->reply_bytes;
    out.ticket = *noted;
    return {};
  }
  for (std::span<std::byte> rest = pdu; !rest.empty();) {
    const auto element = parse_element(rest);
    if (!element) return std::unexpected(element.error());
    if (element->header.response()) return std::unexpected(Violation::wrong_direction);
    const auto bytes = rest.first(element->length);
    rest = rest.subspan(element->length);
    if (const auto done = request_element(*element, bytes, rest.size(), out); !done)
      return std::unexpected(done.error());
  }
  if (out.ticket.cancels != 0) spare(out);
  if (out.total == 0) return std::unexpected(Violation::too_short);
  if (out.total > kMaxStreamPdu) return std::unexpected(Violation::bad_body);
  return {};
}

std::expected<void, Violation> ServerTranslator::request_element(const Element& element,
                                                                 std::span<std::byte> bytes, uint64_t after,
                                                                 RewrittenRequest& out) {
  const Header& header = element.header;
  uint32_t channel = kChannelNone;
  if (is_marked_copychunk(header, bytes)) return std::unexpected(Violation::marked_resume_key);
  if (is_io(header.command)) {
    if (const auto body = check_io_body(bytes); !body) return std::unexpected(body.error());
    channel = rdma_channel_of(header.command, bytes);
    // Neither its signature nor the reply's would survive the rewriting, and smbd ignores Channel: it would
    // answer a READ inline and a WRITE with success, nothing written.
    if (channel != kChannelNone && header.is_signed())
      return std::unexpected(Violation::signed_rdma_channel_request);
  }
  if (header.command == Command::cancel) {
    ++out.ticket.cancels;
    append(out, bytes);
    return {};
  }
  if (header.command == Command::negotiate) {
    const auto offered = parse_negotiate_request(bytes);
    if (!offered) return std::unexpected(offered.error());
    offered_ = *offered;
  }
  const auto added = table_.add(header.message_id);
  if (!added) return std::unexpected(added.error());
  sequence_.saw(header.channel_sequence());
  InFlight* request = *added;
  table_.join(out.ticket.requests, *request);
  request->command = header.command;
  const OnFile on = file_of(header, bytes);
  request->holds = on.holds;
  request->file_id = on.file_id;
  request->credit_charge = header.credit_charge;
  request->reserved = reply_cost(header, bytes);
  out.reply_bytes += request->reserved;
  if (channel == kChannelNone) {
    if (is_io(header.command)) request->length = wire::load32(bytes, read_at::kLength);
    append(out, bytes);
    return {};
  }

  const RdmaChannelRequest wanted = parse_rdma_channel(header.command, bytes);
  const bool write = header.command == Command::write;
  request->rdma_channel = true;
  request->length = wanted.length;
  // Without a session smbd refuses whatever it is; nothing is fetched or kept for one.
  bool accept = has_session_ && acceptable(wanted, rules_for(header.command));
  if (accept && write) {
    // Channel data inflates the PDU, whose length on smbd's stream has 24 bits. What follows in the chain may
    // still grow by the padding of its READs: 8 bytes in at least 112.
    const uint64_t needed =
        out.total + wire::align8(write_at::kBuffer + uint64_t{wanted.length}) + after + after / 8;
    accept = needed <= kMaxStreamPdu;
  }
  if (accept && !write) {  // a WRITE's memory is done with before the answer comes
    const auto memory = table_.descriptors_for(*request, wanted.info.size() / kDescriptorBytes);
    accept = !memory.empty();
    for (size_t i = 0; i < memory.size(); ++i)
      memory[i] = load_descriptor(wanted.info.subspan(i * kDescriptorBytes));
  }
  if (wants_invalidate(wanted, dialect_)) {
    request->invalidate = true;
    request->token = load_descriptor(wanted.info).token;
  }
  request->refused = !accept;
  if (!accept) {
    ++refused_;
    out.reply_bytes -= request->reserved;
    request->reserved = kReplyToken;  // an error response, whatever Length claims
    out.reply_bytes += request->reserved;
  }
  rewrite(*request, wanted.info, element.last(), bytes, out);
  return {};
}

/// smbd answers nothing of a compound with a CANCEL in it.
void ServerTranslator::spare(RewrittenRequest& out) {
  table_.for_each(out.ticket.requests, [&](InFlight& request) {
    out.reply_bytes -= request.reserved - std::min(request.reserved, kReplyToken);
    request.reserved = std::min(request.reserved, kReplyToken);
  });
}

void ServerTranslator::rewrite(const InFlight& request, std::span<const std::byte> info, bool last,
                               std::span<std::byte> bytes, RewrittenRequest& out) {
  uint64_t size = 0;  // of the rewritten element, without padding
  uint32_t fetched = 0;
  if (request.command == Command::read) {
    // smbd wants one byte of Buffer even when it is empty (MS-SMB2 2.2.19).
    size = read_at::kBuffer + 1;
    // Above any MaxReadSize: the first thing smbd checks, before CreditCharge.
    if (request.refused) wire::store(bytes, read_at::kLength, ~uint32_t{0});
    // A compressed reply could not be placed. (Nobody asks: compression is not used over RDMA.)
    bytes[read_at::kFlags] &= ~std::byte{read_at::kFlagRequestCompressed};
    wire::store(bytes, read_at::kChannel, kChannelNone);
    wire::store(bytes, read_at::kRemainingBytes, uint32_t{0});
    wire::store(bytes, read_at::kChannelInfoOffset, uint16_t{0});
    wire::store(bytes, read_at::kChannelInfoLength, uint16_t{0});
  } else {
    if (!request.refused) fetched = request.length;
    size = uint64_t{write_at::kBuffer} + fetched;
    // smbd accepts no DataOffset but the end of the fixed part; 0 makes it answer INVALID_PARAMETER, the
    // first thing it checks.
    const size_t data_offset = request.refused ? 0 : write_at::kBuffer;
    wire::store(bytes, write_at::kDataOffset, static_cast<uint16_t>(data_offset));
    wire::store(bytes, write_at::kLength, fetched);
    wire::store(bytes, write_at::kChannel, kChannelNone);
    wire::store(bytes, write_at::kRemainingBytes, uint32_t{0});
    wire::store(bytes, write_at::kChannelInfoOffset, uint16_t{0});
    wire::store(bytes, write_at::kChannelInfoLength, uint16_t{0});
  }
  const uint64_t padded = last ? size : wire::align8(size);
  wire::store(bytes, header_at::kNextCommand, last ? uint32_t{0} : static_cast<uint32_t>(padded));

  append(out, bytes.first(read_at::kBuffer));
  if (fetched != 0) {
    out.pieces.push_back({{}, static_cast<int32_t>(out.fetches.size())});
    out.fetches.emplace_back(info, fetched);
    out.total += fetched;
  }
  append(out, std::span(kZeros).first(padded - read_at::kBuffer - fetched));
}

}  // namespace smbdirect::protocol::smb2
