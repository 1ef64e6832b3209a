// SPDX-License-Identifier: MIT
// The MessageIds of a connection that were answered here and that smbd never sees. smbd counts what it gets
// in a window (MS-SMB2 3.3.1.1) that would come to an end; so, before anything else goes to smbd, it is told
// of these ids by ECHOs, each of which stands for as many ids in a row as its CreditCharge says, asks for as
// many credits, and is answered to nobody. Owned by a ServerTranslator, one thread; pure. Allocates nothing
// once it has reached its largest size, which is kMostOwed.
//
// What is answered here grants the client the credits that it took: so client and smbd have one count, once
// smbd has the ECHOs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

class SequenceLedger {
 public:
  /// Ids that smbd has not been told of, together; also bounded by half of the credits that the client has.
  static constexpr uint32_t kMostOwed = 512;
  /// NBT word, header and body of an ECHO on smbd's stream.
  static constexpr size_t kEchoBytes = 4 + 64 + 4;

  /// From dialect 2.1 on, where both sides have said so: one ECHO may stand for several ids.
  void multi_credit(bool agreed);

  // --- what the connection sees ---
  /// smbd has granted credits, in whatever answer.
  void granted(uint16_t credits);
  /// A request that goes to smbd takes this many ids.
  void forwarded(uint16_t charge);

  // --- what is answered here ---
  /// Whether one of so many ids may be: more than may be owed would be a window that the client has moved out
  /// of smbd's.
  [[nodiscard]] bool room(uint16_t charge) const;
  /// [message_id, + charge) was. Once for each id; in any order.
  void answered(uint64_t message_id, uint16_t charge);
  /// Whether smbd must hear of them now, whether or not something else goes there.
  [[nodiscard]] bool due() const;
  [[nodiscard]] bool owes() const;
  /// ECHOs for all that is owed, as long as `out` has room: they go before anything else. Returns the bytes
  /// written, a multiple of kEchoBytes; 0: nothing is owed any more.
  [[nodiscard]] size_t tell(std::span<std::byte> out);

  /// An answer of smbd's to an ECHO of ours: it is for nobody, and this forgets it.
  [[nodiscard]] bool swallows(uint64_t message_id);
};

}  // namespace smbdirect::protocol::smb2
