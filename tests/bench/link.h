// SPDX-License-Identifier: MIT
// What carries the benchmark's SMB2 messages: a TCP stream with length words, or SMB Direct. The client
// above is the same for both, so that what differs between two measurements is the path only.
// One loop, one thread; owned by the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace smbdirect::tests::bench {

/// Bytes of a received PDU that are shown before the rest of it is placed: header and fixed part of a READ
/// or WRITE response (MS-SMB2 2.2.1, 2.2.20, 2.2.22).
inline constexpr size_t kHeadBytes = 80;

/// Our memory as the peer may address it (MS-SMBD 2.2.3.1).
struct Exposed {
  uint64_t offset{};
  uint32_t token{};
};

enum class Access : uint8_t { none, remote_read, remote_write };

class Link {
 public:
  class Owner {
   public:
    virtual void on_ready() = 0;
    /// The first min(total, kHeadBytes) bytes of a PDU. Returns where its remaining `rest` bytes go;
    /// exactly that many.
    virtual std::span<std::byte> on_head(std::span<const std::byte> head, size_t rest) = 0;
    /// The PDU announced last is complete.
    virtual void on_pdu() = 0;
    /// The end, once. clean: orderly, by either side.
    virtual void on_closed(const std::string& why, bool clean) = 0;

   protected:
    ~Owner() = default;
  };

  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  virtual ~Link() = default;

  /// Begins to connect; on_ready() or on_closed() follows.
  virtual void start() = 0;
  /// Queues one PDU. `head` is copied; `payload` follows it and must stay valid until it is answered.
  virtual void send(std::span<const std::byte> head, std::span<const std::byte> payload) = 0;
  /// Starts what was queued; needed only outside the owner's callbacks.
  virtual void flush() = 0;
  /// Lets the peer access this memory. Nothing on a link without RDMA.
  virtual std::optional<Exposed> expose(std::span<std::byte> memory, Access access) = 0;
  virtual void unexpose(uint32_t token) = 0;
  /// Orderly end; on_closed() follows.
  virtual void close() = 0;
};

}  // namespace smbdirect::tests::bench
