// SPDX-License-Identifier: MIT
// What the two sides negotiate before the first FPDU (RFC 5044 7.1, RFC 6581 4 and 9, MS-SMBD 6.1): pure
// functions from frames to frames, and the reader that collects a frame from a byte stream.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "workers/fabric/iwarp/mpa.h"
#include "workers/fabric/iwarp/terminate.h"

namespace smbdirect::workers::fabric::iwarp {

/// Our side of the bargain; see Options.
struct SetupOffer {
  bool want_crc{};
  uint16_t max_inbound_reads{};
  uint16_t max_outbound_reads{};
  uint8_t revision{};  // connecting side
};

struct Agreed {
  bool crc{};
  uint16_t ird{};    // the peer's READs we serve at once; at least 1
  uint16_t ord{};    // READs we may have outstanding; at least 1
  bool rtr_empty{};  // the first FPDU may be an empty one that only says "ready to receive"
};

/// What the accepting side answers.
struct SetupAnswer {
  MpaFrame reply;
  std::optional<Agreed> agreed;  // none: the reply rejects
  const char* refusal{};         // why, when it rejects
};
SetupAnswer answer_request(const SetupOffer& offer, const MpaHeader& request, const MpaPrivateData& data);

MpaFrame make_request(const SetupOffer& offer);

/// Why the connecting side cannot live with a reply; terminate: what to tell the peer, if anything.
struct SetupFailure {
  const char* why{};
  std::optional<TerminateCode> terminate;
};
std::expected<Agreed, SetupFailure> judge_reply(const SetupOffer& offer, const MpaHeader& reply,
                                                const MpaPrivateData& data);

/// Text for a person.
const char* mpa_error_text(MpaError error);

/// Collects exactly one frame and not a byte more: what follows it is the first FPDU's.
class MpaFrameReader {
 public:
  explicit MpaFrameReader(MpaFrameKind kind) : kind_(kind) {}
  /// Where the next bytes go. Not empty until done.
  std::span<std::byte> want();
  /// n bytes have been put there. True when the frame is complete.
  std::expected<bool, MpaError> consumed(size_t n);
  [[nodiscard]] const MpaHeader& header() const { return header_; }
  [[nodiscard]] const MpaPrivateData& private_data() const { return data_; }

 private:
  MpaFrameKind kind_;
  size_t have_ = 0;
  size_t need_ = kMpaHeaderSize;
  MpaHeader header_;
  MpaPrivateData data_;
  std::array<std::byte, kMaxMpaFrame> bytes_{};
};

}  // namespace smbdirect::workers::fabric::iwarp
