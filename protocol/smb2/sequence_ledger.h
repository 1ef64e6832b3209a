// SPDX-License-Identifier: MIT
// The MessageIds of a connection that were answered here and that smbd never sees. smbd counts what it gets
// in a window (MS-SMB2 3.3.1.1) that would come to an end; so, before anything else goes to smbd, it is told
// of these ids by ECHOs, each of which stands for as many ids in a row as its CreditCharge says, gives their
// credits back, and is answered to nobody. Owned by a ServerTranslator, one thread; pure. Allocates nothing
// once it has reached its largest size, which kMostOwed, kMostEchoes and smbd's window bound.
//
// No id that the client may use by what it was granted here lies outside smbd's window once smbd has the
// ECHOs: only what smbd has granted beyond what the client has, or cannot but grant, is given away. It cannot
// but give back what an ECHO takes when that moves the lower end of its window; where ids come out of order
// it gives nothing for those above a gap when its window is as long as it gets. Then an answer here grants
// less than it took, and a later one the rest; what ECHOs ask of smbd beyond what they take, kReserve, makes
// that seldom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "protocol/smb2/used_ids.h"

namespace smbdirect::protocol::smb2 {

class SequenceLedger {
 public:
  /// Ids that smbd has not been told of, together, before no other is begun.
  static constexpr uint32_t kMostOwed = 512;
  /// ... and ECHOs that smbd has not answered.
  static constexpr uint32_t kMostEchoes = 1024;
  /// Credits that smbd has granted and the client does not have, or half of what it has.
  static constexpr uint32_t kReserve = 256;
  /// What a client always keeps, or is never granted less than it gives: a request of any size.
  static constexpr uint32_t kLeast = 256;
  /// NBT word, header and body of an ECHO on smbd's stream.
  static constexpr size_t kEchoBytes = 4 + 64 + 4;

  /// From dialect 2.1 on, where smbd has said so: one request may take several ids. Before, each takes one,
  /// whatever its CreditCharge is.
  void multi_credit(bool agreed) { multi_credit_ = agreed; }
  /// The ids that a request with this CreditCharge takes.
  [[nodiscard]] uint16_t taken(uint16_t credit_charge) const {
    return multi_credit_ && credit_charge != 0 ? credit_charge : uint16_t{1};
  }

  // --- what the connection sees ---
  /// smbd has granted the client credits, in whatever answer.
  void granted(uint16_t credits) { clients_ += credits; }
  /// A request went to smbd. In the order of smbd's stream.
  void forwarded(uint64_t message_id, uint16_t credit_charge);
  /// What went to smbd hides its id (it is encrypted): from now on nothing is answered here.
  void lose_count() { lost_ = true; }

  // --- what is answered here ---
  /// Whether [message_id, + charge) may be answered here, if nothing but it is begun from now on.
  [[nodiscard]] bool room(uint64_t message_id, uint16_t charge) const;
  /// It is going to be, where there is room: what is counted upon for it, for answered() or given_up().
  /// nullopt: it goes to smbd.
  [[nodiscard]] std::optional<uint16_t> begin(uint64_t message_id, uint16_t charge);
  /// It goes to smbd after all.
  void given_up(uint16_t counted) { begun_ -= counted; }
  /// It was: once for each id, in any order. Returns the credits that the answer grants, mostly `charge`.
  [[nodiscard]] uint16_t answered(uint64_t message_id, uint16_t charge, uint16_t counted = 0);
  /// Whether smbd must hear of them now, whether or not something else goes there.
  [[nodiscard]] bool due() const;
  [[nodiscard]] bool owes() const { return owed_ != 0; }
  /// ECHOs for all that is owed, as long as `out` has room: they go before anything else. Returns the bytes
  /// written, a multiple of kEchoBytes; 0: nothing is owed any more.
  [[nodiscard]] size_t tell(std::span<std::byte> out);

  /// Whether an answer of smbd's is to an ECHO of ours: it is for nobody, and this forgets it. The credits
  /// are those that it grants.
  [[nodiscard]] bool swallows(uint64_t message_id, uint16_t credits);

  // --- for tests ---
  /// Credits that smbd has granted, by its answers so far, and the client has not got.
  [[nodiscard]] int64_t held_back() const { return held_back_; }
  /// Credits that the client's answers were short of what their requests took.
  [[nodiscard]] uint32_t short_of() const { return short_; }
  [[nodiscard]] size_t echoes() const { return echoes_.size() - answered_echoes_; }

 private:
  struct Run {
    uint64_t first{};
    uint32_t count{};
  };
  struct Echo {
    uint64_t first{};
    uint32_t certain{};  // credits that it will give back
    bool asks_more{};
  };

  [[nodiscard]] uint64_t smbds_low() const;
  [[nodiscard]] uint64_t unspent() const;
  [[nodiscard]] int64_t certain() const;
  void owe(uint64_t first, uint32_t count);

  bool multi_credit_ = false;
  bool lost_ = false;
  UsedIds used_;           // those that smbd has got, and those that it will be told of
  uint64_t clients_ = 1;   // the end of the ids that the client may use
  int64_t held_back_ = 0;  // credits that smbd has granted, and the client was not
  uint32_t short_ = 0;
  uint32_t begun_ = 0;     // charges of what is begun above a gap
  std::vector<Run> runs_;  // owed, in order
  uint32_t owed_ = 0;
  std::vector<Echo> echoes_;  // in the order sent
  size_t answered_echoes_ = 0;
  uint32_t coming_ = 0;  // certain, of those that are not answered
  bool asking_ = false;  // one of them asks for more than it takes
};

}  // namespace smbdirect::protocol::smb2
