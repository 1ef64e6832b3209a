// SPDX-License-Identifier: MIT
// A whole session, client and smbd both hostile: SMB Direct messages within and without the rules,
// completions in any order, requests and answers that are right but for a few bytes, time, and ends at any
// moment.
#include "tests/fuzz/session_rig.h"

using namespace smbdirect::workers;  // NOLINT
using namespace session_fuzz;        // NOLINT

namespace {

void spoil(Choices& choices, Bytes& bytes) {
  if (bytes.empty() || choices.byte() % 32 != 31) return;
  for (uint32_t n = 1 + choices.byte() % 3; n > 0; --n) {
    const uint32_t at = choices.word() % static_cast<uint32_t>(std::min<size_t>(bytes.size(), 256));
    bytes[at] = std::byte{choices.byte()};
  }
}

std::vector<smb2_test::BufferDescriptor> memory(Choices& choices, uint32_t total) {
  std::vector<smb2_test::BufferDescriptor> parts;
  const uint32_t count = 1 + choices.byte() % 12;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t here = i + 1 == count ? total : std::min(total, choices.size(total));
    parts.push_back({.offset = uint64_t{0x10000} * i, .token = 100 + i, .length = here});
    total -= here;
  }
  return parts;
}

uint64_t message_id(Choices& choices, Rig& rig) {
  return choices.byte() == 255 ? choices.below(64) : rig.next_id++;
}

