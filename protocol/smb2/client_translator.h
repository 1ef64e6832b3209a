// SPDX-License-Identifier: MIT
// The other direction, for smbdirect-connect --rdma-io: plain, unsigned READ and WRITE of an ordinary SMB
// client turned into RDMA-channel I/O on memory we expose, and the responses turned back (MS-SMB2 2.2.19,
// 2.2.21). Owned by one client-side connection, one thread; pure.
#pragma once

#include "protocol/smb2/server_translator.h"

namespace smbdirect::protocol::smb2 {

class ClientTranslator {
 public:
  struct Options {
    bool rdma_io = false;            // off: everything passes
    uint32_t threshold = 4096;       // READ/WRITE of at least this many bytes become RDMA-channel I/O
    uint32_t max_read_write_size{};  // agreed with the server (MS-SMBD MaxReadWriteSize); larger stays inline
    uint32_t max_descriptors = 256;  // per request
    uint64_t table_secret = 0;       // RequestTable's
    bool remote_invalidate = true;   // the server's SENDs can revoke our memory (channel 2 from 3.0.2 on)
  };
  explicit ClientTranslator(const Options& options);

  struct Request {
    enum class Kind : uint8_t {
      pass,
      rdma_channel_read,   // expose `length` bytes of memory for remote write, then rdma_channel_request()
      rdma_channel_write,  // the `length` payload bytes at `data_offset` of the PDU: expose for remote read
    };
    Kind kind = Kind::pass;
    uint64_t message_id{};
    uint32_t data_offset{};
    uint32_t length{};
  };
  /// prefix: the first min(total, kPrefixBytes) bytes of a request from the local client.
  /// Only single, unsigned, unencrypted READ/WRITE after a NEGOTIATE response with dialect >= 3.0 change.
  /// Bodies that smbd would refuse pass: it answers them. Errors: those of parse_header, wrong_direction,
  /// bad_next_command, rdma_channel_over_tcp.
  [[nodiscard]] std::expected<Request, Violation> request(std::span<const std::byte> prefix, uint64_t total);
  /// The RDMA-channel PDU for such a request: writes header, body and descriptors into `out`
  /// (112 + 16 x descriptors bytes, returned) and remembers `cookie` under its MessageId.
  /// Errors: those of RequestTable::add; bad_body when `memory` is empty, has too many or too short
  /// descriptors, or `out` is too small.
  [[nodiscard]] std::expected<size_t, Violation> rdma_channel_request(
      std::span<const std::byte> prefix, const Request& request, std::span<const BufferDescriptor> memory,
      uint64_t cookie, std::span<std::byte> out);

  /// In place of a READ or WRITE that can travel in no way: an ECHO under its MessageId and with its credits,
  /// which the server answers at once, and which response() makes into the error
  /// STATUS_INSUFFICIENT_RESOURCES. So the server's count of MessageIds has no hole, and nothing waits.
  /// Returns how many bytes of `out` it wrote. Errors: those of RequestTable::add; bad_body when `out` is too
  /// small or the request is none of these.
  [[nodiscard]] std::expected<size_t, Violation> refused_request(std::span<const std::byte> prefix,
                                                                 std::span<std::byte> out);
  static constexpr size_t kRefusedRequestBytes = 68;

  struct Response {
    enum class Kind : uint8_t {
      pass,         // deliver unchanged
      from_memory,  // deliver the header and then `length` bytes of the exposed memory of `cookie`
      refused,      // deliver the header, which is all
      swallow,      // it is for nobody: deliver nothing
    };
    Kind kind = Kind::pass;
    std::array<std::byte, 80> header{};
    size_t header_size{};
    uint32_t length{};
    std::optional<uint64_t> finished;  // cookie whose memory may be revoked (and, after delivery, freed)
  };
  /// prefix: the first min(total, kPrefixBytes) bytes of a PDU of `total` bytes from the server.
  [[nodiscard]] std::expected<Response, Violation> response(std::span<const std::byte> prefix,
                                                            uint64_t total);

  /// A NEGOTIATE under MessageId 0 was sent that is not the client's (multi_protocol.h): its answer is
  /// swallowed.
  void expect_refused_negotiate() { swallow_negotiate_ = true; }
  void set_max_read_write_size(uint32_t size) { options_.max_read_write_size = size; }
  void set_remote_invalidate(bool can) { options_.remote_invalidate = can; }
  [[nodiscard]] uint16_t dialect() const { return dialect_; }
  /// RDMA-channel requests without a final response yet.
  [[nodiscard]] size_t in_flight() const { return table_.size(); }

 private:
  Options options_;
  RequestTable table_;
  uint16_t dialect_ = 0;
  bool swallow_negotiate_ = false;
};

}  // namespace smbdirect::protocol::smb2
