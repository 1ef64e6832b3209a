// SPDX-License-Identifier: MIT
// A channel's TCP connection to the stock smbd: how it is made, and what waits to be written to it. Owned by
// the channel's Relay, one thread; smbd sees it close when this process dies.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <sys/socket.h>
#include <vector>

#include "area_allocator.h"
#include "handles.h"
#include "protocol/smb2/pdu.h"
#include "protocol/smb2/server_translator.h"

namespace smbdirect::tests::peer {

struct SmbdAddress {
  sockaddr_storage address{};
  socklen_t length{};
};
/// "127.0.0.1:445", "[::1]:445": numbers only.
[[nodiscard]] Outcome<SmbdAddress> parse_smbd(std::string_view text);
/// A nonblocking socket. Waits for smbd for at most a second.
[[nodiscard]] Outcome<Fd> connect_smbd(const SmbdAddress& smbd);

/// A client's message on its way to smbd; what the segments of it point into.
struct Request {
  std::array<std::byte, protocol::smb2::kNbtBytes> length_word{};
  std::vector<std::byte> pdu;
  protocol::smb2::RewrittenRequest rewritten;
};

/// Bytes that smbd has not taken yet, in order.
class SmbdOutbox {
 public:
  /// `bytes` lie in a request that is pushed with a later segment, or in `region`, which is free when they
  /// are written.
  struct Segment {
    std::span<const std::byte> bytes;
    std::optional<AreaAllocator::Region> region{};
    std::unique_ptr<Request> request{};  // complete with this segment
  };
  void push(Segment segment) { segments_.push_back(std::move(segment)); }
  [[nodiscard]] bool empty() const { return segments_.empty(); }

  /// Writes what the socket takes. How many bytes of PDUs are gone with it: whoever pushed counts what waits.
  [[nodiscard]] Outcome<size_t> flush(int fd);

 private:
  size_t written(size_t count);

  std::deque<Segment> segments_;
  size_t front_written_ = 0;
};

}  // namespace smbdirect::tests::peer
