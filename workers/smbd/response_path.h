// SPDX-License-Identifier: MIT
// smbd -> client: smbd's stream is read in bulk into slabs, cut into PDUs, and sent from there: as
// fragments, or, for the answer to an RDMA-channel READ, by RDMA WRITE as the data comes in. Owned by one
// session, one thread.
//
// What is answered here instead of by smbd (DirectIo) goes the same way, but never into the middle of an
// answer of smbd's that is being passed on: until its end it is kept.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "workers/session/context.h"
#include "workers/session/exchange.h"
#include "workers/session/pump_stream.h"
#include "workers/smbd/direct_files.h"
#include "workers/smbd/direct_operation.h"
#include "workers/smbd/placement.h"
#include "workers/smbd/previous_sessions.h"
#include "workers/smbd/smbd_area.h"
#include "workers/smbd/smbd_link.h"
#include "workers/stream/reader.h"

namespace smbdirect::workers {

class ResponsePath final : private StreamOwner {
 public:
  ResponsePath(SessionContext& context, SmbdLink& link, SmbdArea& area, DirectFiles& files,
               PreviousSessions& previous)
      : context_(context),
        link_(link),
        area_(area),
        files_(files),
        previous_(previous),
        reader_(context.slabs, context.budget) {}

  using State = Exchange::State;
  /// Reads and processes a bounded amount.
  [[nodiscard]] State pump(int fd);
  /// RDMA WRITEs that are done.
  void on_writes_done(uint64_t count);
  /// Gives back memory that an idle stream need not hold.
  // --- what is answered here ---
  struct Here {
    std::optional<uint32_t> invalidate;
    uint64_t released{};
    shm::Operation operation{};
    uint64_t began_us{};
  };
  /// More answers of ours than the client, or smbd, lets go: the next one is better asked for at smbd.
  [[nodiscard]] bool full() const { return crowded() || kept_.size() >= kMostKept; }
  /// RDMA WRITEs by number: those asked for so far, and the first so many that are done.
  [[nodiscard]] uint64_t writes_asked() const { return writes_asked_; }
  [[nodiscard]] uint64_t writes_done() const { return writes_done_; }
  /// RDMA WRITEs, which do not wait for anything.
  void place(const SlabRef& owner, std::span<const std::byte> bytes, Placement& to);
  void answer(const smb2::DirectAnswer& head, const Here& here);
  /// Ahead of one.
  void interim(const smb2::DirectAnswer& head);
  /// Its data behind it; the first chunk has room for the head in front. Takes the chunks.
  void answer(const smb2::DirectAnswer& head, std::vector<DirectOperation::Chunk>& chunks, const Here& here);

  void trim() {
    reader_.trim();
    if (headers_ && headers_.sole()) headers_.reset();
  }

 private:
  enum class Mode : uint8_t { length, prefix, pass, skip_to_data, place, skip_rest, gather, swallow };
  /// A part of the area whose data is on its way to the client.
  struct Leaving {
    uint64_t offset{};
    uint32_t length{};
    uint64_t last_write{};
  };

  /// An answer that was made here, and the bytes of it.
  struct Kept {
    uint64_t total{};
    size_t pieces{};  // of kept_pieces_
    std::optional<uint32_t> invalidate;
  };
  struct Piece {
    SlabRef owner;
    std::span<const std::byte> bytes;
  };

  std::optional<Exchange::State> process() override;
  [[nodiscard]] bool between_messages() const override;
  void stream_broken(std::string what) override;
  bool step();
  bool begin_pdu();
  bool plan_pdu();
  void took(const smb2::Answered& answered);
  bool pass_some();
  bool place_some();
  void send_from_area();
  bool finish_placed();
  bool gather_some();
  bool finish_gather(SlabRef owner, std::span<std::byte> bytes);
  [[nodiscard]] std::optional<Piece> header(std::span<const std::byte> bytes);
  [[nodiscard]] bool send_told_header();
  [[nodiscard]] bool send_kept();
  void answered(const Here& here);
  [[nodiscard]] bool crowded() const;
  bool begin_message(uint64_t total, std::span<const uint32_t> invalidate);
  bool end_pdu();
  bool broken(std::string why);
  bool broken(smb2::Violation violation);

  static constexpr size_t kMostQueued = 4096;  // messages to the client
  static constexpr size_t kMostKept = 256;

  static constexpr uint32_t kMostKeepalives = 64;  // at once: 64 Ki of them fit a slab, and bring nothing

  SessionContext& context_;
  SmbdLink& link_;
  SmbdArea& area_;
  DirectFiles& files_;
  PreviousSessions& previous_;
  StreamReader reader_;
  Mode mode_ = Mode::length;
  bool broken_ = false;
  uint32_t keepalives_ = 0;
  bool waits_ = false;     // for memory, in the middle of what was read
  bool agreed_ = false;    // NEGOTIATE was answered, and the session told
  uint64_t total_ = 0;     // of the PDU being read
  uint64_t left_ = 0;      // of what the mode consumes
  uint64_t promised_ = 0;  // reserved for the requests this PDU answers; released when all of it is here
  smb2::ResponsePlan plan_;
  Placement to_;  // plan_.to, kept while data arrives
  smb2::ChainPlan chain_;
  SlabRef block_;  // where a compound is gathered
  Ring<Leaving> leaving_;
  uint64_t writes_asked_ = 0;
  uint64_t writes_done_ = 0;
  SlabRef headers_;  // rewritten response headers, used up in turn
  size_t headers_used_ = 0;
  Ring<Kept> kept_;
  Ring<Piece> kept_pieces_;
};

}  // namespace smbdirect::workers
