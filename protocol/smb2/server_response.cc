// SPDX-License-Identifier: MIT
// ServerTranslator, responses: from smbd to the RDMA client.
#include <algorithm>

#include "protocol/smb2/answer.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/server_translator.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::expected<void, Violation> ServerTranslator::learn_negotiated(const Header& header,
                                                                  std::span<const std::byte> prefix) {
  const auto facts = parse_negotiate_response(header, prefix);
  if (!facts) return std::unexpected(facts.error());
  if (!*facts) return {};
  // MS-SMB2 3.3.5.4: never twice; the client would go by another dialect than we.
  if (dialect_ != 0 || !offered_.offers((*facts)->dialect))
    return std::unexpected(Violation::response_bad_dialect);
  negotiated_ = **facts;
  dialect_ = (*facts)->dialect;
  ledger_.multi_credit((*facts)->multi_credit());
  max_read_ = std::min((*facts)->max_read_size, limits_.max_read_write_size);
  max_write_ = std::min((*facts)->max_write_size, limits_.max_read_write_size);
  return {};
}

/// A response that is not for a request in the table.
std::expected<void, Violation> ServerTranslator::unmatched(const Header& header) {
  if (header.message_id == kUnsolicitedMessageId) {
    const bool notification =
        header.command == Command::oplock_break || header.command == Command::server_to_client_notification;
    if (!notification || header.status != 0) return std::unexpected(Violation::response_bad_notification);
    return {};
  }
  // An encrypted request, whose MessageId we cannot know, may be refused in the clear.
  if (!opaque_seen_) return std::unexpected(Violation::response_unmatched);
  // Unrequested data would be taken for the response to another request.
  if (header.command == Command::read && !is_error(header.status))
    return std::unexpected(Violation::response_unmatched_data);
  return {};
}

std::expected<ServerTranslator::Settled, Violation> ServerTranslator::settle(
    const Header& header, std::span<const std::byte> prefix, uint64_t length) {
  Settled settled;
  ledger_.granted(header.credits);
  // smbd never answers a CANCEL but to refuse it (unsigned where signing is mandatory), and then under the
  // MessageId of the request that was to be cancelled and goes on.
  if (header.command == Command::cancel) {
    if (!is_error(header.status) || (cancels_ == 0 && !opaque_seen_))
      return std::unexpected(Violation::response_unmatched);
    if (cancels_ != 0) --cancels_;
    return settled;
  }
  InFlight* request = table_.find(header.message_id);
  if (request == nullptr) {
    if (const auto passes = unmatched(header); !passes) return std::unexpected(passes.error());
    return settled;
  }
  // What goes by an area was alone in its PDU, and so is the answer.
  if (request->by_area) return std::unexpected(Violation::response_wrong_command);
  const auto answer = check_answer(*request, header, prefix, length);
  if (!answer) return std::unexpected(answer.error());
  if (*answer == Answer::interim) {  // it carries credits; the final response is to come
    // A READ's data mostly follows at once (smbd says so of what takes more than half a millisecond): it must
    // find room, because smbd's socket must be drained. For a READ of a pipe the reservation is dropped after
    // a while.
    const bool soon = request->command == Command::read;
    const uint64_t kept = soon ? request->reserved : std::min(request->reserved, kReplyToken);
    settled.released = request->reserved - kept;
    request->reserved = kept;
    return settled;
  }
  if (const auto finished = finish(*request, header, prefix, length, settled); !finished)
    return std::unexpected(finished.error());
  sessions_.answered(request->command, header.status, header.session_id);
  settled.released = request->reserved;
  if (!request->pending) settled.answered = Answered{request->command, request->forwarded_at};
  settled.previous_session = request->previous_session;
  settled.told = request->told && !header.async();
  const bool wrote = request->command == Command::write && request->length != 0;
  if (wrote && !is_error(header.status)) settled.written = request->file_id;
  forget(*request);
  return settled;
}

std::expected<void, Violation> ServerTranslator::finish(InFlight& request, const Header& header,
                                                        std::span<const std::byte> prefix, uint64_t length,
                                                        Settled& settled) {
  if (request.command == Command::negotiate) return learn_negotiated(header, prefix);
  if (request.command == Command::session_setup && header.status == 0) {
    has_session_ = settled.session_set_up = true;
    return {};
  }
  if (!is_io(request.command)) return {};

  if (request.invalidate) settled.invalidate = request.token;
  const auto data = check_io_answer(request, header, prefix, length);
  if (!data) return std::unexpected(data.error());
  if (!*data) return {};
  if (!request.rdma_channel) return {};
  if (header.is_signed()) return std::unexpected(Violation::signed_rdma_channel_response);
  settled.place = true;
  settled.data_offset = (*data)->offset;
  settled.data_length = (*data)->length;
  if ((*data)->length != 0) settled.to = request.descriptors();
  return {};
}

