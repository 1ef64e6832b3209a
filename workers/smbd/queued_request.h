// SPDX-License-Identifier: MIT
// A request that was gathered whole before it is answered here or goes to smbd: what RequestQueue keeps in
// order, and DirectIo while it is at it. Owned by whichever of the two has it; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "protocol/smb2/direct_request.h"
#include "protocol/smb2/server_translator.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

namespace smb2 = protocol::smb2;

struct QueuedRequest {
  smb2::RewrittenRequest request;
  SlabRef pdu;                  // what the pieces point into
  size_t sent{};                // bytes of it that are the client's
  bool may_be_passed{};         // a single WRITE that waits for its data...
  smb2::FileId file_id{};       // ... on this file
  smb2::Holds holds{};          // what it waits for, of what is done here
  uint64_t previous_session{};  // RequestInfo's

  /// It may be done here, if the open file is there at its turn. Empty: it is for smbd.
  std::optional<smb2::DirectRequest> direct;
  std::span<const std::byte> memory;  // then, of a READ by an RDMA channel: the client's descriptors
  /// Data that is here, of its fetch: in place of what is still to come.
  struct Data {
    SlabRef slab;
    uint32_t length{};
  };
  std::vector<Data> data;
  uint32_t ahead{};  // so many bytes of it were written already, while the rest was fetched

  [[nodiscard]] bool fetches() const { return !request.fetches.empty(); }
  /// As the client has sent it, but for what was rewritten in place.
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::span<const std::byte>(pdu.bytes()).first(sent);
  }
  /// For the next one; lists keep their capacity.
  void clear() {
    request.clear();
    pdu.reset();
    sent = 0;
    direct.reset();
    memory = {};
    data.clear();
    ahead = 0;
    previous_session = 0;
  }
};

}  // namespace smbdirect::workers
