// SPDX-License-Identifier: MIT
// Facts of one request's body: whether a READ or WRITE is complete, which Channel it names, how large its
// reply may be. Pure.
#pragma once

#include "protocol/smb2/file_order.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

inline constexpr uint64_t kReplyUnit = 64 * 1024;  // what one credit stands for (MS-SMB2 3.1.5.2)
/// The least a request costs: our entry for it, and an answer of fixed size. It is also all that a request
/// keeps while it waits (STATUS_PENDING): its answer may never come, and is charged when its bytes do.
inline constexpr uint64_t kReplyToken = 256;
/// More than any reply smbd can send; a field that claims more must not freeze the connection's budget.
inline constexpr uint64_t kReplyCap = 16 * 1024 * 1024 + kReplyUnit;

[[nodiscard]] constexpr bool is_io(Command command) {
  return command == Command::read || command == Command::write;
}
/// READ or WRITE: the fixed part is there and is one. Errors: bad_body, bad_structure_size.
[[nodiscard]] std::expected<void, Violation> check_io_body(std::span<const std::byte> element);
/// Of a READ or WRITE that passed check_io_body.
[[nodiscard]] uint32_t rdma_channel_of(Command command, std::span<const std::byte> element);
/// The file that a READ or WRITE, or another request that changes what they may do, is on. `all`: it is not
/// said, or it is on all of a tree or session.
struct OnFile {
  Holds holds = Holds::nothing;
  FileId file_id{};
};
[[nodiscard]] OnFile file_of(const Header& header, std::span<const std::byte> element);
/// Of a SESSION_SETUP: the session that smbd ends when it has let the client in; 0: there is none.
[[nodiscard]] uint64_t previous_session_of(std::span<const std::byte> element);
/// Bytes to reserve for the reply to this request (docs/internals.md: why admission is at the request): what
/// can really arrive soon. A CANCEL costs nothing, since nothing would give it back.
[[nodiscard]] uint64_t reply_cost(const Header& header, std::span<const std::byte> element);

}  // namespace smbdirect::protocol::smb2
