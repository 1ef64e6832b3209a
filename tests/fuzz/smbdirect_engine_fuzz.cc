// SPDX-License-Identifier: MIT
// The input is a list of things that happen to an engine: messages (well-formed, nearly so, or raw bytes),
// receives posted or not, upper-layer messages, holds and time. Whatever it is, the engine keeps its
// promises: see check() and take().
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "protocol/smbdirect/engine.h"
#include "protocol/smbdirect/messages.h"

namespace smb_direct = smbdirect::protocol::smb_direct;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t u8() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint16_t u16() {
    const uint16_t low = u8();
    return static_cast<uint16_t>(low | u8() << 8);
  }
  uint32_t u32() {
    const uint32_t low = u16();
    return low | uint32_t{u16()} << 16;
  }
  std::span<const uint8_t> bytes(size_t count) {
    const std::span<const uint8_t> taken(data_, std::min(count, size_));
    data_ += taken.size();
    size_ -= taken.size();
    return taken;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

class Play {
 public:
  explicit Play(Input& input) : input_(input), engine_(role(input), limits(input), 0) {}

  void run() {
    while (!input_.empty()) {
      act();
      check();
    }
    // A quiet owner that does all its chores is never told to come back at once.
    post(UINT32_MAX);
    drain();
    if (engine_.phase() == smb_direct::Phase::established) require(engine_.next_deadline() > now_);
  }

 private:
  static smb_direct::Role role(Input& input) {
    return input.u8() % 2 == 0 ? smb_direct::Role::passive : smb_direct::Role::active;
  }

  static smb_direct::Limits limits(Input& input) {
    smb_direct::Limits limits;
    const uint8_t choice = input.u8();
    if ((choice & 1) != 0) limits.receive_credit_initial = input.u8();
    if ((choice & 2) != 0) limits.receive_credit_max = input.u8();
    if ((choice & 4) != 0) limits.send_credit_target = input.u16();
    if ((choice & 8) != 0) limits.max_send_size = input.u16();
    if ((choice & 16) != 0) limits.max_receive_size = input.u16();
    if ((choice & 32) != 0) limits.max_fragmented_size = input.u32();
    if ((choice & 64) != 0) limits.idle_timeout = input.u16();
    return limits;
  }

  void act() {
    switch (input_.u8() % 10) {
      case 0: {  // raw bytes
        const auto bytes = input_.bytes(input_.u8());
        receive(std::as_bytes(bytes));
        break;
      }
      case 1:  // a request, mostly right
        receive(
            smb_direct::encode(smb_direct::NegotiateRequest{.min_version = 0x0100,
                                                            .max_version = 0x0100,
                                                            .credits_requested = input_.u16(),
                                                            .preferred_send_size = input_.u32(),
                                                            .max_receive_size = input_.u32(),
                                                            .max_fragmented_size = input_.u32() | 0x20000}));
        break;
      case 2:  // a response, mostly right
        receive(
            smb_direct::encode(smb_direct::NegotiateResponse{.min_version = 0x0100,
                                                             .max_version = 0x0100,
                                                             .negotiated_version = 0x0100,
                                                             .credits_requested = input_.u16(),
                                                             .credits_granted = input_.u16(),
                                                             .status = 0,
                                                             .max_read_write_size = input_.u32(),
                                                             .preferred_send_size = input_.u16(),
                                                             .max_receive_size = input_.u32(),
                                                             .max_fragmented_size = input_.u32() | 0x20000}));
        break;
      case 3: {  // a message with what it takes to be the next fragment, or nearly
        const uint32_t length = input_.u16() % 2000;
        const uint32_t left = left_ > 0 ? left_ : length + input_.u16();
        const uint32_t off_by = input_.u8() == 1 ? 1 : 0;
        data(length, left - std::min(left, length) + off_by);
        break;
      }
      case 4:  // any message
        data(input_.u16(), input_.u32());
        break;
      case 5:  // no data
        data(0, 0);
        break;
      case 6:
        post(input_.u8());
        break;
      case 7:
        (void)engine_.begin(1 + input_.u32() % 300'000);
        break;
      case 8:
        now_ += input_.u16();
        tick();
        break;
      case 9:
        engine_.hold_grants(input_.u8() % 2 == 0);
        break;
    }
    ready_ = input_.u16();
    drain();
  }

  void data(uint32_t length, uint32_t remaining) {
    const uint8_t bits = input_.u8();
    const smb_direct::DataTransfer header{
        .credits_requested = static_cast<uint16_t>(bits == 0 ? 0 : bits * 3),
        .credits_granted = static_cast<uint16_t>(bits == 0xFF ? 0xFFFF : bits >> 2),
        .flags = static_cast<uint16_t>(bits & 1),
        .remaining_data_length = remaining,
        .data_offset = length + remaining == 0 ? 0u : 24u,
        .data_length = length};
    std::vector<std::byte> message(length + remaining == 0 ? 20 : 24 + length);
    const auto encoded = smb_direct::encode(header);
    std::copy_n(encoded.begin(), std::min(message.size(), encoded.size()), message.begin());
    receive(message);
  }

  void receive(std::span<const std::byte> bytes) {
    const std::vector<std::byte> message(bytes.begin(), bytes.end());  // of exact size, for the sanitizer
    const smb_direct::Credits before = engine_.credits();
    const bool closed = engine_.phase() == smb_direct::Phase::closed;
    const bool established = engine_.phase() == smb_direct::Phase::established;
    const auto delivery = engine_.receive(message, now_);
    require(!closed || !delivery);
    if (!delivery) {
      require(engine_.phase() == smb_direct::Phase::closed && engine_.fault() == delivery.error());
      return;
    }
    if (established) {
      require(before.granted == engine_.credits().granted + 1);
      require(before.posted == engine_.credits().posted + 1);
      require(message.size() <= engine_.agreed().max_receive_size);
    }
    if (delivery->kind != smb_direct::Delivery::Kind::fragment) return;
    require(delivery->total <= engine_.limits().max_fragmented_size);
    require(delivery->data.data() >= message.data());
    require(delivery->data.data() + delivery->data.size() <= message.data() + message.size());
    require(delivery->first == (left_ == 0));
    if (delivery->first) left_ = static_cast<uint32_t>(delivery->total);
    require(delivery->data.size() <= left_);
    left_ -= static_cast<uint32_t>(delivery->data.size());
    require(delivery->last == (left_ == 0));
  }

  void post(uint32_t most) {
    const uint32_t wanted = engine_.receives_wanted();
    engine_.receives_posted(std::min(wanted, most));
  }

  void drain() {
    uint32_t sent = 0;
    while (const auto message = engine_.next(ready_, now_)) {
      take(*message);
      require(++sent <= 70'000);  // at most one for each credit
    }
  }

  void take(const smb_direct::Outgoing& message) {
    require(message.header_size <= message.header.size());
    if (message.header_size == 32 || (!spoke_ && message.header_size == 20)) {  // negotiation
      spoke_ = true;
      return;
    }
    require(message.payload <= ready_);
    ready_ -= message.payload;
    std::vector<std::byte> whole(size_t{message.header_size} + message.payload);
    std::copy_n(message.header.begin(), message.header_size, whole.begin());
    require(whole.size() <= engine_.agreed().max_send_size);
    const auto header = smb_direct::parse_data_transfer(whole);
    require(header.has_value());
    require(header->data_length == message.payload);
    const bool empty = header->data_length == 0 && header->remaining_data_length == 0;
    require(!empty || !fragmented_);
    if (!empty) fragmented_ = header->remaining_data_length > 0;
    require(engine_.credits().send > 0 || header->credits_granted > 0);
    require(uint64_t{header->data_length} + header->remaining_data_length <=
            engine_.agreed().max_fragmented_send_size);
  }

  void tick() {
    const auto ticked = engine_.tick(now_);
    if (!ticked) require(engine_.phase() == smb_direct::Phase::closed && engine_.fault().has_value());
  }

  void check() {
    const smb_direct::Credits credits = engine_.credits();
    require(credits.posted >= credits.granted);
    require(credits.available == credits.posted - credits.granted);
    require(credits.posted <= engine_.limits().receive_credit_max);
    require(credits.receive_target <= engine_.limits().receive_credit_max);
    if (engine_.phase() == smb_direct::Phase::closed || engine_.phase() == smb_direct::Phase::refusing) {
      require(engine_.fault().has_value());
      require(engine_.next_deadline() == smb_direct::kNever);
      require(engine_.receives_wanted() == 0);
    }
  }

  Input& input_;
  smb_direct::Engine engine_;
  smb_direct::Millis now_ = 0;
  uint64_t ready_ = 0;
  uint32_t left_ = 0;  // of the upper-layer message being received
  bool spoke_ = false;
  bool fragmented_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Play(input).run();
  return 0;
}
