// SPDX-License-Identifier: MIT
// ServerTranslator, responses: from smbd to the RDMA client.
#include <algorithm>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/server_translator.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::expected<void, Violation> ServerTranslator::learn_negotiated(const Header& header,
                                                                  std::span<const std::byte> prefix) {
  const auto facts = parse_negotiate_response(header, prefix);
  if (!facts) return std::unexpected(facts.error());
  if (!*facts || dialect_ != 0) return {};
  dialect_ = (*facts)->dialect;
  max_read_ = std::min((*facts)->max_read_size, limits_.max_read_write_size);
  max_write_ = std::min((*facts)->max_write_size, limits_.max_read_write_size);
  return {};
}

std::expected<ServerTranslator::Settled, Violation> ServerTranslator::settle(
    const Header& header, std::span<const std::byte> prefix, uint64_t length) {
  Settled settled;
  if (is_interim(header)) return settled;  // carries credits; the final response is to come
  if (header.command == Command::negotiate) {
    if (const auto learned = learn_negotiated(header, prefix); !learned)
      return std::unexpected(learned.error());
  }
  InFlight* request = table_.find(header.message_id);
  if (request == nullptr || !request->channel) {
    // Data nobody asked for would be taken for the answer to something else.
    if (header.command == Command::read && !is_error(header.status)) {
      if (request == nullptr || request->command != Command::read)
        return std::unexpected(Violation::response_unmatched_data);
    }
    if (request != nullptr) {
      settled.released = request->reserved;
      table_.finish(*request);
    }
    return settled;
  }

  if (header.command != request->command) return std::unexpected(Violation::response_unmatched_data);
  settled.released = request->reserved;
  if (request->invalidate) settled.invalidate = request->token;
  if (length < kBodyAt + sizeof(uint16_t)) return std::unexpected(Violation::bad_body);
  const uint16_t structure_size = wire::load16(prefix, kBodyAt);
  if (request->command == Command::write) {
    if (structure_size != kWriteResponseStructureSize && structure_size != kErrorStructureSize)
      return std::unexpected(Violation::bad_structure_size);
  } else if (structure_size == kErrorStructureSize) {
    // Success without a READ body would leave the client to take it for one.
    if (header.status == 0) return std::unexpected(Violation::bad_structure_size);
  } else {
    if (is_error(header.status)) return std::unexpected(Violation::bad_structure_size);
    const auto data = parse_read_response(prefix, length);
    if (!data) return std::unexpected(data.error());
    if (header.is_signed()) return std::unexpected(Violation::signed_channel_response);
    if (data->length > request->length || request->refused)
      return std::unexpected(Violation::response_too_long);
    settled.place = true;
    settled.data_offset = data->offset;
    settled.data_length = data->length;
    if (data->length != 0) settled.to = request->descriptors();
  }
  table_.finish(*request);
  return settled;
}

std::expected<ResponsePlan, Violation> ServerTranslator::response(std::span<const std::byte> prefix,
                                                                  uint64_t total) {
  table_.recycle();
  ResponsePlan plan;
  if (prefix.size() < std::min<uint64_t>(total, kPrefixBytes)) return std::unexpected(Violation::too_short);
  prefix = prefix.first(std::min<uint64_t>(total, prefix.size()));
  if (total < kHeaderBytes) return std::unexpected(Violation::too_short);
  const ProtocolId kind = protocol_id(prefix);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) return plan;

  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (!header->response()) return std::unexpected(Violation::wrong_direction);
  if (!valid_next_command(header->next_command, total)) return std::unexpected(Violation::bad_next_command);
  if (header->next_command != 0) {
    plan.kind = ResponsePlan::Kind::gather;
    return plan;
  }
  const auto settled = settle(*header, prefix, total);
  if (!settled) return std::unexpected(settled.error());
  plan.invalidate = settled->invalidate;
  plan.released = settled->released;
  if (settled->place) {
    plan.kind = ResponsePlan::Kind::place;
    plan.data_offset = settled->data_offset;
    plan.data_length = settled->data_length;
    plan.to = settled->to;
    std::ranges::copy(prefix.first(plan.header.size()), plan.header.begin());
    store_read_response(plan.header, 0, settled->data_length);
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
