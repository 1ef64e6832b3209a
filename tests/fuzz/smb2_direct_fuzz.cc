// SPDX-License-Identifier: MIT
// Any bytes as a READ or WRITE that could be answered here: what is taken stays within what was paid for,
// what was agreed, the PDU and the range of file offsets, is what smbd would see, and its answer is whole.
#include "protocol/smb2/direct_request.h"
#include "protocol/smb2/server_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using smb2_fuzz::require;
  using smb2_test::get;
  if (size < 2) return 0;
  const smb2::DirectLimits limits{.dialect = smb2_fuzz::kDialects[data[0] % std::size(smb2_fuzz::kDialects)],
                                  .multi_credit = (data[1] & 1) != 0,
                                  .max_read = 1 << 20,
                                  .max_write = 1 << 19};
  smb2_fuzz::Records records(data + 2, size - 2);
  while (auto record = records.next()) {
    const smb2_fuzz::Bytes& pdu = record->bytes;
    // The first bytes of something longer, or all there is.
    const uint64_t total = pdu.size() + (record->tag == 0 ? 0 : uint64_t{record->tag} << 10);
    const auto request = smb2::parse_direct_request(pdu, total, limits);
    if (!request) continue;
    const bool read = request->command == smb2::Command::read;
    require(read || request->command == smb2::Command::write);
    require(get(pdu, 20, 4) == 0 && (get(pdu, 16, 4) & 0xF) == 0);
    require(request->charge != 0 && (limits.multi_credit || request->charge == 1));
    require(request->minimum <= request->length);
    require(request->length != 0 && request->length <= (read ? limits.max_read : limits.max_write));
    require(request->length <= uint64_t{request->charge} * 65536);
    require(request->offset + request->length <= (uint64_t{1} << 63) - 1);
    require(request->message_id == get(pdu, 24, 8) && request->session_id == get(pdu, 40, 8));
    require(request->tree_id == get(pdu, 36, 4));
    if (read || request->rdma_channel) require(pdu.size() == total);
    if (!read && !request->rdma_channel)
      require(request->data_offset == 112 && request->data_offset + uint64_t{request->length} <= total);
    // What smbd would be asked instead, and be asked the same.
    const auto info = smb2::classify_request(smb2_test::exact(smb2_test::prefix_of(pdu)), total);
    require(pdu.size() < std::min<uint64_t>(total, smb2::kPrefixBytes) || info);
    const auto answer = read ? smb2::answer_read(*request, pdu, request->length, request->charge)
                             : smb2::answer_write(*request, pdu, request->length, request->charge);
    require(answer.size == 80 && (get(answer.bytes, 16, 4) & 1) != 0);
    require(get(answer.bytes, 24, 8) == request->message_id && get(answer.bytes, 8, 4) == 0);
    require(get(answer.bytes, 68, 4) + (read ? get(answer.bytes, 72, 4) : 0) == request->length);
  }
  return 0;
}
