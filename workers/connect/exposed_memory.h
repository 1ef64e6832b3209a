// SPDX-License-Identifier: MIT
// Memory the server may read or write for the RDMA-channel requests in flight: one entry per request, each a
// list of pieces exposed to the fabric. Owned by one ClientSession, on its thread; the memory is the
// session's and the fabric forgets it when the connection closes. Entries keep their capacity, so steady
// state allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/smb2/client_translator.h"
#include "workers/memory/slab.h"
#include "workers/stream/outbox.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

class ExposedMemory {
 public:
  explicit ExposedMemory(Transport& transport) : transport_(transport) {}

  /// A new entry, named by its cookie.
  [[nodiscard]] uint64_t open();
  /// Exposes one more piece of memory. False when the fabric takes no more: drop() the entry then.
  [[nodiscard]] bool add(uint64_t cookie, SlabRef owner, std::span<std::byte> bytes, fabric::Access access);
  /// The pieces, as the RDMA-channel request names them. Valid until the next call.
  [[nodiscard]] std::span<const protocol::smb2::BufferDescriptor> descriptors(uint64_t cookie);

  /// The peer has revoked this token.
  void invalidated(uint32_t token);
  /// Revokes every piece, pushes the first `length` bytes to `out` and forgets the entry; the memory is
  /// freed when it was written. False, with nothing pushed, when the entry is unknown or shorter.
  [[nodiscard]] bool deliver(uint64_t cookie, uint64_t length, Outbox& out);
  /// Revokes and frees.
  void drop(uint64_t cookie);
  /// The connection is gone, and every token with it: frees all memory.
  void clear();

  [[nodiscard]] bool empty() const { return live_ == 0; }
  /// Pieces exposed now.
  [[nodiscard]] size_t pieces() const { return pieces_; }
  /// Entries that have been forgotten so far: memory comes back with them.
  [[nodiscard]] uint64_t closed() const { return closed_; }

 private:
  struct Piece {
    SlabRef owner;
    std::span<std::byte> bytes;
    fabric::RemoteMemory remote;
    bool revoked = false;
  };
  struct Entry {
    std::vector<Piece> pieces;
    uint32_t generation = 0;
    bool live = false;
  };
  [[nodiscard]] Entry* find(uint64_t cookie);
  void close(Entry& entry);
  void revoke(Entry& entry);

  Transport& transport_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  std::vector<protocol::smb2::BufferDescriptor> descriptors_;
  size_t live_ = 0;
  size_t pieces_ = 0;
  uint64_t closed_ = 0;
};

}  // namespace smbdirect::workers::connect
