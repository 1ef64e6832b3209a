// SPDX-License-Identifier: MIT
#include "workers/connect/greeting.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/socket.h>

#include "protocol/smb2/multi_protocol.h"
#include "protocol/smb2/session_service.h"

namespace smbdirect::workers::connect {

namespace {

namespace smb2 = protocol::smb2;

// A NEGOTIATE is a few hundred bytes: dialects and negotiate contexts.
constexpr uint32_t kMostNegotiate = 64 * 1024;
constexpr size_t kReadBytes = 4096;
constexpr int kReadsPerTurn = 64;  // also of keepalives, which have no end

/// What of an SMB message must be there to tell what it is.
constexpr size_t kHead = smb2::kNbtBytes + smb2::kHeaderBytes;

}  // namespace

std::string not_smb2(smb2::Violation violation) {
  return "not a valid SMB2 request: " + std::string(smb2::violation_text(violation));
}

std::unexpected<shm::Error> not_our_framing(std::span<const std::byte, smb2::kNbtBytes> word) {
  return shm::fail("the client does not use the framing of SMB2 over TCP (message type " +
                   std::to_string(std::to_integer<unsigned>(word[0])) + ")");
}

shm::Result<Greeting::State> Greeting::read(int fd) {
  for (int reads = 0; reads < kReadsPerTurn; ++reads) {
    const auto need = needed();
    if (!need) return std::unexpected(need.error());
    if (bytes_.size() >= *need) return State::whole;
    std::array<std::byte, kReadBytes> piece;
    const ssize_t n = ::recv(fd, piece.data(), std::min(piece.size(), *need - bytes_.size()), MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return State::hungry;
      return shm::fail("reading from the client", errno);
    }
    if (n == 0) return State::ended;
    bytes_.insert(bytes_.end(), piece.begin(), piece.begin() + n);
  }
  return State::hungry;
}

/// Bytes to be there before more can be said; as many as are there: it is whole.
shm::Result<size_t> Greeting::needed() {
  if (bytes_.size() < smb2::kNbtBytes) return smb2::kNbtBytes;
  const auto word = std::span<const std::byte>(bytes_).first<smb2::kNbtBytes>();
  const auto packet = smb2::parse_session_packet(word);
  const size_t whole = smb2::kNbtBytes + packet.length;
  switch (packet.type) {
    case smb2::SessionPacket::Type::keepalive:
      bytes_.clear();
      return smb2::kNbtBytes;
    case smb2::SessionPacket::Type::request:
      if (packet.length > smb2::kMaxSessionRequest) return not_our_framing(word);
      return whole;
    case smb2::SessionPacket::Type::other:
      return not_our_framing(word);
    case smb2::SessionPacket::Type::message:
      break;
  }
  if (packet.length == 0) return not_our_framing(word);
  if (bytes_.size() < std::min(whole, kHead)) return std::min(whole, kHead);
  const auto message = std::span<const std::byte>(bytes_).subspan(smb2::kNbtBytes);
  if (smb2::protocol_id(message) == smb2::ProtocolId::smb1) {
    if (packet.length > smb2::kMaxSmb1Negotiate) return shm::fail(not_smb2(smb2::Violation::smb1));
    return whole;
  }
  const auto header = smb2::parse_header(message);
  if (!header) return shm::fail(not_smb2(header.error()));
  if (header->response()) return shm::fail(not_smb2(smb2::Violation::wrong_direction));
  if (header->command != smb2::Command::negotiate || packet.length > kMostNegotiate)
    return shm::fail("the client's first SMB2 request is not a NEGOTIATE");
  return whole;
}

}  // namespace smbdirect::workers::connect
