// SPDX-License-Identifier: MIT
// Random conversations through the translators, some of their READs and WRITEs answered here, end as they
// would have without RDMA: same statuses, same data, same files, every token invalidated once, every
// reservation given back, smbd told of every MessageId.
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "protocol/smb2/server_translator.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/smbd_model.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;

namespace {

struct Outcome {
  uint32_t status = ~0u;
  uint32_t count = 0;
  Bytes data;
  bool operator==(const Outcome&) const = default;
};
using Outcomes = std::map<uint64_t, Outcome>;

/// One request as the client means it.
struct Op {
  uint16_t command{};
  uint64_t id{};
  uint32_t flags{};
  uint16_t charge = 1;
  Io io{};              // channel form; io.data is what a WRITE writes
  bool spoilt = false;  // channel form made unacceptable
  size_t spoil_kind = 0;
};

class Conversation {
 public:
  Conversation(uint32_t seed, uint16_t dialect)
      : random_(seed),
        dialect_(dialect),
        direct_(seed),
        behind_(seed + 1),
        translator_({.max_read_write_size = 1 << 20}) {
    Bytes agreed = negotiate_response(dialect, SmbdModel::kMaxIo, SmbdModel::kMaxIo);
    put(agreed, 88, 4, 4);  // SMB2_GLOBAL_CAP_LARGE_MTU
    ask(translator_, negotiate_request({dialect}), agreed);
    Bytes session = plain(kSessionSetup, {.message_id = 1, .flags = kResponse}, 8);
    put(session, 14, 60000, 2);  // more credits than it uses
    ask(translator_, plain(kSessionSetup, {.message_id = 1}, 24), session);
    for (const uint64_t file : {uint64_t{1}, uint64_t{2}, SmbdModel::kPipe})
      direct_.files[file] = behind_.files[file] =
          pattern(pick(random_, 40000), seed + static_cast<uint32_t>(file));
  }

  void step() {
    std::vector<Op> ops(1 + (random_() % 3 == 0 ? random_() % 6 : 0));
    for (Op& op : ops) op = random_op(&op != &ops.front());
    const Bytes inline_pdu = render(ops, false);
    Bytes rdma_pdu = render(ops, true);

    Outcomes expected;
    for (const Bytes& pdu : direct_.handle(inline_pdu)) collect(pdu, expected);
    for (const Op& op : ops) {
      if (op.spoilt) expected[op.id] = {kInvalidParameter, 0, {}};
      if (op.io.channel == 2 && dialect_ >= 0x0302 && token_survives(op))
        tokens_due_.insert(op.io.memory[0].token);
    }

    const Outcomes got = exchange(std::move(rdma_pdu), ops);
    REQUIRE(got == expected);
    REQUIRE(direct_.files == behind_.files);
  }
  void finish() {
    tell();
    CHECK(told_ == here_);
    CHECK(tokens_due_.empty());
    CHECK(translator_.in_flight() == 0);
    CHECK(reserved_ == 0);
  }
  [[nodiscard]] size_t answered_here() const { return answered_here_; }

 private:
  Op random_op(bool chained) {
    Op op;
    op.id = next_id_;
    const uint32_t kind = pick(random_, 10);
    op.command = kind < 4 ? kRead : kind < 8 ? kWrite : kind == 8 ? kEcho : kClose;
    if (chained && pick(random_, 2) == 0) op.flags = kRelated;
    op.io.offset = pick(random_, 50000);
    op.io.length = pick(random_, 6) == 0 ? pick(random_, 300000) : pick(random_, 3000);
    op.io.file = std::array{uint64_t{1}, uint64_t{2}, SmbdModel::kPipe, uint64_t{99}}[pick(random_, 4)];
    if (op.command == kWrite) {
      op.io.length = std::max(op.io.length, 1u);
      op.io.data = pattern(op.io.length, static_cast<uint32_t>(random_()));
    }
    op.charge = static_cast<uint16_t>(1 + (std::max(op.io.length, 1u) - 1) / 65536);
    next_id_ += op.charge;
    if ((op.command == kRead || op.command == kWrite) && pick(random_, 3) != 0) {
      op.io.channel = 1 + pick(random_, 2);
      op.io.memory = split(op.io.length);
      if (op.command == kWrite) memory_.fill(op.io.memory, op.io.data);
      op.spoil_kind = pick(random_, 12);
      op.spoilt = op.spoil_kind < 6 || (op.io.channel == 2 && dialect_ < 0x0302);
    }
    return op;
  }

