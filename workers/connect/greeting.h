// SPDX-License-Identifier: MIT
// The first message of an SMB client, read before there is a connection to the server: a client that sends
// nothing, or something else than a NEGOTIATE, costs none. Owned by one ClientSession, on its thread; dies
// with the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "protocol/smb2/pdu.h"
#include "shm/base/result.h"

namespace smbdirect::workers::connect {

class Greeting {
 public:
  enum class State : uint8_t {
    hungry,  // read() again when the socket is readable
    whole,
    ended,  // the client closed before
  };
  /// Reads no byte behind the first message: a NEGOTIATE of SMB2 or SMB1, or a NetBIOS session request. An
  /// error is a sentence about the client.
  [[nodiscard]] shm::Result<State> read(int fd);

  /// The first message as it came, its length word included.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_ = std::vector<std::byte>(); }

 private:
  [[nodiscard]] shm::Result<size_t> needed();

  std::vector<std::byte> bytes_;  // grows as they come, whatever they announce
};

// --- errors for clients that send something else ---

[[nodiscard]] std::string not_smb2(protocol::smb2::Violation violation);
[[nodiscard]] std::unexpected<shm::Error> not_our_framing(
    std::span<const std::byte, protocol::smb2::kNbtBytes> word);

}  // namespace smbdirect::workers::connect
