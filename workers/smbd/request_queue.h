// SPDX-License-Identifier: MIT
// Requests that were gathered before they can go to smbd, in order: their RDMA READs run ahead, and their
// bytes go to the stream as soon as they are complete and next in order. Owned by the session's request path.
//
// One that waits for RDMA READs can be overtaken only by what RequestPath allows; once its first byte is
// in the stream, by nothing.
//
// A READ or WRITE that may be done here (DirectIo) is tried when its turn comes and all its data is there;
// part of a WRITE before that, and then it is away for a moment. What must not overtake those that are in
// threads waits for them, and all behind it; but not for ever behind what only waits for one file, which then
// steps aside, as it would wait by itself in smbd, nor behind a WRITE part of which hangs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "workers/session/context.h"
#include "workers/smbd/direct_io.h"
#include "workers/smbd/queued_request.h"
#include "workers/smbd/smbd_area.h"
#include "workers/stream/outbox.h"

namespace smbdirect::workers {

class RequestQueue {
 public:
  RequestQueue(SessionContext& context, SmbdArea& area, DirectIo& direct, Outbox& outbox)
      : context_(context), area_(area), direct_(direct), outbox_(outbox) {}

  using Entry = QueuedRequest;
  /// An empty entry to fill (recycled: its lists keep their capacity), then push() it.
  [[nodiscard]] std::unique_ptr<Entry> blank();
  void push(std::unique_ptr<Entry> entry);
  /// What may be done here and waits for nothing that waits here. False: push() it.
  [[nodiscard]] bool done_at_once(std::unique_ptr<Entry>& entry);
  /// The MessageIds that were answered here, to smbd: before anything else goes there. Call only while no PDU
  /// is half-way into the stream.
  void tell_ids();

  /// Start what RDMA READs memory allows, in order.
  void fetch();
  /// RDMA READs wait for memory, and none is under way that would bring some.
  [[nodiscard]] bool starved() const { return starved_; }
  void on_read_done() { ++reads_done_; }
  /// Moves what is ready to the stream. Call only while no other PDU is half-way into the stream.
  void advance();

  [[nodiscard]] bool empty() const { return waiting_.empty() && !direct_.any_returned(); }
  /// Nothing waits for what hangs, with others going on.
  [[nodiscard]] bool none_aside() const { return aside_.empty(); }
  /// Whether the front has bytes in the stream and more to come.
  [[nodiscard]] bool mid_pdu() const { return !waiting_.empty() && front_started_; }
  /// Whether a plain READ or WRITE on `file` (or an ECHO: null) may overtake everything here.
  [[nodiscard]] bool may_pass(const smb2::FileId* file);

 private:
  // A slab's worth of one fetch, or, with no slab, all of one into the area: filled when RDMA READ number
  // last_read is done.
  struct Chunk {
    SlabRef slab;
    uint32_t length{};
    uint64_t last_read{};
  };
  struct Waiting {
    std::unique_ptr<Entry> entry;  // null: DirectIo has it, the front, and gives it back
    bool may_be_passed{};          // as the entry says
    smb2::FileId file_id{};
    // Where fetching stands.
    size_t fetch = 0;            // index into entry->request.fetches
    size_t descriptor = 0;       // of that fetch
    uint32_t in_descriptor = 0;  // bytes of it already asked for
    uint32_t asked = 0;          // bytes of the fetch already asked for
    uint64_t missing = 0;        // bytes of it that were not here when it was written ahead
    [[nodiscard]] bool fetched_all() const {
      return entry == nullptr || fetch == entry->request.fetches.size();
    }
  };

  bool fetch_chunk(Waiting& waiting);
  void fetch_into_area(Waiting& waiting);
  void ask(Waiting& waiting, const smb2::Fetch& fetch, std::span<std::byte> into, uint32_t key);
  bool emit_fetch(Entry& entry, const smb2::Fetch& fetch);
  /// False: it waits.
  bool turn();
  [[nodiscard]] bool held_up(const Entry& entry);
  [[nodiscard]] bool goes_aside(const Entry& entry) const;
  bool one_from_aside();
  bool take_data(Waiting& waiting);
  bool leaves_front();
  void begin(const Entry& entry);
  [[nodiscard]] bool emit(Entry& entry);
  void finish(std::unique_ptr<Entry> entry);

  static constexpr size_t kMostAside = 64;  // all are looked at in each turn

  SessionContext& context_;
  SmbdArea& area_;
  DirectIo& direct_;
  Outbox& outbox_;
  Ring<Waiting> waiting_;
  std::vector<std::unique_ptr<Entry>> aside_;  // what waits for what hangs on one file
  Ring<Chunk> chunks_;                         // of all waiting entries, in order
  uint64_t reads_asked_ = 0;
  uint64_t reads_done_ = 0;
  bool starved_ = false;
  bool front_started_ = false;
  size_t front_piece_ = 0;
  uint32_t front_fetch_emitted_ = 0;
  std::vector<std::unique_ptr<Entry>> spare_;
};

}  // namespace smbdirect::workers