  std::vector<BufferDescriptor> split(uint32_t length) {
    std::vector<BufferDescriptor> memory;
    uint32_t left = length + (pick(random_, 2) == 0 ? pick(random_, 100) : 0);
    const uint32_t pieces = pick(random_, 4) == 0 ? 1 + pick(random_, 40) : 1 + pick(random_, 3);
    for (uint32_t i = 0; i + 1 < pieces; ++i) {
      const uint32_t n = left == 0 ? 0 : pick(random_, left);
      memory.push_back(memory_.expose(memory.empty() ? std::max(n, 1u) : n, random_()));
      left -= std::min(left, memory.back().length);
    }
    memory.push_back(memory_.expose(memory.empty() ? std::max(left, 1u) : left, random_()));
    return memory;
  }

  static bool token_survives(const Op& op) { return !op.spoilt || op.spoil_kind >= 2; }

  /// One of the ways MS-SMB2 3.3.5.12/13 names; 0 and 1 leave no descriptor to invalidate.
  static void spoil(Bytes& pdu, const Op& op) {
    const bool read = op.command == kRead;
    const size_t info = read ? 108 : 104;
    switch (op.spoil_kind) {
      case 0:
        put(pdu, info, 0, 2);
        break;
      case 1:
        put(pdu, info + 2, 0, 2);
        break;
      case 2:
        put(pdu, 112 + 12, 0, 4);
        break;
      case 3:
        put(pdu, read ? 68 : 100, SmbdModel::kMaxIo + 1, 4);
        break;
      case 4:  // the sum falls short
        for (size_t at = 112; at + 16 <= pdu.size(); at += 16) put(pdu, at + 12, 0, 4);
        put(pdu, 112 + 12, 1, 4);
        put(pdu, read ? 68 : 100, 2, 4);
        break;
      case 5:
        if (read) {
          put(pdu, 68, 0xFFFFFFFF, 4);
        } else {
          put(pdu, 68, 1, 4);
        }
        break;
      default:
        break;
    }
  }

  Bytes render(const std::vector<Op>& ops, bool rdma) {
    std::vector<Bytes> elements;
    for (const Op& op : ops) {
      const Head head{.message_id = op.id, .flags = op.flags, .credit_charge = op.charge};
      Io io = op.io;
      if (!rdma) {
        io.channel = 0;
        io.memory.clear();
        if (op.spoilt) {  // must change no file: expected to be refused
          elements.push_back(error_free_read(head));
          continue;
        }
      }
      Bytes element = op.command == kRead    ? read_request(head, io)
                      : op.command == kWrite ? write_request(head, io)
                                             : plain(op.command, head, 24);
      if (rdma && op.spoilt) spoil(element, op);
      elements.push_back(std::move(element));
    }
    return chain(std::move(elements));
  }
  static Bytes error_free_read(const Head& head) { return read_request(head, {.file = 99}); }

