// SPDX-License-Identifier: MIT
// smbd's PDUs against requests in flight: records with an even tag are requests, those of them with bit 1 by
// an area where they may, odd ones responses.
#include "protocol/smb2/server_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;
using smb2_fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  smb2_test::PromptTranslator translator(smb2::ServerTranslator::Limits{.max_requests = 64});
  const uint16_t dialect = smb2_fuzz::kDialects[data[0] % std::size(smb2_fuzz::kDialects)];
  if (dialect != 0) smb2_test::agree(translator, dialect, 1 << 20, 1 << 20);
  smb2_fuzz::Records records(data + 1, size - 1);
  smb2::RewrittenRequest out;
  smb2::ChainPlan chain_plan;
  uint64_t reserved = 0;
  while (auto record = records.next()) {
    smb2_fuzz::Bytes& pdu = record->bytes;
    const smb2_fuzz::Bytes prefix = smb2_test::exact(smb2_test::prefix_of(pdu));
    if (record->tag % 2 == 0) {
      const auto info = smb2::classify_request(prefix, pdu.size());
      if (!info) continue;
      if ((record->tag & 2) != 0 && translator.area_io(pdu)) {
        const auto carried = translator.request_by_area(pdu, {.token = {}, .offset = 4096}, out);
        if (!carried) return 0;
        if (!*carried) continue;
        translator.forwarded(out.ticket);
        reserved += out.reply_bytes;
        continue;
      }
      if (info->route == smb2::RequestInfo::Route::gather) {
        if (!translator.request(pdu, out)) return 0;
        reserved += out.reply_bytes;
      } else if (!info->opaque) {
        if (!translator.note(*info)) return 0;
        reserved += info->reply_bytes;
      }
      continue;
    }
    const auto plan = translator.response(prefix, pdu.size());
    if (!plan) return 0;
    require(plan->released <= reserved);
    reserved -= plan->released;
    if (plan->kind == smb2::ResponsePlan::Kind::place) {
      require(uint64_t{plan->data_offset} + plan->data_length <= pdu.size());
      uint64_t room = 0;
      for (const auto& descriptor : plan->to) room += descriptor.length;
      require(room >= plan->data_length);
      require(smb2_test::get(plan->header, 68, 4) == 0);
      require(smb2_test::get(plan->header, 72, 4) == plan->data_length);
    }
    if (plan->kind == smb2::ResponsePlan::Kind::replace) {
      uint64_t room = 0;
      for (const auto& descriptor : plan->to) room += descriptor.length;
      require(room >= plan->data_length);
      require(plan->area_offset == 4096);
    }
    if (plan->kind == smb2::ResponsePlan::Kind::gather) {
      if (!translator.response_chain(pdu, chain_plan)) return 0;
      require(chain_plan.released <= reserved);
      reserved -= chain_plan.released;
      for (const auto& placement : chain_plan.placements) require(smb2_fuzz::within(placement.data, pdu));
    }
    if (translator.in_flight() == 0) require(reserved == 0);
  }
  return 0;
}