std::expected<ResponsePlan, Violation> ServerTranslator::response(std::span<const std::byte> prefix,
                                                                  uint64_t total) {
  table_.recycle();
  ResponsePlan plan;
  if (prefix.size() < std::min<uint64_t>(total, kPrefixBytes)) return std::unexpected(Violation::too_short);
  prefix = prefix.first(std::min<uint64_t>(total, prefix.size()));
  if (total < kHeaderBytes) return std::unexpected(Violation::too_short);
  const ProtocolId kind = protocol_id(prefix);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) {
    // Which request it answers is not known, nor whether it is interim: each releases the reservation of one
    // request.
    plan.released = std::min(opaque_reserved_, kReplyUnit);
    opaque_reserved_ -= plan.released;
    return plan;
  }

  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (!header->response()) return std::unexpected(Violation::wrong_direction);
  plan.command = header->command;
  if (!valid_next_command(header->next_command, total)) return std::unexpected(Violation::bad_next_command);
  if (header->next_command != 0) {
    plan.kind = ResponsePlan::Kind::gather;
    return plan;
  }
  if (header->command == Command::echo && ledger_.swallows(header->message_id, header->credits)) {
    plan.kind = ResponsePlan::Kind::swallow;
    if (const auto one = swallow(*header); !one) return std::unexpected(one.error());
    return plan;
  }
  if (InFlight* const carried =
          header->command == Command::cancel ? nullptr : table_.find(header->message_id);
      carried != nullptr && carried->by_area) {
    if (const auto told = settle_carrier(*carried, *header, prefix, total, plan); !told)
      return std::unexpected(told.error());
    return plan;
  }
  const auto settled = settle(*header, prefix, total);
  if (!settled) return std::unexpected(settled.error());
  plan.invalidate = settled->invalidate;
  plan.released = settled->released;
  plan.session_set_up = settled->session_set_up;
  plan.answered = settled->answered;
  plan.written = settled->written;
  plan.previous_session = settled->previous_session;
  if (settled->place) {
    plan.kind = ResponsePlan::Kind::place;
    plan.data_offset = settled->data_offset;
    plan.data_length = settled->data_length;
    plan.to = settled->to;
    std::ranges::copy(prefix.first(plan.header.size()), plan.header.begin());
    store_read_response(plan.header, 0, settled->data_length);
  }
  if (settled->told) {
    plan.told = true;
    if (!settled->place) std::ranges::copy(prefix.first(kHeaderBytes), plan.header.begin());
    make_async(plan.header, header->message_id);
  }
  return plan;
}

std::expected<void, Violation> ServerTranslator::response_chain(std::span<std::byte> pdu, ChainPlan& out) {
  out.clear();
  table_.recycle();
  if (pdu.empty()) return std::unexpected(Violation::too_short);
  for (std::span<std::byte> rest = pdu; !rest.empty();) {
    const auto element = parse_element(rest);
    if (!element) return std::unexpected(element.error());
    if (!element->header.response()) return std::unexpected(Violation::wrong_direction);
    std::span<std::byte> bytes = rest.first(element->length);
    rest = rest.subspan(element->length);

    const auto settled = settle(element->header, bytes, element->length);
    if (!settled) return std::unexpected(settled.error());
    out.released += settled->released;
    out.session_set_up = out.session_set_up || settled->session_set_up;
    if (settled->answered) out.answered.push_back(*settled->answered);
    // A client may name one token in several requests; it is gone with the first invalidation.
    if (settled->invalidate &&
        std::ranges::find(out.invalidate, *settled->invalidate) == out.invalidate.end())
      out.invalidate.push_back(*settled->invalidate);
    if (settled->place) {
      if (settled->data_length != 0)
        out.placements.push_back({bytes.subspan(settled->data_offset, settled->data_length), settled->to});
      bytes = bytes.first(read_response_at::kBuffer);
      static_assert(read_response_at::kBuffer % 8 == 0);
      store_read_response(bytes, 0, settled->data_length);
      if (!element->last()) wire::store(bytes, header_at::kNextCommand, static_cast<uint32_t>(bytes.size()));
    }
    out.total += bytes.size();
    if (!out.pieces.empty() &&
        out.pieces.back().bytes.data() + out.pieces.back().bytes.size() == bytes.data())
      out.pieces.back().bytes = {out.pieces.back().bytes.data(),
                                 out.pieces.back().bytes.size() + bytes.size()};
    else
      out.pieces.push_back({bytes, -1});
  }
  return {};
}

}  // namespace smbdirect::protocol::smb2
