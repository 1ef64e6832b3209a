// SPDX-License-Identifier: MIT
// The client translator between a hostile local client (even tags) and a hostile server (odd tags).
#include "protocol/smb2/client_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;
using smb2_fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  smb2::ClientTranslator client({.rdma_io = true, .threshold = 16, .max_read_write_size = 1 << 20});
  const uint16_t dialect = smb2_fuzz::kDialects[data[0] % std::size(smb2_fuzz::kDialects)];
  if (dialect != 0) {
    const auto negotiated = smb2_test::negotiate_response(dialect);
    require(client.response(smb2_test::prefix_of(negotiated), negotiated.size()).has_value());
  }
  smb2_fuzz::Records records(data + 1, size - 1);
  uint64_t cookie = 0;
  while (auto record = records.next()) {
    const smb2_fuzz::Bytes& pdu = record->bytes;
    const smb2_fuzz::Bytes prefix = smb2_test::exact(smb2_test::prefix_of(pdu));
    if (record->tag % 2 == 0) {
      const auto asked = client.request(prefix, pdu.size());
      if (!asked) return 0;
      if (asked->kind == smb2::ClientTranslator::Request::Kind::pass) continue;
      require(client.dialect() >= 0x0300 && asked->length >= 16 && asked->length <= 1 << 20);
      if (asked->kind == smb2::ClientTranslator::Request::Kind::rdma_channel_write)
        require(uint64_t{asked->data_offset} + asked->length <= pdu.size());
      const size_t count = 1 + record->tag % 5;
      const std::vector<smb2::BufferDescriptor> memory(count, {4096, 1, asked->length});
      smb2_fuzz::Bytes out(112 + 16 * count);
      const auto made = client.rdma_channel_request(prefix, *asked, memory, ++cookie, out);
      if (!made) return 0;
      require(*made == out.size());
      // Our own server side finds nothing wrong with it.
      smb2_test::PromptTranslator server(smb2::ServerTranslator::Limits{});
      smb2_test::agree(server, client.dialect());
      smb2::RewrittenRequest rewritten;
      if (server.request(out, rewritten)) {
        require(server.refused_requests() == 0);
        smb2_fuzz::check_request(rewritten, out);
      } else {
        require(false);
      }
      continue;
    }
    const auto answer = client.response(prefix, pdu.size());
    if (!answer) return 0;
    if (answer->finished) require(*answer->finished >= 1 && *answer->finished <= cookie);
    if (answer->kind == smb2::ClientTranslator::Response::Kind::from_memory) {
      require(answer->finished.has_value() && answer->length <= 1 << 20);
      require(smb2_test::get(answer->header, 68, 4) == answer->length);
      require(smb2_test::get(answer->header, 72, 4) == 0);
    }
  }
  return 0;
}