  Outcomes exchange(Bytes pdu, const std::vector<Op>& ops) {
    const auto info = smb2::classify_request(prefix_of(pdu), pdu.size());
    REQUIRE(info);
    const auto direct = translator_.direct_request(pdu, pdu.size());
    const Bytes asked = pdu;
    Bytes wire;
    smb2::Ticket ticket;
    if (info->route == smb2::RequestInfo::Route::stream) {
      ticket = translator_.ServerTranslator::note(*info).value();
      reserved_ += info->reply_bytes;
      wire = pdu;
    } else {
      REQUIRE(translator_.ServerTranslator::request(pdu, request_));
      ticket = request_.ticket;
      reserved_ += request_.reply_bytes;
      wire = assemble(request_,
                      [&](const smb2::Fetch& fetch) { return memory_.read(memory_of(fetch), fetch.length); });
      REQUIRE(wire.size() == request_.total);
    }
    if (direct && pick(random_, 2) == 0 && translator_.begin_here(ticket, *direct)) {
      if (auto outcome = answer_here(ticket, *direct, asked))
        return {{direct->message_id, std::move(*outcome)}};
    }
    tell();
    translator_.forwarded(ticket);
    for (size_t at = 0;;) {  // smbd must never see a Channel
      const uint64_t command = get(wire, at + 12, 2);
      if (command == kRead) REQUIRE(get(wire, at + 100, 4) == 0);
      if (command == kWrite) REQUIRE(get(wire, at + 96, 4) == 0);
      if (get(wire, at + 20, 4) == 0) break;
      at += get(wire, at + 20, 4);
    }
    Outcomes outcomes;
    for (Bytes& response : behind_.handle(wire)) collect(deliver(std::move(response)), outcomes);
    for (const Op& op : ops) {  // data by RDMA: from the client's own memory
      if (op.command != kRead || op.io.channel == 0) continue;
      Outcome& outcome = outcomes[op.id];
      REQUIRE(outcome.data.empty());
      if (outcome.count != 0) outcome.data = memory_.read(op.io.memory, outcome.count);
    }
    return outcomes;
  }

  /// As a worker does it that has the open file; what is unusual is for smbd.
  std::optional<Outcome> answer_here(const smb2::Ticket& ticket, const smb2::DirectRequest& direct,
                                     const Bytes& asked) {
    const auto file = behind_.files.find(get(direct.file_id.bytes, 0, 8));
    if (file == behind_.files.end() || file->first == SmbdModel::kPipe) return std::nullopt;
    Bytes& all = file->second;
    const bool read = direct.command == smb2::Command::read;
    if (read && direct.offset >= all.size()) return std::nullopt;
    const auto count =
        uint32_t(read ? std::min<uint64_t>(direct.length, all.size() - direct.offset) : direct.length);
    Bytes data;
    if (read) {
      data = exact(std::span(all).subspan(direct.offset, count));
    } else {
      data = direct.rdma_channel ? memory_.read(memory_of(request_.fetches.at(0)), count)
                                 : exact(std::span(asked).subspan(direct.data_offset, count));
      all.resize(std::max<size_t>(all.size(), direct.offset + count));
      std::ranges::copy(data, all.begin() + ptrdiff_t(direct.offset));
    }
    const auto here = translator_.answered_here(ticket, direct);
    REQUIRE(here.credits == direct.charge);
    REQUIRE(here.to.empty() == !(read && direct.rdma_channel));
    if (!here.to.empty()) REQUIRE(memory_.write(here.to, data));
    if (here.invalidate) invalidated(*here.invalidate);
    reserved_ -= here.released;
    ++answered_here_;
    for (uint64_t id = direct.message_id; id < direct.message_id + direct.charge; ++id) here_.insert(id);
    const auto answer = read ? smb2::answer_read(direct, asked, count, here.credits)
                             : smb2::answer_write(direct, asked, count, here.credits);
    Bytes sent = exact(answer.span());
    if (read && !direct.rdma_channel) sent = std::move(sent) + data;
    Outcomes outcomes;
    collect(sent, outcomes);
    Outcome outcome = outcomes.at(direct.message_id);
    if (read) outcome.data = std::move(data);
    return outcome;
  }

  /// Before anything else goes to smbd.
  void tell() {
    Bytes out(3 * smb2::SequenceLedger::kEchoBytes);
    while (const size_t size = translator_.ledger().tell(out)) {
      for (size_t at = 4; at < size; at += smb2::SequenceLedger::kEchoBytes) {
        const uint64_t first = get(out, at + 24, 8);
        const uint64_t count = get(out, at + 6, 2);
        for (uint64_t id = first; id < first + count; ++id) REQUIRE(told_.insert(id).second);
        Bytes answer = plain(kEcho, {.message_id = first, .flags = kResponse});
        put(answer, 14, count, 2);
        const auto plan = translator_.response(prefix_of(answer), answer.size());
        REQUIRE(plan);
        REQUIRE(plan->kind == smb2::ResponsePlan::Kind::swallow);
      }
    }
  }

