// SPDX-License-Identifier: MIT
#include "protocol/smb2/answer.h"

#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::expected<Answer, Violation> check_answer(InFlight& request, const Header& header,
                                              std::span<const std::byte> prefix, uint64_t length) {
  if (!request.forwarded) return std::unexpected(Violation::response_too_early);
  const Command asked = request.by_area ? Command::ioctl : request.command;
  if (header.command != asked) return std::unexpected(Violation::response_wrong_command);
  // MS-SMB2 3.3.4.1: what began asynchronously ends so.
  if (request.pending && (!header.async() || header.async_id != request.async_id))
    return std::unexpected(Violation::response_bad_pending);
  if (header.status != kStatusPending) return Answer::final;
  if (!header.async()) return std::unexpected(Violation::response_bad_pending);
  if (length < kBodyAt + sizeof(uint16_t)) return std::unexpected(Violation::bad_body);
  if (wire::load16(prefix, kBodyAt) != kErrorStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  request.pending = true;
  request.async_id = header.async_id;
  return Answer::interim;
}

std::expected<std::optional<ReadResponse>, Violation> check_io_answer(const InFlight& request,
                                                                      const Header& header,
                                                                      std::span<const std::byte> prefix,
                                                                      uint64_t length) {
  if (length < kBodyAt + sizeof(uint16_t)) return std::unexpected(Violation::bad_body);
  const bool error_body = wire::load16(prefix, kBodyAt) == kErrorStructureSize;
  if (error_body && header.status != 0) return std::nullopt;
  // Success without a body would leave the client to take an error's for one, and the reverse.
  if (error_body || is_error(header.status)) return std::unexpected(Violation::bad_structure_size);
  if (request.command == Command::write) {
    const auto written = parse_write_response(prefix, length);
    if (!written) return std::unexpected(written.error());
    if (*written > request.length || request.refused) return std::unexpected(Violation::response_too_long);
    return std::nullopt;
  }
  const auto data = parse_read_response(prefix, length);
  if (!data) return std::unexpected(data.error());
  if (data->length > request.length || request.refused) return std::unexpected(Violation::response_too_long);
  return *data;
}

}  // namespace smbdirect::protocol::smb2
