// SPDX-License-Identifier: MIT
// ServerTranslator, READs and WRITEs that are answered here, and what smbd is told of them.
#include "protocol/smb2/fields.h"
#include "protocol/smb2/server_translator.h"

namespace smbdirect::protocol::smb2 {

std::optional<DirectRequest> ServerTranslator::direct_request(std::span<const std::byte> pdu,
                                                              uint64_t total) const {
  if (!has_session_ || !negotiated_) return std::nullopt;
  const auto request = parse_direct_request(pdu, total,
                                            {.dialect = dialect_,
                                             .multi_credit = negotiated_->multi_credit(),
                                             .max_read = max_read_,
                                             .max_write = max_write_});
  // MS-SMB2 3.3.5.2.10: what smbd may have to refuse, it is to see.
  if (!request || !sequence_.is_newest(request->channel_sequence)) return std::nullopt;
  if (!usable(request->session_id)) return std::nullopt;
  return request;
}

void ServerTranslator::hold_file(const Ticket& ticket) {
  table_.for_each(ticket.requests, [](InFlight& request) { request.holds = Holds::file; });
}

bool ServerTranslator::begin_here(const Ticket& ticket, const DirectRequest& request) {
  bool begun = false;
  table_.for_each(ticket.requests, [&](InFlight& entry) {
    if (!entry.here && !entry.refused) {
      const auto counted = ledger_.begin(request.message_id, request.charge);
      entry.here = counted.has_value();
      entry.counted = counted.value_or(0);
    }
    begun = entry.here;
  });
  return begun;
}

AnsweredHere ServerTranslator::answered_here(const Ticket& ticket, const DirectRequest& request) {
  AnsweredHere here;
  table_.for_each(ticket.requests, [&](InFlight& entry) {
    if (entry.invalidate) here.invalidate = entry.token;
    here.to = entry.descriptors();
    here.released = entry.reserved;
    here.credits = ledger_.answered(request.message_id, request.charge, entry.counted);
    table_.finish(entry);
  });
  return here;
}

void ServerTranslator::told_pending(const Ticket& ticket) {
  table_.for_each(ticket.requests, [](InFlight& entry) { entry.told = true; });
}

/// An answer to an ECHO of the ledger's.
std::expected<void, Violation> ServerTranslator::swallow(const Header& header) {
  if (header.status != 0 || header.async() || header.is_signed())
    return std::unexpected(Violation::response_bad_echo);
  return {};
}

}  // namespace smbdirect::protocol::smb2
