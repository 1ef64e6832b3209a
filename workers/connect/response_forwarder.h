// SPDX-License-Identifier: MIT
// From the server to the SMB client: fragments of SMB Direct messages queued for TCP behind a length word,
// straight from the buffers they were received in; answers to RDMA-channel requests followed by the memory
// the server wrote. Owned by one ClientSession, on its thread.
#pragma once

#include <array>
#include <cstdint>

#include "protocol/smb2/client_translator.h"
#include "shm/base/result.h"
#include "workers/connect/exposed_memory.h"
#include "workers/connect/spill_buffer.h"
#include "workers/stream/outbox.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

class ResponseForwarder {
 public:
  ResponseForwarder(Transport& transport, protocol::smb2::ClientTranslator& translator, ExposedMemory& memory,
                    Outbox& out, SpillBuffer& spill)
      : transport_(transport), translator_(translator), memory_(memory), out_(out), spill_(spill) {}

  /// lagging: the client is far behind; let go of the receive buffer. An error is a sentence about the
  /// server; the response it was about has not been completed.
  [[nodiscard]] shm::Result<> fragment(const Fragment& fragment, bool lagging);

  /// A response was queued in part and the rest has not come: the client must not take it for whole.
  [[nodiscard]] bool in_response() const { return streaming_; }
  /// The server has answered the client's log in with success.
  [[nodiscard]] bool let_in() const { return let_in_; }

 private:
  shm::Result<> decide(std::span<const std::byte> prefix);
  void queue(const Fragment& fragment, std::span<const std::byte> data, bool lagging);

  Transport& transport_;
  protocol::smb2::ClientTranslator& translator_;
  ExposedMemory& memory_;
  Outbox& out_;
  SpillBuffer& spill_;
  uint64_t total_ = 0;
  uint32_t prefix_size_ = 0;
  bool decided_ = false;
  bool streaming_ = false;  // the rest of the message goes to the client
  bool let_in_ = false;
  std::array<std::byte, protocol::smb2::kPrefixBytes> prefix_{};
};

}  // namespace smbdirect::workers::connect
