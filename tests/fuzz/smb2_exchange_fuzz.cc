// SPDX-License-Identifier: MIT
// The server translator between a hostile client and a hostile server, as a session drives it: requests are
// gathered or streamed, forwarded late and out of order, fetched from meanwhile, and answered by whatever the
// input says. Besides the sanitizers: what is released was reserved, what is fetched is what the client
// named, and nothing is settled before it went.
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "protocol/smb2/server_translator.h"
#include "tests/fuzz/smb2_fuzz_input.h"

namespace smb2 = smbdirect::protocol::smb2;
using smb2_fuzz::require;

namespace {

/// A small machine that reads its steps from the input.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : left_(data, size) {}
  bool empty() const { return left_.empty(); }
  uint8_t byte() {
    if (left_.empty()) return 0;
    const uint8_t value = left_[0];
    left_ = left_.subspan(1);
    return value;
  }
  smb2_fuzz::Bytes bytes(size_t most) {
    const auto taken = left_.first(std::min(most, left_.size()));
    left_ = left_.subspan(taken.size());
    const auto* at = reinterpret_cast<const std::byte*>(taken.data());
    return {at, at + taken.size()};
  }

 private:
  std::span<const uint8_t> left_;
};

struct Waiting {
  smb2_fuzz::Bytes pdu;
  smb2::RewrittenRequest out;
  std::vector<std::vector<smb2::BufferDescriptor>> memory;  // as it was when the PDU came
  size_t requests = 0;
};

class Session {
 public:
  explicit Session(Input input) : input_(input) {}

  void run() {
    while (!input_.empty()) {
      if (!step()) return;
    }
  }

 private:
  bool step() {
    switch (input_.byte() % 8) {
      case 0:
      case 1:
        return request(make_request());
      case 2:
        return request(scribbled(make_request()));
      case 3:
        return forward();
      case 4:
      case 5:
        return response(make_response());
      case 6:
        return response(scribbled(make_response()));
      default:
        fetch();
        return true;
    }
  }

  smb2_fuzz::Bytes make_request() {
    const uint8_t kind = input_.byte();
    const uint64_t id = input_.byte() % 32;
    const smb2_test::Head head{.message_id = id, .flags = input_.byte() % 8 == 0 ? smb2_test::kRelated : 0};
    const size_t count = 1 + input_.byte() % 7;
    const smb2_test::Io io{.length = input_.byte(),
                           .channel = kind / 16 % 4u,
                           .memory = std::vector<smb2::BufferDescriptor>(count, {id, 77, 64}),
                           .data = smb2_fuzz::Bytes(input_.byte())};
    smb2_fuzz::Bytes pdu;
    switch (kind % 8) {
      case 0:
        pdu = smb2_test::negotiate_request({0x0300, 0x0302, 0x0311}, id);
        break;
      case 1:
        pdu = smb2_test::plain(smb2_test::kSessionSetup, head, 24);
        break;
      case 2:
        pdu = smb2_test::plain(smb2_test::kCancel, head);
        break;
      case 3:
        pdu = smb2_test::plain(smb2_test::kChangeNotify, head, 32);
        break;
      case 4:
      case 5:
        pdu = smb2_test::read_request(head, io);
        break;
      case 6:
        pdu = smb2_test::write_request(head, io);
        break;
      default:
        pdu = smb2_test::pattern(100 + io.length, 1);
        smb2_test::put(pdu, 0, 0x424D53FD, 4);
        return pdu;
    }
    if (kind >= 0xC0)
      pdu = smb2_test::chain({pdu, smb2_test::plain(smb2_test::kEcho, {.message_id = id + 1})});
    return pdu;
  }

  smb2_fuzz::Bytes make_response() {
    const uint8_t kind = input_.byte();
    const uint64_t id = input_.byte() % 32;
    const uint8_t size = input_.byte();
    const smb2_test::Head head{.message_id = id, .flags = kind & 0x40 ? smb2_test::kAsync : 0};
    smb2_fuzz::Bytes pdu;
    switch (kind % 8) {
      case 0:
        pdu = smb2_test::negotiate_response(0x0302, 1 << 20, 1 << 20, id);
        break;
      case 1:
        pdu =
            smb2_test::plain(smb2_test::kSessionSetup, {.message_id = id, .flags = smb2_test::kResponse}, 8);
        break;
      case 2:
        pdu = smb2_test::interim_response(input_.byte() % 20, head);
        break;
      case 3:
        pdu = smb2_test::error_response(
            input_.byte() % 20, {.message_id = id, .flags = head.flags, .status = smb2_test::kCancelled});
        break;
      case 4:
      case 5:
        pdu = smb2_test::read_response(head, smb2_fuzz::Bytes(size));
        break;
      case 6:
        pdu = smb2_test::write_response(head, size);
        break;
      default:
        pdu = smb2_test::plain(18, {.message_id = ~uint64_t{0}, .flags = smb2_test::kResponse}, 24);
        break;
    }
    if (kind >= 0xE0)
      pdu = smb2_test::chain({pdu, smb2_test::read_response({.message_id = id + 1}, smb2_fuzz::Bytes(size))});
    return pdu;
  }

