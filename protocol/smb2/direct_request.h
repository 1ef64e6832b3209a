// SPDX-License-Identifier: MIT
// READs and WRITEs that can be done here, on the open file itself, instead of by smbd (direct I/O): which
// they are, by what they say, and the answers to them. Pure. Whether the file is here is another question
// (workers/smbd/direct_files.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

struct DirectRequest {
  Command command{};  // read or write
  uint64_t message_id{};
  uint16_t charge{};  // MessageIds that it takes, 1 and more
  uint64_t session_id{};
  uint32_t tree_id{};
  FileId file_id{};
  uint16_t channel_sequence{};
  uint64_t offset{};
  uint32_t length{};   // 1 and more; offset + length is at most 2^63 - 1
  uint32_t minimum{};  // READ: MinimumCount, at most length
  bool rdma_channel = false;
  uint32_t data_offset{};  // WRITE, inline: where in the PDU its bytes begin
  bool told = false;       // the client has an interim response: what follows is asynchronous
};

struct DirectLimits {
  uint16_t dialect = 0;
  bool multi_credit = false;  // SMB2_GLOBAL_CAP_LARGE_MTU was agreed
  uint32_t max_read = 0;
  uint32_t max_write = 0;
};
/// From its header and fixed part, before anything is rewritten. nullopt: it is for smbd, because it is
/// signed, related, a compound, a replay, asynchronous, without data, not paid for, larger than was agreed,
/// compressed, to be on disk before it is answered, or wrong in any way that smbd would answer with an error.
/// pdu: all of it, or its first kPrefixBytes and more when it is an inline WRITE of `total` bytes.
[[nodiscard]] std::optional<DirectRequest> parse_direct_request(std::span<const std::byte> pdu,
                                                                uint64_t total, const DirectLimits& limits);

/// The answer as smbd would have written it: the header of the request turned round, with the credits that
/// the SequenceLedger says. A READ's data follows (inline) or was placed.
struct DirectAnswer {
  std::array<std::byte, 80> bytes{};
  size_t size = 0;
  [[nodiscard]] std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};
/// Ahead of that, where it takes time: STATUS_PENDING (MS-SMB2 3.3.4.2). AsyncId is the MessageId, as in
/// smbd, which may have to go on with the request; the credits come with the end. request.told is set.
[[nodiscard]] DirectAnswer answer_interim(DirectRequest& request, std::span<const std::byte> header);
/// header: the request's, kHeaderBytes and more. count: 1 and more.
[[nodiscard]] DirectAnswer answer_read(const DirectRequest& request, std::span<const std::byte> header,
                                       uint32_t count, uint16_t credits);
[[nodiscard]] DirectAnswer answer_write(const DirectRequest& request, std::span<const std::byte> header,
                                        uint32_t count, uint16_t credits);

}  // namespace smbdirect::protocol::smb2
