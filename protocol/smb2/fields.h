// SPDX-License-Identifier: MIT
// Where the fields this proxy reads or edits lie, counted from the first byte of the SMB2 header, and the
// few status and flag values it must know. Pure constants.
#pragma once

#include <cstddef>
#include <cstdint>

namespace smbdirect::protocol::smb2 {

// MS-SMB2 2.2.1.2, the header.
namespace header_at {
inline constexpr size_t kStructureSize = 4;
inline constexpr size_t kCreditCharge = 6;
inline constexpr size_t kStatus = 8;
inline constexpr size_t kCommand = 12;
inline constexpr size_t kCredits = 14;
inline constexpr size_t kFlags = 16;
inline constexpr size_t kNextCommand = 20;
inline constexpr size_t kMessageId = 24;
inline constexpr size_t kAsyncId = 32;  // with SMB2_FLAGS_ASYNC_COMMAND
inline constexpr size_t kTreeId = 36;   // without it
inline constexpr size_t kSessionId = 40;
}  // namespace header_at

inline constexpr size_t kBodyAt = 64;  // every body begins with its own u16 StructureSize

// MS-SMB2 2.2.19, READ request.
namespace read_at {
inline constexpr uint16_t kStructureSize = 49;
inline constexpr size_t kFlags = 67;
inline constexpr size_t kLength = 68;
inline constexpr size_t kOffset = 72;
inline constexpr size_t kFileId = 80;
inline constexpr size_t kMinimumCount = 96;
inline constexpr size_t kChannel = 100;
inline constexpr size_t kRemainingBytes = 104;
inline constexpr size_t kChannelInfoOffset = 108;
inline constexpr size_t kChannelInfoLength = 110;
inline constexpr size_t kBuffer = 112;
inline constexpr uint8_t kFlagUnbuffered = 0x01;
inline constexpr uint8_t kFlagRequestCompressed = 0x02;
}  // namespace read_at

// MS-SMB2 2.2.20, READ response.
namespace read_response_at {
inline constexpr uint16_t kStructureSize = 17;
inline constexpr size_t kDataOffset = 66;  // u8
inline constexpr size_t kReserved = 67;
inline constexpr size_t kDataLength = 68;
inline constexpr size_t kDataRemaining = 72;
inline constexpr size_t kFlags = 76;
inline constexpr size_t kBuffer = 80;
}  // namespace read_response_at

// MS-SMB2 2.2.21, WRITE request.
namespace write_at {
inline constexpr uint16_t kStructureSize = 49;
inline constexpr size_t kDataOffset = 66;
inline constexpr size_t kLength = 68;
inline constexpr size_t kOffset = 72;
inline constexpr size_t kFileId = 80;
inline constexpr size_t kChannel = 96;
inline constexpr size_t kRemainingBytes = 100;
inline constexpr size_t kChannelInfoOffset = 104;
inline constexpr size_t kChannelInfoLength = 106;
inline constexpr size_t kFlags = 108;
inline constexpr size_t kBuffer = 112;
}  // namespace write_at

// MS-SMB2 2.2.22, WRITE response.
namespace write_response_at {
inline constexpr uint16_t kStructureSize = 17;
inline constexpr size_t kCount = 68;
inline constexpr size_t kFixedEnd = 80;
}  // namespace write_response_at

// The FileId of other requests on an open file.
inline constexpr size_t kCloseFileIdAt = 72;    // MS-SMB2 2.2.15
inline constexpr size_t kFlushFileIdAt = 72;    // MS-SMB2 2.2.17
inline constexpr size_t kLockFileIdAt = 72;     // MS-SMB2 2.2.26
inline constexpr size_t kIoctlFileIdAt = 72;    // MS-SMB2 2.2.31
inline constexpr size_t kSetInfoFileIdAt = 80;  // MS-SMB2 2.2.39

inline constexpr uint16_t kErrorStructureSize = 9;  // MS-SMB2 2.2.2
inline constexpr size_t kErrorBytes = 64 + 9;       // header and body, with no error data

// MS-SMB2 2.2.3 and 2.2.4, NEGOTIATE.
namespace negotiate_at {
inline constexpr uint16_t kRequestStructureSize = 36;
inline constexpr size_t kDialectCount = 66;
inline constexpr size_t kClientGuid = 76;
inline constexpr size_t kDialects = 100;
inline constexpr uint16_t kResponseStructureSize = 65;
inline constexpr size_t kDialectRevision = 68;
inline constexpr size_t kCapabilities = 88;
inline constexpr size_t kMaxTransactSize = 92;
inline constexpr size_t kMaxReadSize = 96;
inline constexpr size_t kMaxWriteSize = 100;
inline constexpr size_t kResponseFixedEnd = 128;
inline constexpr uint32_t kCapabilityLargeMtu = 0x04;
}  // namespace negotiate_at

// How many bytes of output a request may cause: the offset of that field.
inline constexpr size_t kQueryDirectoryOutputAt = 92;  // MS-SMB2 2.2.33
inline constexpr size_t kQueryInfoOutputAt = 68;       // MS-SMB2 2.2.37
inline constexpr size_t kChangeNotifyOutputAt = 68;    // MS-SMB2 2.2.35
inline constexpr size_t kIoctlOutputAt = 108;          // MS-SMB2 2.2.31, MaxOutputResponse

inline constexpr uint32_t kStatusPending = 0x00000103;
inline constexpr uint32_t kStatusEndOfFile = 0xC0000011;
inline constexpr uint32_t kStatusCancelled = 0xC0000120;
inline constexpr uint32_t kStatusUserSessionDeleted = 0xC0000203;
inline constexpr uint32_t kStatusNetworkSessionExpired = 0xC000035C;
inline constexpr uint32_t kStatusFileNotAvailable = 0xC0000467;
/// MS-ERREF 2.1: the two top bits of an NTSTATUS are its severity.
[[nodiscard]] constexpr bool is_error(uint32_t status) { return (status >> 30) == 3; }

// MS-SMB2 2.2.5, SESSION_SETUP request.
inline constexpr size_t kPreviousSessionIdAt = 80;

inline constexpr uint16_t kDialectWildcard = 0x02FF;  // the answer to an SMB1 negotiate: another follows
inline constexpr uint16_t kDialect210 = 0x0210;
inline constexpr uint16_t kDialect300 = 0x0300;
inline constexpr uint16_t kDialect302 = 0x0302;

/// MS-SMB2 2.2.19: values of Channel.
inline constexpr uint32_t kChannelNone = 0;
inline constexpr uint32_t kChannelRdmaV1 = 1;
inline constexpr uint32_t kChannelRdmaV1Invalidate = 2;

/// Oplock and lease breaks carry it; no request may (MS-SMB2 3.3.4.6).
inline constexpr uint64_t kUnsolicitedMessageId = ~uint64_t{0};

/// The direct-TCP length word has 24 bits (MS-SMB2 2.1).
inline constexpr uint64_t kMaxStreamPdu = 0xFFFFFF;

}  // namespace smbdirect::protocol::smb2