Bytes request(Choices& choices, Rig& rig, int depth = 0) {
  const smb2_test::Head head{.message_id = message_id(choices, rig)};
  const uint32_t length = choices.size(600'000);
  switch (choices.byte() % 12) {
    case 0:
      return smb2_test::read_request(head, {.length = length, .file = choices.byte() % 3U});
    case 1:
      return smb2_test::write_request(
          head, {.file = choices.byte() % 3U, .data = Bytes(std::min(length, 60'000U))});
    case 2:
    case 3:
      return smb2_test::read_request(
          head, {.length = length, .channel = 1U + choices.byte() % 2, .memory = memory(choices, length)});
    case 4:
    case 5:
      return smb2_test::write_request(head, {.length = length,
                                             .file = choices.byte() % 3U,
                                             .channel = 1U + choices.byte() % 2,
                                             .memory = memory(choices, length)});
    case 6: {
      Bytes pdu = smb2_test::plain(smb2_test::kCancel, {.message_id = choices.below(64)});
      if (choices.byte() % 2 == 0) smb2_test::put(pdu, 16, smb2_test::kAsync, 4);
      return pdu;
    }
    case 7: {
      Bytes pdu = smb2_test::plain(smb2_test::kChangeNotify, head, 32);
      smb2_test::put(pdu, 68, length, 4);
      return pdu;
    }
    case 8: {  // encrypted, as far as can be seen
      Bytes pdu(52 + std::min(length, 20'000U));
      smb2_test::put(pdu, 0, 0x424D53FD, 4);
      return pdu;
    }
    case 9: {
      if (depth > 0) return smb2_test::plain(smb2_test::kEcho, head);
      std::vector<Bytes> elements;
      for (uint32_t n = 2 + choices.byte() % 4; n > 0; --n)
        elements.push_back(request(choices, rig, depth + 1));
      return smb2_test::chain(std::move(elements));
    }
    case 10: {
      // StructureSizes of NEGOTIATE to OPLOCK_BREAK (MS-SMB2 2.2).
      static constexpr uint8_t kSizes[] = {36, 25, 4, 9, 4,  57, 24, 24, 49, 49,
                                           48, 57, 4, 4, 33, 32, 41, 33, 24};
      const auto command = static_cast<uint16_t>(1 + choices.byte() % (std::size(kSizes) - 1));
      Bytes pdu = smb2_test::plain(command, head, size_t{kSizes[command]} + choices.byte());
      smb2_test::put(pdu, 64, kSizes[command], 2);
      return pdu;
    }
    default:
      return smb2_test::plain(smb2_test::kEcho, head);
  }
}

/// The final answer to it, mostly of the kind that smbd gives.
Bytes answer_to(Choices& choices, const Rig::Asked& asked) {
  smb2_test::Head head{.message_id = asked.message_id, .flags = smb2_test::kResponse};
  const uint8_t how = choices.byte() % 10;
  if (how == 1) {
    head.status = 0xC0000022;
    return smb2_test::error_response(asked.command, head);
  }
  if (asked.command == smb2_test::kRead) {
    const uint32_t length = std::min(asked.length, how == 2 ? choices.size(600'000) : 600'000U);
    return smb2_test::read_response(head, smb2_test::pattern(length, 1));
  }
  if (asked.command == smb2_test::kWrite) return smb2_test::write_response(head, asked.length);
  // StructureSizes of the answers (MS-SMB2 2.2).
  static constexpr uint8_t kSizes[] = {65, 9, 4, 16, 4, 89, 60, 4, 17, 17, 4, 49, 4, 4, 9, 9, 9, 2, 24};
  const uint8_t body = kSizes[asked.command % std::size(kSizes)];
  Bytes pdu = smb2_test::plain(asked.command, head, size_t{body} + choices.byte());
  smb2_test::put(pdu, 64, body, 2);
  return pdu;
}

void make_async(Bytes& pdu, uint64_t async_id) {
  smb2_test::put(pdu, 16, smb2_test::get(pdu, 16, 4) | smb2_test::kAsync, 4);
  smb2_test::put(pdu, 32, async_id, 8);
}

/// An answer to something that is asked, interim or final; or, rarely, to nothing.
Bytes answer(Choices& choices, Rig& rig) {
  const uint8_t rare = choices.byte();
  if (rig.asked.empty() && rare < 240) return {};
  if (rig.asked.empty() || rare == 255) {
    const bool oplock_break = choices.byte() % 4 != 0;
    return answer_to(choices, {oplock_break ? uint16_t{18} : static_cast<uint16_t>(choices.byte() % 19),
                               oplock_break ? UINT64_MAX : choices.below(64), choices.word()});
  }
  const size_t which = choices.byte() % 4 == 0 ? choices.word() % rig.asked.size() : 0;
  Rig::Asked& asked = rig.asked[which];
  if (asked.async_id == 0 && choices.byte() % 8 == 0) {
    asked.async_id = 1 + asked.message_id;
    Bytes interim = smb2_test::interim_response(asked.command, {.message_id = asked.message_id});
    make_async(interim, asked.async_id);
    return interim;
  }
  Bytes pdu = answer_to(choices, asked);
  if (asked.async_id != 0) make_async(pdu, asked.async_id);
  rig.asked.erase(rig.asked.begin() + static_cast<ptrdiff_t>(which));
  return pdu;
}

void step(Choices& choices, Rig& rig) {
  switch (choices.byte() % 20) {
    case 0:
    case 1:
    case 2: {
      Bytes pdu = request(choices, rig);
      spoil(choices, pdu);
      rig.queue(std::move(pdu));
      break;
    }
    case 3:
    case 4:
      rig.say(choices.byte() % 64, choices.byte() % 4 == 0 ? choices.byte() : UINT32_MAX);
      break;
    case 5:
      rig.say_all();
      break;
    case 6:
    case 7:
    case 8:
      rig.complete(fabric::Op::rdma_read, 1 + choices.byte() % 16);
      break;
    case 9:
      rig.complete(fabric::Op::send, 1 + choices.byte() % 16);
      break;
    case 10:
      rig.complete(fabric::Op::rdma_write, 1 + choices.byte() % 16);
      break;
    case 11:
    case 12:
      rig.smbd_reads(choices.byte() % 2 == 0 ? 1 << 20 : choices.word());
      break;
    case 13:
    case 14: {
      Bytes pdu = answer(choices, rig);
      if (choices.byte() % 8 == 0 && !pdu.empty() && !rig.asked.empty()) {
        if (Bytes more = answer(choices, rig); !more.empty())
          pdu = smb2_test::chain({std::move(pdu), std::move(more)});
      }
      spoil(choices, pdu);
      if (!pdu.empty()) rig.smbd_answers(pdu);
      break;
    }
    case 15:
      rig.smbd_writes(choices.byte() % 2 == 0 ? 1 << 20 : choices.word());
      break;
    case 16:
      rig.wait(choices.byte() % 4 == 0 ? choices.word() : choices.byte());
      return;
    case 17:
      rig.connect(choices.byte() % 8 != 0);
      break;
    case 18:
      if (choices.byte() % 16 == 0) rig.smbd_sends(Bytes{std::byte{0x85}, {}, {}, {}});  // a keepalive
      break;
    default:
      switch (choices.byte()) {
        case 0:
          rig.close_smbd();
          break;
        case 3:  // bytes of no message
          rig.smbd_sends(choices.bytes(choices.byte() % 16));
          break;
        case 4:
          rig.send_raw(choices.bytes(choices.byte() % 64));
          break;
        case 1:
          rig.close(choices.byte() % 2 == 0 ? fabric::CloseCause::peer_closed
                                            : fabric::CloseCause::peer_reset);
          break;
        case 2:
          rig.stop();
          break;
        default:
          break;
      }
  }
  rig.turn();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  const bool well = choices.byte() % 8 != 0;
  Rig rig(choices);
  if (well) {
    rig.begin_well();
  } else if (choices.byte() % 2 == 0) {
    rig.negotiate();
  }
  for (int i = 0; i < 600 && !choices.empty() && !rig.over(); ++i) step(choices, rig);
  if (!rig.over()) rig.vanish(1'800'000);
  return 0;
}
