// SPDX-License-Identifier: MIT
// A client's PDUs through classify, parse_negotiate_request and the server translator, as a session would.
#include "protocol/smb2/server_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  smb2_test::PromptTranslator translator(smb2::ServerTranslator::Limits{.max_requests = 64});
  const uint16_t dialect = smb2_fuzz::kDialects[data[0] % std::size(smb2_fuzz::kDialects)];
  if (dialect != 0) smb2_test::agree(translator, dialect, 1 << 20, 1 << 20);
  smb2_fuzz::Records records(data + 1, size - 1);
  smb2::RewrittenRequest out;
  while (auto record = records.next()) {
    smb2_fuzz::Bytes& pdu = record->bytes;
    (void)smb2::parse_negotiate_request(pdu);
    const smb2_fuzz::Bytes prefix = smb2_test::exact(smb2_test::prefix_of(pdu));
    const auto info = smb2::classify_request(prefix, pdu.size());
    if (!info) {
      // What the prefix condemns, the whole must not be let through as.
      smb2_fuzz::require(!translator.request(pdu, out));
      return 0;
    }
    smb2_fuzz::require(info->reply_bytes <= (16u << 20) + 65536);
    smb2_fuzz::require(info->previous_session == 0 || info->command == smb2::Command::session_setup);
    smb2_fuzz::require(!info->may_pass || info->route == smb2::RequestInfo::Route::stream);
    if (info->route == smb2::RequestInfo::Route::stream) {
      smb2_fuzz::require(!info->rdma_channel);
      if (!translator.note(*info)) return 0;
      continue;
    }
    const smb2_fuzz::Bytes original = pdu;
    if (!translator.request(pdu, out)) return 0;
    smb2_fuzz::check_request(out, pdu);
    if (info->command == smb2::Command::negotiate && smb2_test::get(original, 20, 4) == 0)
      smb2_fuzz::require(pdu == original && out.pieces.size() == 1);
  }
  return 0;
}
