// SPDX-License-Identifier: MIT
// The SMB2 requests the benchmark sends and the fields of responses it reads (MS-SMB2 2.2). Written on its
// own and not with protocol/smb2, so that a mistake there does not measure itself as correct.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace smbdirect::tests::bench {

inline constexpr size_t kSmb2HeaderBytes = 64;

enum class Command : uint16_t {
  negotiate = 0,
  session_setup = 1,
  tree_connect = 3,
  create = 5,
  close = 6,
  read = 8,
  write = 9,
};

inline constexpr uint32_t kStatusPending = 0x00000103;
inline constexpr uint32_t kStatusMoreProcessingRequired = 0xC0000016;

/// A request under construction: little-endian fields appended to fixed memory.
class Pdu {
 public:
  static constexpr size_t kMost = 480;

  void u8(uint8_t v) { put(v, 1); }
  void u16(uint16_t v) { put(v, 2); }
  void u32(uint32_t v) { put(v, 4); }
  void u64(uint64_t v) { put(v, 8); }
  void bytes(std::span<const std::byte> data) {
    assert(data.size() <= kMost - size_);
    std::memcpy(bytes_.data() + size_, data.data(), data.size());
    size_ += data.size();
  }
  void zeros(size_t count) {
    for (size_t i = 0; i < count; ++i) u8(0);
  }
  void utf16(std::string_view ascii) {
    for (const char c : ascii) u16(static_cast<uint8_t>(c));
  }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::span<const std::byte> view() const { return std::span(bytes_).first(size_); }

 private:
  void put(uint64_t v, size_t width) {
    assert(width <= kMost - size_);
    for (size_t i = 0; i < width; ++i) bytes_[size_++] = static_cast<std::byte>(v >> (8 * i));
  }
  std::array<std::byte, kMost> bytes_{};
  size_t size_ = 0;
};

/// Little-endian field of a received PDU; 0 beyond its end (a shorter PDU fails on its status first).
[[nodiscard]] inline uint64_t field(std::span<const std::byte> pdu, size_t offset, size_t width) {
  if (pdu.size() < offset || pdu.size() - offset < width) return 0;
  uint64_t v = 0;
  for (size_t i = width; i-- > 0;) v = v << 8 | std::to_integer<uint64_t>(pdu[offset + i]);
  return v;
}

struct RequestHeader {
  Command command{};
  uint16_t credit_charge = 1;
  uint16_t credits = 1;
  uint64_t message_id{};
  uint32_t tree_id{};
  uint64_t session_id{};
};

/// MS-SMB2 2.2.1.2.
inline void put_header(Pdu& out, const RequestHeader& header) {
  out.u32(0x424D53FE);
  out.u16(kSmb2HeaderBytes);
  out.u16(header.credit_charge);
  out.u32(0);  // ChannelSequence, Reserved
  out.u16(static_cast<uint16_t>(header.command));
  out.u16(header.credits);
  out.u32(0);  // Flags
  out.u32(0);  // NextCommand
  out.u64(header.message_id);
  out.u32(0xFEFF);
  out.u32(header.tree_id);
  out.u64(header.session_id);
  out.zeros(16);
}

/// MS-SMB2 2.2.3: dialect 3.0.2 alone.
inline void put_negotiate(Pdu& out, std::span<const std::byte, 16> client_guid) {
  out.u16(36);
  out.u16(1);  // DialectCount
  out.u16(1);  // SecurityMode: signing enabled
  out.u16(0);
  out.u32(0x04);  // Capabilities: LARGE_MTU
  out.bytes(client_guid);
  out.u64(0);
  out.u16(0x0302);
}

/// MS-SMB2 2.2.5 around a security token.
inline void put_session_setup(Pdu& out, std::span<const std::byte> token) {
  out.u16(25);
  out.u8(0);
  out.u8(1);
  out.u32(0);
  out.u32(0);
  out.u16(kSmb2HeaderBytes + 24);
  out.u16(static_cast<uint16_t>(token.size()));
  out.u64(0);
  out.bytes(token);
}

// MS-NLMP 2.2.2.5: UNICODE, REQUEST_TARGET, NTLM, EXTENDED_SESSIONSECURITY.
inline constexpr uint32_t kNtlmFlags = 0x1 | 0x4 | 0x200 | 0x80000;

/// MS-NLMP 2.2.1.1.
inline void put_ntlm_negotiate(Pdu& out) {
  out.u64(0x005053534D4C544E);  // "NTLMSSP\0"
  out.u32(1);
  out.u32(kNtlmFlags);
  for (int i = 0; i < 2; ++i) {
    out.u32(0);
    out.u32(32);
  }
}

