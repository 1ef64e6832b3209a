// SPDX-License-Identifier: MIT
// A client of SMB Direct over iWARP, as little as is needed to be one of many and to misbehave: blocking
// sockets, no CRC, nothing of the code under test. Owned by the crowd, one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <netinet/in.h>
#include <string_view>
#include <vector>

namespace smbdirect::tests::load {

using Bytes = std::vector<uint8_t>;

void put(Bytes& bytes, uint64_t value, size_t width);       // little-endian
void put_wire(Bytes& bytes, uint64_t value, size_t width);  // big-endian

class IwarpClient {
 public:
  IwarpClient() = default;
  IwarpClient(const IwarpClient&) = delete;
  IwarpClient& operator=(const IwarpClient&) = delete;
  ~IwarpClient() { close(); }

  /// Each step is false when the server does not go along (any more), or not in time.
  [[nodiscard]] bool connect(const sockaddr_in& from, const sockaddr_in& to);
  [[nodiscard]] bool mpa();
  [[nodiscard]] bool negotiate();
  /// SMB2 NEGOTIATE under this ClientGuid, and its answer.
  [[nodiscard]] bool smb2_negotiate(uint64_t guid);

  /// One message, in fragments of at most this; waits for credits.
  [[nodiscard]] bool say(const Bytes& pdu, size_t fragment);
  /// Takes what has come. wait_ms: how long to wait for something. False at the end.
  [[nodiscard]] bool hear(int wait_ms);
  /// Any bytes; any SEND.
  bool raw(const Bytes& bytes);
  bool send(const Bytes& message);
  [[nodiscard]] int credits() const { return credits_; }
  [[nodiscard]] uint64_t heard() const { return heard_; }
  /// Closes; reset: with RST.
  void close(bool reset = false);

 private:
  [[nodiscard]] bool fill(int wait_ms);
  [[nodiscard]] bool flush();
  void frame(const Bytes& message);
  [[nodiscard]] bool parse();

  int fd_ = -1;
  uint32_t msn_ = 0;
  Bytes out_, in_;
  size_t in_at_ = 0;
  Bytes last_;  // the last SEND
  bool negotiated_ = false;
  int credits_ = 0, owed_ = 0;
  uint64_t heard_ = 0;  // SENDs with data
};

/// SMB2 header (MS-SMB2 2.2.1.2) and a body that begins with its StructureSize.
Bytes smb2_request(uint16_t command, uint64_t message_id, const Bytes& body);

}  // namespace smbdirect::tests::load