  smb2_fuzz::Bytes scribbled(smb2_fuzz::Bytes pdu) {
    for (int left = 1 + input_.byte() % 4; left > 0; --left) {
      const size_t at = input_.byte() | (input_.byte() & 1) << 8;
      if (at < pdu.size()) pdu[at] = static_cast<std::byte>(input_.byte());
    }
    if (input_.byte() % 4 == 0) pdu.resize(std::min<size_t>(pdu.size(), input_.byte()));
    return smb2_test::exact(pdu);
  }

  bool request(smb2_fuzz::Bytes pdu) {
    pdu = smb2_test::exact(pdu);
    const smb2_fuzz::Bytes prefix = smb2_test::exact(smb2_test::prefix_of(pdu));
    const auto info = translator_.classify(prefix, pdu.size());
    if (!info) return true;  // a session would end; here the next one may do better
    auto waiting = std::make_unique<Waiting>();
    const size_t before = translator_.in_flight();
    waiting->pdu = std::move(pdu);
    if (info->route == smb2::RequestInfo::Route::stream) {
      const auto ticket = translator_.note(*info);
      if (!ticket) return false;
      waiting->out.ticket = *ticket;
      reserved_ += info->reply_bytes;
      if (info->opaque) opaque_ += info->reply_bytes;
      require(opaque_ <= kOpaque);
    } else {
      if (!translator_.request(waiting->pdu, waiting->out)) return false;
      smb2_fuzz::check_request(waiting->out, waiting->pdu);
      require(translator_.has_session() || waiting->out.fetches.empty());
      for (const smb2::Fetch& fetch : waiting->out.fetches)
        waiting->memory.push_back(smb2_test::memory_of(fetch));
      reserved_ += waiting->out.reply_bytes;
    }
    waiting->requests = translator_.in_flight() - before;
    waiting_.push_back(std::move(waiting));
    return true;
  }

  /// What a queue does while RDMA READs are under way.
  void fetch() {
    for (const auto& waiting : waiting_) {
      for (size_t i = 0; i < waiting->out.fetches.size(); ++i) {
        const auto now = smb2_test::memory_of(waiting->out.fetches[i]);
        require(now.size() == waiting->memory[i].size());
        uint64_t memory = 0;
        for (size_t d = 0; d < now.size(); ++d) {
          require(now[d].token == waiting->memory[i][d].token &&
                  now[d].offset == waiting->memory[i][d].offset &&
                  now[d].length == waiting->memory[i][d].length);
          memory += now[d].length;
        }
        require(memory >= waiting->out.fetches[i].length);
      }
    }
  }

  bool forward() {
    if (waiting_.empty()) return true;
    const size_t which = input_.byte() % waiting_.size();
    fetch();
    translator_.forwarded(waiting_[which]->out.ticket);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(which));
    return true;
  }

  bool response(smb2_fuzz::Bytes pdu) {
    pdu = smb2_test::exact(pdu);
    const smb2_fuzz::Bytes prefix = smb2_test::exact(smb2_test::prefix_of(pdu));
    const size_t before = translator_.in_flight();
    const auto plan = translator_.response(prefix, pdu.size());
    if (!plan) {
      require(translator_.in_flight() == before);
      return true;  // nothing of it was believed: what is in flight can still be answered rightly
    }
    release(plan->released);
    if (!prefix.empty() && prefix[0] != std::byte{0xFE}) opaque_ -= std::min(opaque_, plan->released);
    if (plan->kind == smb2::ResponsePlan::Kind::place) {
      require(uint64_t{plan->data_offset} + plan->data_length <= pdu.size());
      uint64_t room = 0;
      for (const auto& descriptor : plan->to) room += descriptor.length;
      require(room >= plan->data_length);
    }
    if (plan->kind == smb2::ResponsePlan::Kind::gather) {
      if (!translator_.response_chain(pdu, chain_)) return false;
      release(chain_.released);
      for (const auto& placement : chain_.placements) {
        require(smb2_fuzz::within(placement.data, pdu));
        uint64_t room = 0;
        for (const auto& descriptor : placement.to) room += descriptor.length;
        require(room >= placement.data.size());
      }
    }
    fetch();
    check_unsettled();
    if (translator_.in_flight() == 0) require(reserved_ == opaque_);
    return true;
  }
  /// Nothing is settled that has not gone.
  void check_unsettled() const {
    size_t requests = 0;
    for (const auto& waiting : waiting_) requests += waiting->requests;
    require(translator_.in_flight() >= requests);
  }
  void release(uint64_t bytes) {
    require(bytes <= reserved_);
    reserved_ -= bytes;
  }

  static constexpr uint64_t kOpaque = 3 * 65536 + 1;
  Input input_;
  smb2::ServerTranslator translator_{{.max_requests = 24, .max_opaque_bytes = kOpaque}};
  std::deque<std::unique_ptr<Waiting>> waiting_;
  smb2::ChainPlan chain_;
  uint64_t reserved_ = 0;
  uint64_t opaque_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Session(Input(data, size)).run();
  return 0;
}
