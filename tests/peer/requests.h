// SPDX-License-Identifier: MIT
// Client -> smbd, of one channel: each message as stock smbd understands it, in the client's order. Data of
// RDMA-channel WRITEs is read from the client's memory into the area and written to smbd from there. Owned by
// the channel's Relay, one thread; what waits here is lost with the process, and the client sees its
// connection end.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "handles.h"
#include "protocol/smb2/server_translator.h"
#include "smbd_stream.h"
#include "transfers.h"

namespace smbdirect::tests::peer {

class RequestRelay {
 public:
  RequestRelay(Transfers& transfers, smb2::ServerTranslator& translator)
      : transfers_(transfers), translator_(translator) {}

  /// One message, complete.
  [[nodiscard]] Outcome<> take(std::span<const std::byte> pdu);
  /// Goes on as far as area, operations and smbd's socket allow.
  [[nodiscard]] Outcome<> advance(int smbd);

  [[nodiscard]] bool wants_to_write() const { return !outbox_.empty(); }
  /// Of messages that smbd has not taken, without their data in the area.
  [[nodiscard]] size_t waiting_bytes() const { return waiting_bytes_; }

 private:
  // A request that is not in the outbox yet, and how far its data has been asked for.
  struct Waiting {
    std::unique_ptr<Request> request;
    size_t fetch = 0;                            // index into request->rewritten.fetches
    uint32_t asked = 0;                          // bytes of it
    std::vector<smb2::BufferDescriptor> memory;  // of that fetch
    DescriptorCursor at;                         // in it
  };
  // A part of one fetch, in the area. Those of all requests, in order.
  struct Chunk {
    AreaAllocator::Region region;
    bool arrived = false;
  };

  [[nodiscard]] Outcome<> fetch();
  [[nodiscard]] Outcome<bool> fetch_chunk(Waiting& waiting);
  void emit();
  bool emit_fetch(uint32_t length);

  Transfers& transfers_;
  smb2::ServerTranslator& translator_;
  std::deque<Waiting> waiting_;
  std::deque<Chunk> chunks_;
  size_t front_piece_ = 0;      // of the first request: what goes into the outbox next
  uint32_t front_emitted_ = 0;  // bytes of that piece, when it is a fetch
  bool front_started_ = false;  // its length word is in the outbox
  SmbdOutbox outbox_;
  size_t waiting_bytes_ = 0;
  std::vector<smbdirect_descriptor> slice_;
};

}  // namespace smbdirect::tests::peer
