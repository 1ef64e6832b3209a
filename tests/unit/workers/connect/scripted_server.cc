// SPDX-License-Identifier: MIT
#include "scripted_server.h"

#include <algorithm>
#include <cstring>

#include "protocol/smb2/client_translator.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/multi_protocol.h"
#include "protocol/smb2/wire.h"
#include "workers/connect/address.h"

namespace smbdirect::workers::connect::test {

namespace {

namespace smb2 = protocol::smb2;
namespace wire = protocol::smb2::wire;

using Bytes = std::vector<std::byte>;

constexpr uint32_t kNotSupported = 0xC00000BB;

Bytes response_header(std::span<const std::byte> request, uint32_t status, size_t size) {
  Bytes out(size);
  std::ranges::copy(request.first(smb2::kHeaderBytes), out.begin());
  wire::store(out, smb2::header_at::kStatus, status);
  constexpr uint32_t kAsync = 2;
  wire::store(out, smb2::header_at::kFlags, (wire::load32(request, smb2::header_at::kFlags) & kAsync) | 1);
  wire::store(out, smb2::header_at::kCredits, uint16_t{64});
  return out;
}

}  // namespace

class ScriptedServer::Connection final : private Transport::Owner {
 public:
  Connection(ScriptedServer& server, shm::UniqueFd fd)
      : server_(server),
        transport_(server.loop_,
                   {.role = smb_direct::Role::passive,
                    .limits = server.script_.limits,
                    .receive_pool = server.receive_pool_,
                    .header_pool = server.header_pool_,
                    .budget = server.budget_},
                   static_cast<Transport::Owner&>(*this)) {
    (void)transport_.start([&](fabric::Handler& handler) {
      return fabric::iwarp::accept(server.loop_, std::move(fd), server.script_.iwarp, handler);
    });
  }

  [[nodiscard]] bool closed() const { return closed_; }

 private:
  struct Request {
    Bytes pdu;
    std::vector<smb2::BufferDescriptor> memory;
    Bytes fetched;
    size_t fetches = 0;
  };

  void on_negotiated() override {}
  void on_invalidated(uint32_t /*token*/) override {}
  void on_progress() override {}
  void on_closed(const std::string& /*why*/, bool /*clean*/) override { closed_ = true; }

  void on_fragment(Fragment fragment) override {
    if (fragment.first) message_.clear();
    message_.insert(message_.end(), fragment.data.begin(), fragment.data.end());
    if (!fragment.last) return;
    ++server_.requests_;
    const ServerScript& script = server_.script_;
    if (server_.requests_ == script.abort_after) {
      transport_.abort("scripted");
      return;
    }
    if (server_.requests_ == script.disconnect_after) {
      transport_.disconnect("scripted");
      return;
    }
    requests_.push_back({std::exchange(message_, {}), {}, {}, 0});
    if (script.hold_until > 0 && server_.requests_ < script.hold_until) return;
    take_all();
  }

  /// In order, one after the other: a READ behind a WRITE sees what was written.
  void take_all() {
    while (!fetching_ && taken_ < requests_.size()) take(taken_++);
  }

  void take(size_t index) {
    Request& request = requests_[index];
    const auto command = wire::load16(request.pdu, smb2::header_at::kCommand);
    if (command == 9 && wire::load32(request.pdu, smb2::write_at::kChannel) != 0) {
      read_descriptors(request, smb2::write_at::kChannelInfoOffset);
      fetch(index, wire::load32(request.pdu, smb2::write_at::kRemainingBytes));
      return;
    }
    answer(request);
  }

  void read_descriptors(Request& request, size_t fields_at) {
    const size_t at = wire::load16(request.pdu, fields_at);
    const size_t length = wire::load16(request.pdu, fields_at + 2);
    for (size_t i = 0; i < length; i += 16) {
      request.memory.push_back({.offset = wire::load64(request.pdu, at + i),
                                .token = wire::load32(request.pdu, at + i + 8),
                                .length = wire::load32(request.pdu, at + i + 12)});
    }
    ++server_.rdma_channel_requests_;
    server_.most_descriptors_ = std::max(server_.most_descriptors_, request.memory.size());
  }

