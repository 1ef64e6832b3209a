// SPDX-License-Identifier: MIT
#include "protocol/smb2/sequence_ledger.h"

#include <algorithm>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/pdu.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

constexpr uint32_t kMostInOne = 512;  // ids
constexpr uint16_t kEchoStructureSize = 4;

/// Takes `count` ids. smbd grants what a request takes, and all but one of what it asks for (source3/smbd/
/// smb2_server.c, smb2_set_operation_credit; the same in 4.17 to 4.25).
void encode_echo(std::span<std::byte> out, uint64_t first, uint16_t charge, uint32_t extra) {
  std::ranges::fill(out, std::byte{0});
  std::ranges::copy(encode_nbt(SequenceLedger::kEchoBytes - kNbtBytes), out.begin());
  const auto pdu = out.subspan(kNbtBytes);
  wire::store(pdu, 0, uint32_t{0x424D53FE});
  wire::store(pdu, header_at::kStructureSize, uint16_t{kHeaderBytes});
  wire::store(pdu, header_at::kCreditCharge, charge);
  wire::store(pdu, header_at::kCommand, uint16_t(Command::echo));
  wire::store(pdu, header_at::kCredits, uint16_t(1 + extra));
  wire::store(pdu, header_at::kMessageId, first);
  wire::store(pdu, kBodyAt, kEchoStructureSize);
}

}  // namespace

uint64_t SequenceLedger::smbds_low() const {
  return runs_.empty() ? used_.low() : std::min(used_.low(), runs_.front().first);
}

/// The client's credits, and those that it has spent on what is on its way.
uint64_t SequenceLedger::unspent() const {
  const uint64_t used = used_.low() + used_.above();
  return clients_ - std::min(clients_, used);
}

/// Credits that smbd has granted, or is sure to grant when it has been told of all, and the client has not
/// got.
int64_t SequenceLedger::certain() const {
  int64_t credits = held_back_ + coming_;
  for (const Run& run : runs_) {
    if (run.first >= used_.low()) break;
    credits += run.count;
  }
  return credits;
}

void SequenceLedger::forwarded(uint64_t message_id, uint16_t credit_charge) {
  const uint16_t count = taken(credit_charge);
  // What smbd will not take ends the connection, but for what it has granted and the client has not got.
  if (!lost_ && (message_id > clients_ || count > clients_ - message_id || !used_.use(message_id, count)))
    lost_ = true;
}

bool SequenceLedger::room(uint64_t message_id, uint16_t charge) const {
  if (lost_ || owed_ + charge > kMostOwed) return false;
  if (echoes() + (multi_credit_ ? runs_.size() + 1 : owed_ + charge) > kMostEchoes) return false;
  // An id that smbd has not granted yet, when it has what was told, cannot be told.
  const uint64_t end = clients_ - uint64_t(std::max<int64_t>(0, -(held_back_ + coming_)));
  if (!used_.unused(message_id, charge) || message_id + charge > end) return false;
  if (message_id == used_.low() || certain() >= begun_ + charge) return true;
  return unspent() >= begun_ + charge + kLeast && short_ + begun_ + charge <= kMostOwed;
}

std::optional<uint16_t> SequenceLedger::begin(uint64_t message_id, uint16_t charge) {
  if (!room(message_id, charge)) return std::nullopt;
  const uint16_t counted = message_id == used_.low() ? uint16_t{0} : charge;
  begun_ += counted;
  return counted;
}

uint16_t SequenceLedger::answered(uint64_t message_id, uint16_t charge, uint16_t counted) {
  begun_ -= counted;
  if (!used_.use(message_id, charge)) {
    lost_ = true;
    return charge;
  }
  owe(message_id, charge);
  // What is missing is given back of what nothing else counts upon.
  const int64_t has = certain();
  const int64_t least = std::clamp<int64_t>(has, 0, charge);
  const int64_t most = std::min(charge + short_, uint32_t{0xFFFF});
  const auto grants = uint16_t(std::clamp(has - int64_t{begun_}, least, most));
  short_ = charge + short_ - grants;
  held_back_ -= grants;
  clients_ += grants;
  return grants;
}

void SequenceLedger::owe(uint64_t first, uint32_t count) {
  owed_ += count;
  const auto next = std::ranges::upper_bound(runs_, first, {}, [](const Run& run) { return run.first; });
  const bool joins_next = next != runs_.end() && next->first == first + count;
  if (next != runs_.begin()) {
    Run& last = *(next - 1);
    if (last.first + last.count == first) {
      last.count += count;
      if (joins_next) {
        last.count += next->count;
        runs_.erase(next);
      }
      return;
    }
  }
  if (!joins_next) {
    runs_.insert(next, Run{.first = first, .count = count});
    return;
  }
  next->first = first;
  next->count += count;
}

bool SequenceLedger::due() const {
  // Of what smbd's window has, as far as it has been told.
  const uint64_t has = uint64_t(int64_t(clients_) + held_back_ + coming_) - smbds_low();
  return owed_ >= kMostOwed / 2 || (owed_ != 0 && 2 * uint64_t{owed_} >= has);
}

size_t SequenceLedger::tell(std::span<std::byte> out) {
  // No more than a part of what the client has: smbd's window has an end.
  const auto reserve = int64_t(std::min<uint64_t>(kReserve, unspent() / 2));
  const int64_t extra = asking_ ? 0 : std::max<int64_t>(0, reserve + short_ - certain());
  size_t written = 0;
  size_t done = 0;  // runs
  while (done < runs_.size() && out.size() - written >= kEchoBytes) {
    Run& run = runs_[done];
    const uint32_t count = std::min(run.count, multi_credit_ ? kMostInOne : 1);
    owed_ -= count;
    const bool last = owed_ == 0 || out.size() - written < 2 * kEchoBytes;
    const auto more = uint32_t(last ? extra : 0);
    encode_echo(out.subspan(written, kEchoBytes), run.first, multi_credit_ ? uint16_t(count) : uint16_t{0},
                more);
    written += kEchoBytes;
    // It moves smbd's window when nothing below it is missing.
    const uint32_t certain = run.first < used_.low() ? count : 0;
    echoes_.push_back({.first = run.first, .certain = certain, .asks_more = more != 0});
    coming_ += certain;
    asking_ = asking_ || more != 0;
    run.first += count;
    run.count -= count;
    if (run.count == 0) ++done;
  }
  runs_.erase(runs_.begin(), runs_.begin() + ptrdiff_t(done));
  return written;
}

bool SequenceLedger::swallows(uint64_t message_id, uint16_t credits) {
  if (echoes() == 0 || echoes_[answered_echoes_].first != message_id) return false;
  const Echo& echo = echoes_[answered_echoes_];
  if (echo.asks_more) asking_ = false;
  coming_ -= echo.certain;
  held_back_ += credits;
  if (++answered_echoes_ * 2 >= echoes_.size()) {
    echoes_.erase(echoes_.begin(), echoes_.begin() + ptrdiff_t(answered_echoes_));
    answered_echoes_ = 0;
  }
  return true;
}

}  // namespace smbdirect::protocol::smb2
