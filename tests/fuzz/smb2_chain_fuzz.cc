// SPDX-License-Identifier: MIT
// A compound response against RDMA-channel READs and WRITEs 1 to 16 in flight, and the same bytes as a
// compound request.
#include "protocol/smb2/server_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;
using smb2_fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  smb2_test::PromptTranslator translator(smb2::ServerTranslator::Limits{});
  smb2_test::agree(translator, 0x0311);
  smb2::RewrittenRequest out;
  for (uint32_t id = 1; id <= 16; ++id) {
    const smb2_test::Io io{
        .length = 4096, .channel = 1 + id % 2, .memory = {{id, 100 + id / 4, 100}, {id, 7, 4000}}};
    smb2_fuzz::Bytes pdu = id <= 12 ? smb2_test::read_request({.message_id = id}, io)
                                    : smb2_test::write_request({.message_id = id}, io);
    require(translator.request(pdu, out).has_value());
  }
  smb2_fuzz::Bytes pdu = smb2_test::exact({reinterpret_cast<const std::byte*>(data), size});
  {
    smb2_test::PromptTranslator other(smb2::ServerTranslator::Limits{});
    smb2_test::agree(other, 0x0302);
    smb2_fuzz::Bytes request = pdu;
    if (other.request(request, out)) smb2_fuzz::check_request(out, request);
  }
  smb2::ChainPlan plan;
  if (!translator.response_chain(pdu, plan)) return 0;
  uint64_t total = 0;
  for (const auto& piece : plan.pieces) {
    require(piece.fetch < 0 && smb2_fuzz::within(piece.bytes, pdu));
    total += piece.bytes.size();
  }
  require(total == plan.total && total <= pdu.size());
  for (const auto& placement : plan.placements) {
    require(smb2_fuzz::within(placement.data, pdu));
    require(!placement.data.empty() && placement.data.size() <= 4100 && placement.to.size() == 2);
  }
  // What is sent is a well-formed chain with no data where the client expects none.
  const smb2_fuzz::Bytes wire = smb2_test::assemble(plan);
  for (size_t at = 0;;) {
    require(at % 8 == 0 && wire.size() - at >= 64);
    const size_t next = smb2_test::get(wire, at + 20, 4);
    if (next == 0) break;
    at += next;
    require(at < wire.size());
  }
  return 0;
}
