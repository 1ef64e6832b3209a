// SPDX-License-Identifier: MIT
// smbdirect-connect's translator in front of the worker's: neither the local client nor smbd can tell.
#include <map>

#include <doctest/doctest.h>

#include "protocol/smb2/client_translator.h"
#include "protocol/smb2/server_translator.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/smbd_model.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;

TEST_CASE("client and server translator together are invisible: every PDU arrives byte-identical") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed ", seed);
    std::mt19937 random(seed);
    const uint16_t dialect = std::array<uint16_t, 3>{0x0300, 0x0302, 0x0311}[seed % 3];
    SmbdModel direct(seed), behind(seed);
    for (const uint64_t file : {uint64_t{1}, SmbdModel::kPipe})
      direct.files[file] = behind.files[file] = pattern(pick(random, 100000), seed);
    PromptTranslator server(smb2::ServerTranslator::Limits{});
    agree(server, dialect, SmbdModel::kMaxIo, SmbdModel::kMaxIo);
    smb2::ClientTranslator client({.rdma_io = true, .threshold = 1000, .max_read_write_size = 200000});
    const Bytes negotiated = negotiate_response(dialect);
    REQUIRE(client.response(prefix_of(negotiated), negotiated.size()));
    ClientMemory memory;
    std::map<uint64_t, std::vector<BufferDescriptor>> exposed;  // by cookie
    uint64_t id = 1;
    uint64_t translated = 0;

    for (int step = 0; step < 80; ++step) {
      // The local client's PDU: plain SMB.
      std::vector<Bytes> elements;
      const uint32_t count = pick(random, 5) == 0 ? 3 : 1;
      for (uint32_t i = 0; i < count; ++i) {
        const uint32_t length = pick(random, 8) == 0 ? pick(random, 250000) : pick(random, 4000);
        const Head head{
            .message_id = id, .flags = 0, .credit_charge = static_cast<uint16_t>(1 + length / 65536)};
        id += head.credit_charge;
        const Io io{.offset = pick(random, 100000),
                    .length = length,
                    .file = pick(random, 2) == 0 ? 1 : SmbdModel::kPipe,
                    .data = pattern(length, id & 0xFFFF)};
        elements.push_back(pick(random, 2) == 0 ? read_request(head, io) : write_request(head, io));
      }
      const Bytes local = chain(elements);
      const std::vector<Bytes> want = direct.handle(local);

      // smbdirect-connect.
      const auto asked = client.request(prefix_of(local), local.size());
      REQUIRE(asked);
      Bytes sent = local;
      if (asked->kind != smb2::ClientTranslator::Request::Kind::pass) {
        std::vector<BufferDescriptor> pieces;
        const uint32_t first = 1 + pick(random, asked->length);
        pieces.push_back(memory.expose(first, random()));
        if (first < asked->length) pieces.push_back(memory.expose(asked->length - first, random()));
        if (asked->kind == smb2::ClientTranslator::Request::Kind::rdma_channel_write)
          memory.fill(pieces, std::span(local).subspan(asked->data_offset, asked->length));
        sent.assign(112 + 16 * pieces.size(), std::byte{0});
        const uint64_t cookie = 5000 + id;
        exposed[cookie] = pieces;
        const auto size = client.rdma_channel_request(prefix_of(local), *asked, pieces, cookie, sent);
        REQUIRE(size);
        REQUIRE(*size == sent.size());
        ++translated;
      }

      // smbdirect-worker.
      const auto info = smb2::classify_request(prefix_of(sent), sent.size());
      REQUIRE(info);
      smb2::RewrittenRequest out;
      Bytes to_smbd = sent;
      if (info->route == smb2::RequestInfo::Route::stream) {
        REQUIRE(server.note(*info));
      } else {
        REQUIRE(server.request(sent, out));
        to_smbd = assemble(
            out, [&](const smb2::Fetch& fetch) { return memory.read(memory_of(fetch), fetch.length); });
      }
      REQUIRE(to_smbd == local);

      std::vector<Bytes> got;
      for (Bytes& response : behind.handle(to_smbd)) {
        const auto plan = server.response(prefix_of(response), response.size());
        REQUIRE(plan);
        Bytes to_client = response;
        if (plan->kind == smb2::ResponsePlan::Kind::place) {
          REQUIRE(memory.write(plan->to, std::span(response).subspan(plan->data_offset, plan->data_length)));
          to_client = exact(plan->header);
        } else if (plan->kind == smb2::ResponsePlan::Kind::gather) {
          smb2::ChainPlan chain_plan;
          REQUIRE(server.response_chain(response, chain_plan));
          REQUIRE(chain_plan.placements.empty());  // RDMA-channel I/O went out uncompounded
          to_client = assemble(chain_plan);
        }
        const auto answer = client.response(prefix_of(to_client), to_client.size());
        REQUIRE(answer);
        if (answer->kind == smb2::ClientTranslator::Response::Kind::from_memory) {
          REQUIRE(answer->finished);
          to_client = exact(answer->header) + memory.read(exposed.at(*answer->finished), answer->length);
        }
        if (answer->finished) {
          // Invalidated exactly when the client asked for it.
          REQUIRE(plan->invalidate.has_value() == (dialect >= 0x0302));
          if (plan->invalidate) REQUIRE(*plan->invalidate == exposed.at(*answer->finished)[0].token);
          exposed.erase(*answer->finished);
        }
        got.push_back(std::move(to_client));
      }
      REQUIRE(got == want);
    }
    CHECK(translated > 10);
    CHECK(exposed.empty());
    CHECK(client.in_flight() == 0);
    CHECK(server.in_flight() == 0);
    CHECK(server.refused_requests() == 0);
    CHECK(direct.files == behind.files);
  }
}

}  // namespace smb2_test
