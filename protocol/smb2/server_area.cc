// SPDX-License-Identifier: MIT
// ServerTranslator, READs and WRITEs whose data goes through memory shared with smbd: the carrier that smbd
// gets, and its answers as those to what the client asked.
#include <algorithm>
#include <cstring>

#include "protocol/smb2/answer.h"
#include "protocol/smb2/area_carrier.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/rdma_channel.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/server_translator.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

/// A header of smbd's, as that of the answer to what the client asked.
void take_header(ResponsePlan& plan, std::span<const std::byte> prefix, Command command) {
  std::ranges::copy(prefix.first(kHeaderBytes), plan.header.begin());
  std::fill(plan.header.begin() + kHeaderBytes, plan.header.end(), std::byte{0});
  wire::store(std::span(plan.header), header_at::kCommand, uint16_t(command));
  plan.kind = ResponsePlan::Kind::replace;
  plan.command = command;
}

void put_error(ResponsePlan& plan, uint32_t status) {
  wire::store(std::span(plan.header), header_at::kStatus, status);
  wire::store(std::span(plan.header), kBodyAt, kErrorStructureSize);
  plan.header_bytes = kErrorBytes;
}

void put_written(ResponsePlan& plan, uint32_t count) {
  wire::store(std::span(plan.header), kBodyAt, write_response_at::kStructureSize);
  wire::store(std::span(plan.header), write_response_at::kCount, count);
}

void put_read(ResponsePlan& plan, uint32_t count) {
  wire::store(std::span(plan.header), kBodyAt, read_response_at::kStructureSize);
  store_read_response(plan.header, 0, count);
}

}  // namespace

std::optional<AreaIo> ServerTranslator::area_io(std::span<const std::byte> pdu) const {
  if (!has_session_ || protocol_id(pdu) != ProtocolId::smb2) return std::nullopt;
  const auto element = parse_element(pdu);
  if (!element || !element->last() || !is_io(element->header.command)) return std::nullopt;
  const Header& header = element->header;
  if (header.response() || header.async() || header.related() || header.is_signed()) return std::nullopt;
  // To smbd an IOCTL is one of those that change something, a READ is not (MS-SMB2 3.3.5.2.10).
  if (header.command == Command::read && (header.replay() || !sequence_.is_newest(header.channel_sequence())))
    return std::nullopt;
  if (!check_io_body(pdu) || rdma_channel_of(header.command, pdu) == kChannelNone) return std::nullopt;
  const RdmaChannelRequest wanted = parse_rdma_channel(header.command, pdu);
  if (wanted.length == 0 || !acceptable(wanted, rules_for(header.command))) return std::nullopt;
  // MS-SMB2 3.3.5.2.5: smbd refuses what was not paid for, where it can see the length.
  if (wanted.length > kReplyUnit * std::max<uint64_t>(header.credit_charge, 1)) return std::nullopt;
  return AreaIo{.command = header.command,
                .session_id = header.session_id,
                .tree_id = wire::load32(pdu, header_at::kTreeId),
                .length = wanted.length};
}

std::expected<bool, Violation> ServerTranslator::request_by_area(std::span<const std::byte> pdu,
                                                                 const AreaPlace& place,
                                                                 RewrittenRequest& out) {
  out.clear();
  table_.recycle();
  const auto header = parse_header(pdu);
  if (!header) return std::unexpected(header.error());
  const RdmaChannelRequest wanted = parse_rdma_channel(header->command, pdu);
  const auto added = table_.add(header->message_id);
  if (!added) return std::unexpected(added.error());
  InFlight& request = **added;
  sequence_.saw(header->channel_sequence());
  if (header->command == Command::read) {
    const auto memory = table_.descriptors_for(request, wanted.info.size() / kDescriptorBytes);
    if (memory.empty()) {
      table_.finish(request);
      return false;
    }
    for (size_t i = 0; i < memory.size(); ++i)
      memory[i] = load_descriptor(wanted.info.subspan(i * kDescriptorBytes));
    request.minimum = wire::load32(pdu, read_at::kMinimumCount);
  } else {
    out.fetches.emplace_back(wanted.info, wanted.length);
  }
  table_.join(out.ticket.requests, request);
  request.command = header->command;
  request.credit_charge = header->credit_charge;
  request.rdma_channel = request.by_area = true;
  request.length = wanted.length;
  request.area_offset = place.offset;
  request.file_id = file_of(*header, pdu).file_id;
  request.reserved = out.reply_bytes = kReplyToken;
  if (wants_invalidate(wanted, dialect_)) {
    request.invalidate = true;
    request.token = load_descriptor(wanted.info).token;
  }
  out.area = place;
  out.carrier = encode_carrier(header->command, pdu, wanted.length, place, dialect_);
  out.pieces.push_back({.bytes = out.carrier});
  out.total = out.carrier.size();
  return true;
}

/// smbd's answer to a carrier, interim or final.
std::expected<void, Violation> ServerTranslator::settle_carrier(InFlight& request, const Header& header,
                                                                std::span<const std::byte> prefix,
                                                                uint64_t length, ResponsePlan& plan) {
  if (header.is_signed()) return std::unexpected(Violation::signed_rdma_channel_response);
  ledger_.granted(header.credits);
  const auto answer = check_answer(request, header, prefix, length);
  if (!answer) return std::unexpected(answer.error());
  take_header(plan, prefix, request.command);
  if (request.told && !header.async()) make_async(plan.header, header.message_id);
  plan.area_offset = request.area_offset;
  plan.area_length = request.length;
  if (*answer == Answer::interim) {
    put_error(plan, kStatusPending);
    return {};
  }
  // What a READ would not have been told: another of the client's channels was faster.
  if (header.status == kStatusFileNotAvailable && request.command == Command::read)
    return std::unexpected(Violation::response_old_sequence);
  const auto carried = parse_carrier_answer(header, prefix, length);
  if (!carried) return std::unexpected(carried.error());
  if (carried->count > request.length) return std::unexpected(Violation::response_too_long);
  sessions_.answered(request.command, header.status, header.session_id);
  plan.final = true;
  // The module answers when its I/O has ended. What smbd ends by itself when it has waited, or because it was
  // cancelled, may have I/O in a thread that goes on: its place is not used again.
  const bool by_smbd = is_error(header.status);
  plan.area_released = !by_smbd || !(request.pending || header.status == kStatusCancelled);
  if (request.invalidate) plan.invalidate = request.token;
  const bool read = request.command == Command::read;
  plan.moved = carried->count;
  // MS-SMB2 3.3.5.12: fewer bytes than MinimumCount are none. smbd cannot know it.
  const bool too_few = read && carried->status == 0 && carried->count < request.minimum;
  if (too_few || carried->status != 0) {
    put_error(plan, too_few ? kStatusEndOfFile : carried->status);
  } else if (read) {
    plan.data_length = carried->count;
    if (carried->count != 0) plan.to = request.descriptors();
    put_read(plan, carried->count);
  } else {
    put_written(plan, carried->count);
  }
  plan.released = request.reserved;
  if (!request.pending) plan.answered = Answered{request.command, request.forwarded_at};
  if (!read && plan.moved != 0) plan.written = request.file_id;
  forget(request);
  return {};
}

}  // namespace smbdirect::protocol::smb2