/// MS-NLMP 2.2.1.3 for a user the server does not know: it makes a guest of it (map to guest = bad user),
/// so the responses need not be right, only there.
inline void put_ntlm_authenticate(Pdu& out, std::string_view user) {
  constexpr uint32_t kFixed = 64;
  constexpr uint16_t kLmBytes = 24;
  constexpr uint16_t kNtBytes = 24;
  const auto user_bytes = static_cast<uint16_t>(2 * user.size());
  uint32_t at = kFixed;
  const auto reference = [&](uint16_t length) {
    out.u16(length);
    out.u16(length);
    out.u32(at);
    at += length;
  };
  out.u64(0x005053534D4C544E);
  out.u32(3);
  reference(kLmBytes);
  reference(kNtBytes);
  reference(0);  // DomainName
  reference(user_bytes);
  reference(0);  // Workstation
  reference(0);  // EncryptedRandomSessionKey
  out.u32(kNtlmFlags);
  out.zeros(kLmBytes);
  for (uint8_t i = 0; i < kNtBytes; ++i) out.u8(static_cast<uint8_t>(0x5A ^ i));
  out.utf16(user);
}

/// MS-SMB2 2.2.9.
inline void put_tree_connect(Pdu& out, std::string_view path) {
  out.u16(9);
  out.u16(0);
  out.u16(kSmb2HeaderBytes + 8);
  out.u16(static_cast<uint16_t>(2 * path.size()));
  out.utf16(path);
}

enum class Disposition : uint32_t { open = 1, overwrite_if = 5 };

/// MS-SMB2 2.2.13: a plain file, shared with everybody, no oplock, no contexts.
inline void put_create(Pdu& out, std::string_view name, Disposition disposition) {
  out.u16(57);
  out.u8(0);
  out.u8(9);   // RequestedOplockLevel: batch
  out.u32(2);  // ImpersonationLevel: impersonation
  out.u64(0);
  out.u64(0);
  out.u32(0x0012019F);  // DesiredAccess: generic read and write
  out.u32(0x80);        // FILE_ATTRIBUTE_NORMAL
  out.u32(7);           // ShareAccess
  out.u32(static_cast<uint32_t>(disposition));
  out.u32(0x40);  // FILE_NON_DIRECTORY_FILE
  out.u16(kSmb2HeaderBytes + 56);
  out.u16(static_cast<uint16_t>(2 * name.size()));
  out.u64(0);
  out.utf16(name);
}

using FileId = std::array<std::byte, 16>;

/// MS-SMB2 2.2.15.
inline void put_close(Pdu& out, const FileId& file) {
  out.u16(24);
  out.u16(0);
  out.u32(0);
  out.bytes(file);
}

/// One Buffer Descriptor V1 (MS-SMBD 2.2.3.1) as channel information.
struct ChannelInfo {
  uint32_t channel{};  // 0: the data is in the message; 1, 2: MS-SMB2 2.2.19
  uint64_t offset{};
  uint32_t token{};
};

inline void put_descriptor(Pdu& out, const ChannelInfo& info, uint32_t length) {
  out.u64(info.offset);
  out.u32(info.token);
  out.u32(length);
}

/// MS-SMB2 2.2.19.
inline void put_read(Pdu& out, const FileId& file, uint64_t offset, uint32_t length,
                     const ChannelInfo& info) {
  const bool direct = info.channel != 0;
  out.u16(49);
  out.u8(kSmb2HeaderBytes + 16);  // Padding: where the data begin in the response
  out.u8(0);
  out.u32(length);
  out.u64(offset);
  out.bytes(file);
  out.u32(0);  // MinimumCount
  out.u32(info.channel);
  out.u32(direct ? length : 0);  // RemainingBytes
  out.u16(direct ? kSmb2HeaderBytes + 48 : 0);
  out.u16(direct ? 16 : 0);
  if (direct) {
    put_descriptor(out, info, length);
  } else {
    out.u8(0);
  }
}

/// MS-SMB2 2.2.21; without a channel `length` bytes of data follow.
inline void put_write(Pdu& out, const FileId& file, uint64_t offset, uint32_t length,
                      const ChannelInfo& info) {
  const bool direct = info.channel != 0;
  out.u16(49);
  out.u16(direct ? 0 : kSmb2HeaderBytes + 48);
  out.u32(direct ? 0 : length);
  out.u64(offset);
  out.bytes(file);
  out.u32(info.channel);
  out.u32(direct ? length : 0);  // RemainingBytes
  out.u16(direct ? kSmb2HeaderBytes + 48 : 0);
  out.u16(direct ? 16 : 0);
  out.u32(0);
  if (direct) put_descriptor(out, info, length);
}

}  // namespace smbdirect::tests::bench
