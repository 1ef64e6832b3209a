// SPDX-License-Identifier: MIT
// The receiving half of a stream: a state machine over the byte stream that says where the next bytes
// belong. Payload goes from the socket straight into the posted receive, the sink of a READ or exposed
// memory; headers, trailers and runs of small FPDUs go through a staging buffer. Pure: tests and fuzzers
// feed it bytes without a socket. Every check on what the peer sends is made here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <sys/uio.h>

#include "workers/fabric/iwarp/crc32c.h"
#include "workers/fabric/iwarp/ddp.h"
#include "workers/fabric/iwarp/mpa.h"
#include "workers/fabric/iwarp/stream_state.h"

namespace smbdirect::workers::fabric::iwarp {

class ReceivePath {
 public:
  explicit ReceivePath(StreamState& state);

  /// Where the next bytes of the stream go; never empty. Not to be asked once the state has a fault.
  std::span<iovec> vectors();
  /// n bytes have been put there, in order. Completions and a fault may be in the state afterwards.
  void received(size_t n);

  /// Between two FPDUs: the stream may end here.
  [[nodiscard]] bool at_boundary() const { return phase_ == Phase::header && staged() == 0; }
  /// Gives back memory that was not needed since the last call.
  void trim();
  /// A SEND of several segments, or an FPDU, has begun and is not complete.
  [[nodiscard]] bool inside_message() const { return in_send_ || !at_boundary(); }
  /// The FPDU being received is for this tag's memory.
  [[nodiscard]] bool places_into(uint32_t stag) const { return phase_ == Phase::payload && placing_ == stag; }
  /// Raises a fault that shows the FPDU being received.
  void fail(TerminateCode code, const char* why);

 private:
  enum class Phase : uint8_t { header, payload, trailer };
  enum class Kind : uint8_t { none, send, rdma_write, read_request, read_response, terminate, empty };

  // Read-ahead inside one READ: its length is known, so the FPDUs to come are too, and one system call can
  // take many of them, each payload to its place.
  static constexpr size_t kMostSteps = 64;
  static constexpr size_t kMostAhead = 1U << 18;
  static constexpr size_t kLeastPlanned = 1024;  // payload of an FPDU worth planning
  static constexpr size_t kVectors = 2 + 2 * kMostSteps;
  static constexpr size_t kTaggedHead = kFpduLengthSize + kTaggedHeaderSize;
  struct Step {
    std::array<std::byte, kTaggedHead + 8> head;  // the FPDU before's trailer and this one's header
    std::byte* place;
    uint32_t payload;
  };

  // FPDUs below this are read in bulk and copied once; above, their payload is worth a vector of its own.
  static constexpr size_t kSmallFpdu = 4096;
  static constexpr size_t kStagingSize = 32768;  // at most, but for what a plan left behind
  static constexpr size_t kPlanRoom = 64;        // of staging: heads of planned FPDUs pass through here
  static constexpr size_t kFirstBulk = 4096;

  [[nodiscard]] size_t staged() const { return staged_end_ - staged_begin_; }
  [[nodiscard]] const std::byte* stage() const { return staging_.get() + staged_begin_; }
  /// Makes staging at least this large; what is staged stands at its begin.
  void make_room(size_t size);
  /// How much to ask for into staging when `need` bytes are certain to come.
  [[nodiscard]] size_t ahead(size_t need) const;
  [[nodiscard]] size_t head_need() const;
  /// Adds vectors for the FPDUs that should follow the one being received.
  size_t plan(size_t count);
  /// Takes n bytes that were read along the plan; what did not come as planned goes to staging.
  void follow_plan(size_t n);
  void leave_plan(size_t i, size_t steps, size_t n);
  /// n bytes of payload are in their place.
  void placed(size_t n);
  void parse();
  bool take_header();
  bool take_payload();
  bool take_trailer();
  /// Checks the header just parsed and decides where the payload goes. False after fail().
  bool begin_tagged(const DdpHeader& header, uint32_t payload);
  bool begin_untagged(const DdpHeader& header, uint32_t payload);
  bool begin_write(const DdpHeader& header, uint32_t payload);
  bool begin_read_response(const DdpHeader& header, uint32_t payload);
  bool begin_send(const DdpHeader& header, uint32_t payload);
  bool begin_read_request(const DdpHeader& header, uint32_t payload);
  bool begin_terminate(const DdpHeader& header, uint32_t payload);
  bool reject(TerminateCode code, const char* why);
  /// The FPDU is complete and its CRC right.
  void finish();
  void finish_send();
  void finish_read_request();
  void finish_read_response();
  void finish_terminate();

  StreamState& state_;
  std::array<iovec, kVectors> vectors_{};
  size_t staging_size_ = 0;
  std::unique_ptr<std::byte[]> staging_;
  bool touched_ = false;  // staging or steps were used since the last trim()
  size_t staged_begin_ = 0;
  size_t staged_end_ = 0;

  std::unique_ptr<Step[]> steps_;
  size_t steps_used_ = 0;
  size_t step_head_ = 0;  // bytes of head in each step

  Phase phase_ = Phase::header;
  Kind kind_ = Kind::none;
  uint16_t ulpdu_ = 0;
  DdpHeader header_;
  std::array<std::byte, kMaxSegmentHeader> raw_{};  // the header's bytes, for a Terminate
  size_t raw_size_ = 0;
  std::byte* place_ = nullptr;  // the rest of the payload goes here
  uint32_t payload_ = 0;
  uint32_t payload_left_ = 0;
  uint32_t placing_ = 0;  // STag of the memory place_ lies in; 0 when it is not tagged
  Crc32c crc_;

  // The guess for the next FPDU: what followed one of this size last time.
  bool small_ = true;
  std::array<bool, 2> small_follows_{true, true};  // after a large one, after a small one
  unsigned small_run_ = 0;
  size_t last_head_ = 0;

  bool first_ = true;  // no FPDU has been completed yet
  uint32_t send_msn_ = 1;
  uint32_t read_msn_ = 1;
  bool in_send_ = false;  // a SEND of several segments is under way
  uint8_t send_opcode_ = 0;
  uint32_t send_received_ = 0;
  bool swallow_ = false;  // the SEND is only a ready-to-receive indication
  std::array<std::byte, kMaxTerminatePayload> terminate_{};
};

}  // namespace smbdirect::workers::fabric::iwarp
