// SPDX-License-Identifier: MIT
// The native channel's frames: the messages between a worker (or the daemon) and a peer, a server that links
// libsmbdirect-peer, over UNIX stream sockets. Pure functions over bytes; neither side trusts the other.
//
// Three kinds of socket carry them, all with the same 16-byte header (little-endian):
//     length u32 (of what follows the header)   type u16   count u16   id u64
//
// A registration: a peer's main process connects to the daemon's control socket and sends kRegisterLine; from
// then on there are frames: REGISTERED or REFUSED, and a START for each client that no process serves yet.
//
// A channel: one client connection. A child that was started for it connects to the worker's socket and sends
// HELLO; a process that already serves the client gets a connected socket with CHANNEL instead. Then:
//     worker: FACTS (with the data area's descriptor)    peer: ATTACHED (the kernel names its process)
//     worker: PDU, DONE, CHANNEL                         peer: PDU, RDMA_READ, RDMA_WRITE
// ATTACHED is the first frame that a peer sends after HELLO; a process that has taken the channel over sends
// it again. The end of the socket is the end of the client's connection, in both directions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/proxy/cookie.h"
#include "protocol/smb2/descriptor.h"
#include "protocol/smb2/ids.h"

namespace smbdirect::protocol::proxy {

inline constexpr uint32_t kVersion = 1;
inline constexpr std::string_view kRegisterLine = "{\"command\":\"register\"}\n";

/// Why bytes are refused.
enum class FrameError : uint8_t { unknown_type, bad_length, bad_version, bad_value };
[[nodiscard]] std::string_view frame_error_text(FrameError error);

enum class FrameType : uint16_t {
  // worker -> peer
  facts = 1,  // descriptor: the area; body: Facts
  pdu,        // body: one SMB2 message of the client's
  done,       // id: of an RDMA_READ or RDMA_WRITE that is complete
  channel,    // descriptor: the socket of another channel, of a client that this process serves
  // peer -> worker
  hello = 16,  // body: version u32, the cookie of START
  attached,    // body: version u32
  reply,       // count: tokens to invalidate; body: those (u32 each), then one SMB2 message to the client
  rdma_read,   // id: the peer's own, count: descriptors; body: Operation; client's memory -> area
  rdma_write,  // the same; area -> client's memory
  // daemon -> main process
  registered = 32,  // body: version u32
  refused,          // count: an errno; the daemon closes
  start,            // id: of the request; body: Start
  // main process -> daemon
  failed = 48,  // id: of the request, count: an errno; no child was started for it, or it has ended
};

struct FrameHeader {
  uint32_t length{};
  FrameType type{};
  uint16_t count{};
  uint64_t id{};
};
inline constexpr size_t kFrameHeaderBytes = 16;

/// Who sends: each may say its own types only.
enum class Sender : uint8_t { worker, peer, daemon, main };

/// Largest SMB2 message in a frame: what NBT's 24 bits hold (MS-SMB2 2.1).
inline constexpr uint32_t kMaxPdu = 0xFFFFFF;
inline constexpr uint16_t kMaxInvalidate = 16;
inline constexpr uint16_t kMaxOperationDescriptors = 512;

[[nodiscard]] std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header);
/// Errors: unknown_type (of this sender's), bad_length (not one this type and count can have), bad_value.
[[nodiscard]] std::expected<FrameHeader, FrameError> parse_frame_header(
    std::span<const std::byte, kFrameHeaderBytes> bytes, Sender sender);

/// An address as frames carry it: 20 bytes: family u16 (4 or 6), port u16, 16 bytes of which IPv4 uses 4.
struct Address {
  uint16_t family = 4;
  uint16_t port = 0;
  std::array<std::byte, 16> bytes{};
  bool operator==(const Address&) const = default;
};
inline constexpr size_t kAddressBytes = 20;
/// host: 16 bytes, IPv4 in its IPv6-mapped form (as shm::Host has it).
[[nodiscard]] Address address_of_host(const std::array<uint8_t, 16>& host, uint16_t port);

/// What a peer learns of the connection before the client is answered anything.
struct Facts {
  uint64_t area_bytes{};
  uint32_t max_pdu{};         // bytes of an SMB2 message that the client takes
  uint32_t max_read_write{};  // MS-SMBD MaxReadWriteSize, as it was negotiated
  uint16_t max_operations{};  // RDMA_READs and RDMA_WRITEs that may be without their DONE
  smb2::Guid client_guid{};
  Address client;
  Address server;
  std::vector<std::byte> negotiate;  // the client's first SMB2 message, whole
};
inline constexpr size_t kFactsFixedBytes = 4 + 8 + 4 + 4 + 2 + 2 + 16 + 2 * kAddressBytes;
inline constexpr size_t kMaxNegotiate = 64 * 1024;
/// The body of FACTS.
[[nodiscard]] std::vector<std::byte> encode_facts(const Facts& facts);
[[nodiscard]] std::expected<Facts, FrameError> parse_facts(std::span<const std::byte> body);

/// RDMA between [area_offset, + length) of the area and the client's memory, described in order.
struct Operation {
  uint64_t area_offset{};
  uint32_t length{};
  std::vector<smb2::BufferDescriptor> memory;
};
inline constexpr size_t kOperationFixedBytes = 16;
/// The body of RDMA_READ and RDMA_WRITE.
[[nodiscard]] std::vector<std::byte> encode_operation(const Operation& operation);
/// `into.memory` keeps its capacity. The descriptors together hold at least `length` bytes, and that is not
/// 0.
[[nodiscard]] std::expected<void, FrameError> parse_operation(std::span<const std::byte> body, uint16_t count,
                                                              Operation& into);

/// Whom a main process is to start a child for.
struct Start {
  Cookie cookie{};
  smb2::Guid client_guid{};
  Address client;
  std::string socket;  // path of the worker's
};
inline constexpr size_t kStartFixedBytes = kCookieBytes + 16 + kAddressBytes;
inline constexpr size_t kMaxSocketPath = 107;  // sockaddr_un's, less its final zero
[[nodiscard]] std::vector<std::byte> encode_start(const Start& start);
[[nodiscard]] std::expected<Start, FrameError> parse_start(std::span<const std::byte> body);

/// The body of HELLO. Errors: bad_version too.
[[nodiscard]] std::vector<std::byte> encode_hello(const Cookie& cookie);
[[nodiscard]] std::expected<Cookie, FrameError> parse_hello(std::span<const std::byte> body);
/// The body of ATTACHED and REGISTERED.
[[nodiscard]] std::array<std::byte, 4> encode_version();
[[nodiscard]] std::expected<void, FrameError> parse_version(std::span<const std::byte> body);

}  // namespace smbdirect::protocol::proxy