  void fetch(size_t index, uint32_t length) {
    Request& request = requests_[index];
    request.fetched.resize(length);
    fetching_ = true;
    size_t at = 0;
    for (const auto& from : request.memory) {
      const size_t here = std::min<size_t>(from.length, length - at);
      if (here == 0) break;
      ++request.fetches;
      transport_.rdma_read(std::span(request.fetched).subspan(at, here), 0, {from.offset, from.token}, index);
      at += here;
    }
  }

  void on_read_done(uint64_t cookie) override {
    Request& request = requests_[cookie];
    if (--request.fetches > 0) return;
    fetching_ = false;
    answer(request);
    take_all();
  }

  void answer(Request& request) {
    const ServerScript& script = server_.script_;
    const auto command = wire::load16(request.pdu, smb2::header_at::kCommand);
    if (server_.requests_ == script.garbage_after) {
      send(Bytes(200, std::byte{0x42}), {});
      return;
    }
    if (script.interim && (command == 8 || command == 9)) {
      wire::store(request.pdu, smb2::header_at::kFlags, uint32_t{2});  // and so in what ends it
      Bytes interim = response_header(request.pdu, smb2::kStatusPending, 73);
      wire::store(interim, 64, uint16_t{9});
      send(std::move(interim), {});
    }
    switch (command) {
      case 0:
        return negotiate(request);
      case 1: {
        Bytes out = response_header(request.pdu, 0, 73);
        wire::store(out, 64, uint16_t{9});
        return send(std::move(out), {});
      }
      case 8:
        return read(request);
      case 9:
        return write(request);
      default: {
        Bytes echo = response_header(request.pdu, 0, 68);
        wire::store(echo, 64, uint16_t{4});
        send(std::move(echo), {});
      }
    }
  }

  void negotiate(const Request& request) {
    if (wire::load16(request.pdu, smb2::negotiate_at::kDialects) == smb2::kDialectWildcard) {
      Bytes refusal = response_header(request.pdu, kNotSupported, 73);
      wire::store(refusal, 64, uint16_t{9});
      return send(std::move(refusal), {});
    }
    Bytes out = response_header(request.pdu, 0, 160);
    wire::store(out, 64, smb2::negotiate_at::kResponseStructureSize);
    wire::store(out, smb2::negotiate_at::kDialectRevision, server_.script_.dialect);
    for (const size_t at :
         {size_t{92}, smb2::negotiate_at::kMaxReadSize, smb2::negotiate_at::kMaxWriteSize}) {
      wire::store(out, at, uint32_t{8u << 20});
    }
    send(std::move(out), {});
  }

  bool refuse(const Request& request) {
    if (server_.script_.error_status == 0) return false;
    Bytes out = response_header(request.pdu, server_.script_.error_status, 73);
    wire::store(out, 64, uint16_t{9});
    send(std::move(out), request.memory);
    return true;
  }

