// SPDX-License-Identifier: MIT
// smbd -> client, of one channel: smbd's stream cut into messages. Data that answers an RDMA-channel READ is
// received into the area and written from there to the client's memory; the message that says so follows.
// Owned by the channel's Relay, one thread; nothing of it outlives the process.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "handles.h"
#include "protocol/smb2/classify.h"
#include "protocol/smb2/server_translator.h"
#include "transfers.h"

namespace smbdirect::tests::peer {

class ResponseRelay {
 public:
  ResponseRelay(smbdirect_channel& channel, Transfers& transfers, smb2::ServerTranslator& translator,
                Totals& totals)
      : channel_(channel), transfers_(transfers), translator_(translator), totals_(totals) {}

  enum class State : uint8_t {
    more,     // bounded work done; there may be more
    drained,  // nothing to read now
    blocked,  // the area is full, or operations are: go on after a DONE
    end,      // smbd has closed its connection, between messages
  };
  /// Reads and relays a bounded amount.
  [[nodiscard]] Outcome<State> pump(int smbd);

 private:
  enum class Mode : uint8_t { length, prefix, body, skip_to_data, place, skip_rest };
  enum class Step : uint8_t { on, drained, blocked, end };

  // Data for the client's memory: first what is here already, then what comes from smbd.
  struct Placing {
    std::vector<smb2::BufferDescriptor> to;
    std::span<const std::byte> here;
    size_t left{};  // `here` included; not what is in the area
    DescriptorCursor at{};
  };
  // The next operation: filled, then started.
  struct Filling {
    AreaAllocator::Region region;
    size_t filled{};
    std::vector<smbdirect_descriptor> slice;
  };

  [[nodiscard]] Outcome<Step> step(int smbd);
  [[nodiscard]] Outcome<Step> fill(int smbd, std::span<std::byte> target, size_t& have);
  [[nodiscard]] Outcome<Step> skip(int smbd);
  [[nodiscard]] Outcome<Step> read_length(int smbd);
  [[nodiscard]] Outcome<Step> read_prefix(int smbd);
  [[nodiscard]] Outcome<Step> read_body(int smbd);
  [[nodiscard]] Outcome<Step> plan_chain();
  [[nodiscard]] Outcome<Step> place(int smbd);
  [[nodiscard]] Outcome<Step> fill_region(int smbd);
  [[nodiscard]] Outcome<Step> finish_placed();
  [[nodiscard]] Outcome<Step> send(std::span<const smb2::Piece> pieces, std::span<const uint32_t> invalidate);
  void begin_placing(std::span<const smb2::BufferDescriptor> to, std::span<const std::byte> here,
                     size_t length);

  smbdirect_channel& channel_;
  Transfers& transfers_;
  smb2::ServerTranslator& translator_;
  Totals& totals_;

  size_t sent_ = 0;  // bytes of messages, in this turn
  Mode mode_ = Mode::length;
  size_t have_ = 0;  // of what the mode reads
  std::array<std::byte, smb2::kNbtBytes> length_word_{};
  size_t total_ = 0;  // of the message in hand
  std::array<std::byte, smb2::kPrefixBytes> prefix_{};
  std::vector<std::byte> body_;  // of a message that is not placed as it comes
  size_t skip_ = 0;
  smb2::ResponsePlan plan_;
  smb2::ChainPlan chain_;
  std::deque<Placing> placings_;
  std::optional<Filling> filling_;
};

}  // namespace smbdirect::tests::peer