  /// What the session does with a PDU from smbd; returns what it sends.
  Bytes deliver(Bytes response) {
    const auto plan = translator_.response(prefix_of(response), response.size());
    REQUIRE(plan);
    if (plan->invalidate) invalidated(*plan->invalidate);
    REQUIRE(reserved_ >= plan->released);
    reserved_ -= plan->released;
    switch (plan->kind) {
      case smb2::ResponsePlan::Kind::pass:
        return response;
      case smb2::ResponsePlan::Kind::place:
        REQUIRE(memory_.write(plan->to, std::span(response).subspan(plan->data_offset, plan->data_length)));
        return exact(plan->header);
      case smb2::ResponsePlan::Kind::replace:
        FAIL("nothing goes by an area here");
        break;
      case smb2::ResponsePlan::Kind::swallow:
        FAIL("this is the client's");
        break;
      case smb2::ResponsePlan::Kind::gather:
        break;
    }
    REQUIRE(translator_.response_chain(response, chain_plan_));
    reserved_ -= chain_plan_.released;
    for (const auto& placement : chain_plan_.placements) REQUIRE(memory_.write(placement.to, placement.data));
    for (const uint32_t token : chain_plan_.invalidate) invalidated(token);
    Bytes sent = assemble(chain_plan_);
    REQUIRE(sent.size() == chain_plan_.total);
    return sent;
  }
  void invalidated(uint32_t token) {
    // Final responses only, and each token once.
    REQUIRE(tokens_due_.erase(token) == 1);
  }

  static void collect(const Bytes& pdu, Outcomes& outcomes) {
    for (size_t at = 0;;) {
      const size_t next = get(pdu, at + 20, 4);
      REQUIRE(next % 8 == 0);
      const Bytes element = exact(std::span(pdu).subspan(at, next != 0 ? next : pdu.size() - at));
      const auto status = static_cast<uint32_t>(get(element, 8, 4));
      const uint64_t id = get(element, 24, 8);
      if (status == kPending) {
        REQUIRE_FALSE(outcomes.contains(id));  // interim before final
      } else {
        Outcome outcome{status, 0, {}};
        const auto command = get(element, 12, 2);
        if (command == kWrite && get(element, 64, 2) == 17)
          outcome.count = static_cast<uint32_t>(get(element, 68, 4));
        if (command == kRead && get(element, 64, 2) == 17) {
          const auto here = static_cast<uint32_t>(get(element, 68, 4));
          const auto remote = static_cast<uint32_t>(get(element, 72, 4));
          REQUIRE((here == 0 || remote == 0));
          outcome.count = here + remote;
          outcome.data = exact(std::span(element).subspan(get(element, 66, 1), here));
        }
        REQUIRE(outcomes.emplace(id, std::move(outcome)).second);
      }
      if (next == 0) break;
      at += next;
    }
  }

  std::mt19937 random_;
  uint16_t dialect_;
  SmbdModel direct_;
  SmbdModel behind_;
  PromptTranslator translator_;
  smb2::RewrittenRequest request_;
  smb2::ChainPlan chain_plan_;
  ClientMemory memory_;
  std::set<uint32_t> tokens_due_;
  std::set<uint64_t> here_;  // ids that were answered here
  std::set<uint64_t> told_;  // ... and told
  size_t answered_here_ = 0;
  uint64_t next_id_ = 2;
  uint64_t reserved_ = 0;
};

}  // namespace

TEST_CASE("random channel and plain requests end as an inline exchange would") {
  size_t here = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    for (const uint16_t dialect : {uint16_t{0x0300}, uint16_t{0x0302}, uint16_t{0x0311}}) {
      INFO("seed ", seed);
      INFO("dialect ", dialect);
      Conversation conversation(seed, dialect);
      for (int i = 0; i < 60; ++i) conversation.step();
      conversation.finish();
      here += conversation.answered_here();
    }
  }
  CHECK(here > 150);
}

}  // namespace smb2_test