  void read(Request& request) {
    const auto length = wire::load32(request.pdu, smb2::read_at::kLength);
    const auto offset = wire::load64(request.pdu, 72);
    const bool channel = wire::load32(request.pdu, smb2::read_at::kChannel) != 0;
    if (channel) read_descriptors(request, smb2::read_at::kChannelInfoOffset);
    if (server_.script_.never_answer_io) return;
    if (refuse(request)) return;
    const uint32_t most = server_.script_.short_read > 0 ? server_.script_.short_read : UINT32_MAX;
    const size_t count = std::min<size_t>({length, most, server_.file_.size() - offset});
    const auto data = std::span(server_.file_).subspan(offset, count);
    const bool by_rdma = channel && !server_.script_.answer_inline;
    Bytes out = response_header(request.pdu, 0, 80 + (by_rdma ? 0 : count));
    wire::store(out, 64, smb2::read_response_at::kStructureSize);
    wire::store(out, smb2::read_response_at::kDataOffset, uint8_t{80});
    if (by_rdma) {
      wire::store(out, smb2::read_response_at::kDataRemaining, static_cast<uint32_t>(count));
      size_t at = 0;
      for (const auto& to : request.memory) {
        const size_t here = std::min<size_t>(to.length, count - at);
        if (here == 0 || server_.script_.lie) break;
        transport_.rdma_write({}, data.subspan(at, here), {to.offset, to.token});
        at += here;
      }
    } else {
      wire::store(out, smb2::read_response_at::kDataLength, static_cast<uint32_t>(count));
      std::ranges::copy(data, out.begin() + 80);
    }
    send(std::move(out), request.memory);
  }

  void write(Request& request) {
    if (server_.script_.never_answer_io) return;
    if (refuse(request)) return;
    const auto offset = wire::load64(request.pdu, 72);
    std::span<const std::byte> data = request.fetched;
    if (request.memory.empty()) {
      data = std::span(request.pdu)
                 .subspan(wire::load16(request.pdu, smb2::write_at::kDataOffset),
                          wire::load32(request.pdu, smb2::write_at::kLength));
    }
    std::ranges::copy(data, server_.file_.begin() + static_cast<std::ptrdiff_t>(offset));
    Bytes out = response_header(request.pdu, 0, 80);
    wire::store(out, 64, smb2::write_response_at::kStructureSize);
    wire::store(out, 68, static_cast<uint32_t>(data.size()));
    send(std::move(out), request.memory);
  }

  void send(Bytes message, std::span<const smb2::BufferDescriptor> memory) {
    const bool invalidate = !memory.empty() && server_.script_.dialect >= smb2::kDialect302;
    const uint32_t token = invalidate ? memory.front().token : 0;
    const Bytes& kept = sent_.emplace_back(std::move(message));  // until the connection ends
    if (!transport_.begin_message(kept.size(),
                                  invalidate ? std::span(&token, 1) : std::span<const uint32_t>())) {
      transport_.abort("the test's client takes no message of this size");
      return;
    }
    if (server_.requests_ == server_.script_.cut_response_after) {
      transport_.append({}, std::span(kept).first(kept.size() - 1));
      transport_.pump();
      transport_.disconnect("cut");  // what is posted goes out first...
      drop_ = std::make_unique<shm::Timer>(server_.loop_, [this] {
        if (!closed_) transport_.abort("cut");  // ... the rest never comes
      });
      drop_->start(50);
      return;
    }
    transport_.append({}, kept);
  }

  ScriptedServer& server_;
  Bytes message_;
  std::deque<Request> requests_;
  size_t taken_ = 0;
  bool fetching_ = false;
  std::deque<Bytes> sent_;
  bool closed_ = false;
  std::unique_ptr<shm::Timer> drop_;
  Transport transport_;
};

ScriptedServer::ScriptedServer(uv_loop_t& loop, const ServerScript& script, size_t file_size)
    : loop_(loop),
      script_(script),
      file_(file_size),
      receive_pool_(arena_, std::max<uint32_t>(512, script.limits.max_receive_size)) {
  auto listener = Listener::open(loop, *parse_address("127.0.0.1:0", {}),
                                 [this](shm::UniqueFd fd, const sockaddr_storage&) {
                                   connections_.push_back(std::make_unique<Connection>(*this, std::move(fd)));
                                 });
  listener_ = std::move(*listener);
}

ScriptedServer::~ScriptedServer() = default;

size_t ScriptedServer::open() const {
  return static_cast<size_t>(std::ranges::count_if(connections_, [](const auto& c) { return !c->closed(); }));
}

}  // namespace smbdirect::workers::connect::test
