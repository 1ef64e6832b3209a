// SPDX-License-Identifier: MIT
#include "protocol/smb2/classify.h"

#include <algorithm>

#include "protocol/smb2/area_carrier.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

/// A CANCEL in its TRANSFORM_HEADER (MS-SMB2 2.2.41, 2.2.30). What else is as short has an answer as short.
constexpr uint64_t kOpaqueCancelBytes = 52 + kHeaderBytes + 4;

}  // namespace

std::expected<RequestInfo, Violation> classify_request(std::span<const std::byte> prefix, uint64_t total) {
  if (prefix.size() < std::min<uint64_t>(total, kPrefixBytes)) return std::unexpected(Violation::too_short);
  prefix = prefix.first(std::min<uint64_t>(total, prefix.size()));
  if (total > kMaxStreamPdu) return std::unexpected(Violation::too_long);

  const ProtocolId kind = protocol_id(prefix);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) {
    // smbd refuses what is shorter than a header anyway; here it would only hide a broken peer.
    if (total < kHeaderBytes) return std::unexpected(Violation::too_short);
    RequestInfo info;
    info.opaque = true;
    info.holds = Holds::all;
    info.reply_bytes = total <= kOpaqueCancelBytes ? 0 : kReplyUnit;
    return info;
  }
  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (header->response()) return std::unexpected(Violation::wrong_direction);
  if (!valid_next_command(header->next_command, total)) return std::unexpected(Violation::bad_next_command);

  RequestInfo info;
  info.command = header->command;
  info.message_id = header->message_id;
  info.session_id = header->session_id;
  if (!header->async()) info.tree_id = wire::load32(prefix, header_at::kTreeId);
  info.credit_charge = header->credit_charge;
  info.channel_sequence = header->channel_sequence();
  const bool compound = header->next_command != 0;
  // A chain's first element may end within the prefix; what follows is not its body.
  const auto element =
      compound ? prefix.first(std::min<size_t>(prefix.size(), header->next_command)) : prefix;
  if (is_marked_copychunk(*header, element)) return std::unexpected(Violation::marked_resume_key);
  if (is_io(header->command)) {
    if (const auto body = check_io_body(element); !body) return std::unexpected(body.error());
    const bool channel = rdma_channel_of(header->command, element) != kChannelNone;
    if (channel && header->is_signed()) return std::unexpected(Violation::signed_rdma_channel_request);
    info.rdma_channel = channel && !compound;
    info.signed_io = header->is_signed();
    static_assert(read_at::kLength == write_at::kLength);
    info.length = wire::load32(element, read_at::kLength);
  }
  // Clients that come again send it alone.
  if (header->command == Command::session_setup && !compound)
    info.previous_session = previous_session_of(element);
  const OnFile on = file_of(*header, element);
  info.file_id = on.file_id;
  info.holds = on.holds;
  info.reply_bytes = reply_cost(*header, element);
  if (compound || info.rdma_channel || header->command == Command::negotiate)
    info.route = RequestInfo::Route::gather;
  // A related READ or WRITE names its file by the request before it: it must not change places.
  info.may_pass = info.route == RequestInfo::Route::stream && !header->related() &&
                  (is_io(header->command) || header->command == Command::echo);
  return info;
}

}  // namespace smbdirect::protocol::smb2
