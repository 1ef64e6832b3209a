// SPDX-License-Identifier: MIT
#include "workers/connect/request_forwarder.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>

#include "protocol/smb2/multi_protocol.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/session_service.h"
#include "workers/connect/greeting.h"

namespace smbdirect::workers::connect {

namespace {

namespace smb2 = protocol::smb2;

constexpr size_t kReadBytes = 512 * 1024;       // one read from the client
constexpr size_t kTurnBytes = 2 * 1024 * 1024;  // before others get their turn
// Less than this of a PDU is not sent on alone, unless it completes the PDU: small reads would become
// small messages, and small pieces that hold on to whole slabs.
constexpr uint64_t kLeastAppend = 16 * 1024;
// A READ request is 113 bytes; one with more behind it is not worth gathering.
constexpr uint32_t kMostReadRequest = 4096;
constexpr size_t kMostPieces = 8192;  // exposed at once
// Slabs that WRITEs under way leave to reading: what comes behind them gets through, inside messages.
constexpr uint64_t kSpareSlabs = 2;

/// Now, as MS-DTYP 2.3.3 counts: 100 ns from 1601 on.
uint64_t system_time() {
  constexpr uint64_t kFrom1601To1970 = 11'644'473'600;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return (static_cast<uint64_t>(now.tv_sec) + kFrom1601To1970) * 10'000'000 +
         static_cast<uint64_t>(now.tv_nsec) / 100;
}

}  // namespace

RequestForwarder::RequestForwarder(Pools& pools, const MemoryLimits& limits, uint32_t largest_response,
                                   Transport& transport, smb2::ClientTranslator& translator,
                                   ExposedMemory& memory, Outbox& out)
    : pools_(pools),
      transport_(transport),
      translator_(translator),
      memory_(memory),
      requests_(limits.requests),
      reads_(limits.reads),
      reader_(pools.stream, requests_),
      out_(out),
      largest_response_(largest_response) {}

uint32_t RequestForwarder::most_rdma_channel_bytes() const {
  // A WRITE must fit the reader together with what one read may take too much, and with partly used
  // slabs at both ends; else it could wait for ever.
  const uint64_t slab = pools_.stream.slab_size();
  const uint64_t slack = kReadBytes + (2 + kSpareSlabs) * slab;
  const uint64_t write = requests_.limit() > slack ? requests_.limit() - slack : 0;
  const uint64_t read = reads_.limit() / slab * slab;
  const uint64_t described = (kMaxDescriptors - 2) * slab;
  return static_cast<uint32_t>(std::min({write, read, described, uint64_t{UINT32_MAX}}));
}

size_t RequestForwarder::wanted() const {
  if (!head_) return kReadBytes;
  const size_t whole = smb2::kNbtBytes + head_->total;
  return std::max(kReadBytes, whole - std::min(whole, reader_.available()));
}

shm::Result<RequestForwarder::State> RequestForwarder::run(int fd) {
  if (memory_.closed() != closed_seen_) {
    closed_seen_ = memory_.closed();
    waits_no_longer_ = false;
  }
  const auto forwarded = forward();
  if (!forwarded) return std::unexpected(forwarded.error());
  if (*forwarded == Step::waits) return State::waits;
  for (size_t taken = 0; taken < kTurnBytes;) {
    const size_t before = reader_.available();
    const auto filled = reader_.fill(fd, wanted());
    if (!filled) return std::unexpected(filled.error());
    taken += reader_.available() - before;
    if (*filled == StreamReader::Fill::no_memory) {
      if (requests_.has_room(pools_.stream.slab_size())) return shm::fail("out of memory");
      // A WRITE to be gathered may wait for those before it.
      if (!head_ || head_->request.kind == Request::Kind::pass) return State::waits;
      if (const auto step = without_memory(); !step) {
        return std::unexpected(step.error());
      } else if (*step == Step::waits) {
        return State::waits;
      }
    }
    if (*filled == StreamReader::Fill::end) {
      if (between_requests()) return State::ended;
      return shm::fail("the client closed in the middle of a request");
    }
    const auto step = forward();
    if (!step) return std::unexpected(step.error());
    if (*step == Step::waits) return State::waits;
    if (*filled == StreamReader::Fill::drained) break;
  }
  return State::hungry;
}

/// Sends on what is buffered.
shm::Result<RequestForwarder::Step> RequestForwarder::forward() {
  for (;;) {
    if (unsent_ > 0) {
      if (!stream()) return Step::needs_bytes;
      continue;
    }
    if (dropping_ > 0) {
      const size_t here = std::min<uint64_t>(dropping_, reader_.available());
      reader_.skip(here);
      dropping_ -= here;
      if (dropping_ > 0) return Step::needs_bytes;
    }
    if (!head_) {
      const auto found = next_head();
      if (!found) return std::unexpected(found.error());
      if (!*found) return Step::needs_bytes;
    }
    shm::Result<Step> step = Step::again;
    switch (head_->request.kind) {
      case Request::Kind::pass:
        step = begin_plain();
        break;
      case Request::Kind::rdma_channel_read:
        step = rdma_channel_read();
        break;
      case Request::Kind::rdma_channel_write:
        step = rdma_channel_write();
        break;
    }
    if (!step || *step != Step::again) return step;
  }
}

/// Looks for the next message. Between messages there may be what NetBIOS allows there.
shm::Result<bool> RequestForwarder::next_message() {
  using Type = smb2::SessionPacket::Type;
  for (;;) {
    if (message_bytes_ > 0) return true;
    if (reader_.available() < smb2::kNbtBytes) return false;
    std::array<std::byte, smb2::kNbtBytes> scratch{};
    const auto word = reader_.peek(scratch.size(), scratch).first<smb2::kNbtBytes>();
    const auto packet = smb2::parse_session_packet(word);
    switch (packet.type) {
      case Type::message:
        if (packet.length == 0) return not_our_framing(word);
        message_bytes_ = packet.length;
        break;
      case Type::keepalive:
        reader_.skip(smb2::kNbtBytes);
        break;
      case Type::request:
        if (introduced_ || begun_ || packet.length > smb2::kMaxSessionRequest) return not_our_framing(word);
        if (reader_.available() < smb2::kNbtBytes + packet.length) return false;
        reader_.skip(smb2::kNbtBytes + packet.length);
        out_.push_copy(smb2::kPositiveSessionResponse);
        introduced_ = true;
        break;
      case Type::other:
        return not_our_framing(word);
    }
  }
}

/// Classifies the next request once its first bytes are there.
shm::Result<bool> RequestForwarder::next_head() {
  std::array<std::byte, smb2::kNbtBytes + smb2::kPrefixBytes> scratch{};
  for (;;) {
    if (const auto found = next_message(); !found || !*found) return found;
    const uint32_t prefix_size = std::min<uint32_t>(message_bytes_, smb2::kPrefixBytes);
    if (reader_.available() < smb2::kNbtBytes + prefix_size) return false;
    const auto bytes = reader_.peek(smb2::kNbtBytes + prefix_size, scratch).subspan(smb2::kNbtBytes);
    if (!begun_ && smb2::protocol_id(bytes) == smb2::ProtocolId::smb1) {
      if (const auto done = multi_protocol(message_bytes_); !done || !*done) return done;
      continue;
    }
    RequestHead& head = head_.emplace();
    head.total = message_bytes_;
    head.prefix_size = prefix_size;
    std::ranges::copy(bytes, head.storage.begin());
    const auto request = translator_.request(head.prefix(), head.total);
    if (!request) return shm::fail(not_smb2(request.error()));
    head.request = *request;
    begun_ = true;
    message_bytes_ = 0;
    if (head.request.kind != Request::Kind::pass && !fits_rdma_channel())
      head.request.kind = Request::Kind::pass;

    const auto header = smb2::parse_header(head.prefix());
    transport_.record(EventKind::request, header ? static_cast<uint64_t>(header->command) : 0, head.total);
    ++transport_.own_counters().smb_requests;
    return true;
  }
}

/// The client also supports SMB1, and sends an SMB1 NEGOTIATE that offers both.
shm::Result<bool> RequestForwarder::multi_protocol(uint32_t total) {
  std::array<std::byte, smb2::kNbtBytes + smb2::kMaxSmb1Negotiate> scratch{};
  if (total > smb2::kMaxSmb1Negotiate) return shm::fail(not_smb2(smb2::Violation::smb1));
  if (reader_.available() < smb2::kNbtBytes + total) return false;
  const auto pdu = reader_.peek(smb2::kNbtBytes + total, scratch).subspan(smb2::kNbtBytes);
  const auto dialect = smb2::parse_multi_protocol_negotiate(pdu);
  if (!dialect) {
    return shm::fail(not_smb2(dialect.error()) +
                     "; let the client offer SMB2 (smbclient: --option='client max protocol=SMB3')");
  }
  SlabRef negotiate = pools_.header.acquire_forced(requests_);
  if (!negotiate) return shm::fail("out of memory");
  smb2::store_multi_protocol_negotiate(negotiate.bytes(), *dialect);
  if (auto sent = send_small(std::move(negotiate), smb2::kMultiProtocolNegotiateBytes); !sent) {
    return std::unexpected(sent.error());
  }
  if (*dialect == smb2::kDialectWildcard) {
    translator_.expect_refused_negotiate();
    const auto answer = smb2::multi_protocol_response(system_time());
    out_.push_copy(smb2::encode_nbt(answer.size()));
    for (std::span<const std::byte> left = answer; !left.empty();) {
      const auto here = left.first(std::min(left.size(), Outbox::kInlineBytes));
      out_.push_copy(here);
      left = left.subspan(here.size());
    }
  }
  reader_.skip(smb2::kNbtBytes + total);
  begun_ = true;
  message_bytes_ = 0;
  transport_.record(EventKind::request, 0, total);
  ++transport_.own_counters().smb_requests;
  return true;
}

bool RequestForwarder::fits_rdma_channel() const {
  const uint32_t most = most_rdma_channel_bytes();
  if (head_->request.kind == Request::Kind::rdma_channel_read) {
    return head_->request.length <= most && head_->total <= kMostReadRequest;
  }
  return head_->total <= most;
}

shm::Result<RequestForwarder::Step> RequestForwarder::begin_plain() {
  if (!transport_.begin_message(head_->total)) {
    return shm::fail("a request of " + std::to_string(head_->total) +
                     " bytes is longer than the server takes in one message (" +
                     std::to_string(transport_.engine().agreed().max_fragmented_send_size) +
                     "); raise /smbdirect/max_fragmented_size there, or let the client write in smaller "
                     "pieces");
  }
  reader_.skip(smb2::kNbtBytes);
  unsent_ = head_->total;
  head_.reset();
  short_ = false;
  return Step::again;
}

/// Moves bytes of the PDU in progress to the transport. False when more are needed first.
bool RequestForwarder::stream() {
  const uint64_t least = std::max<uint64_t>(kLeastAppend, transport_.engine().agreed().max_send_size);
  if (reader_.available() < std::min(unsent_, least)) return false;
  while (unsent_ > 0 && reader_.available() > 0) {
    auto chunk = reader_.take(std::min<uint64_t>(unsent_, reader_.available()));
    unsent_ -= chunk.bytes.size();
    transport_.append(std::move(chunk.owner), chunk.bytes);
  }
  return true;
}

shm::Result<RequestForwarder::Step> RequestForwarder::rdma_channel_read() {
  if (reader_.available() < smb2::kNbtBytes + head_->total) return Step::needs_bytes;
  const uint32_t length = head_->request.length;
  SlabPool& pool = length <= pools_.small.slab_size() ? pools_.small : pools_.stream;
  const uint64_t slabs = (uint64_t{length} + pool.slab_size() - 1) / pool.slab_size();
  if (!reads_.has_room(slabs * pool.slab_size()) || memory_.pieces() + slabs > kMostPieces) {
    return without_memory();
  }
  const uint64_t cookie = memory_.open();
  for (uint32_t left = length; left > 0;) {
    SlabRef slab = pool.acquire(reads_);
    if (!slab) return shm::fail("out of memory");
    const auto bytes = slab.bytes().first(std::min(left, pool.slab_size()));
    left -= static_cast<uint32_t>(bytes.size());
    // It may hold another client's data, and the server may report that it has placed data when it has not.
    std::ranges::fill(bytes, std::byte{0});
    if (!memory_.add(cookie, std::move(slab), bytes, fabric::Access::remote_write)) {
      return shm::fail("the fabric exposes no more memory");
    }
  }
  reader_.skip(smb2::kNbtBytes + head_->total);
  return send_rdma_channel_request(cookie);
}

shm::Result<RequestForwarder::Step> RequestForwarder::rdma_channel_write() {
  const size_t whole = smb2::kNbtBytes + head_->total;
  if (reader_.available() < whole) return Step::needs_bytes;
  if (memory_.pieces() > kMostPieces - kMaxDescriptors ||
      !requests_.has_room(kSpareSlabs * pools_.stream.slab_size())) {
    return without_memory();
  }
  const size_t before = smb2::kNbtBytes + head_->request.data_offset;
  reader_.skip(before);
  const uint64_t cookie = memory_.open();
  for (uint32_t left = head_->request.length; left > 0;) {
    auto chunk = reader_.take(left);
    left -= static_cast<uint32_t>(chunk.bytes.size());
    if (!memory_.add(cookie, std::move(chunk.owner), chunk.bytes, fabric::Access::remote_read)) {
      return shm::fail("the fabric exposes no more memory");
    }
  }
  reader_.skip(whole - before - head_->request.length);
  return send_rdma_channel_request(cookie);
}

shm::Result<RequestForwarder::Step> RequestForwarder::send_rdma_channel_request(uint64_t cookie) {
  SlabRef pdu = pools_.header.acquire_forced(requests_);
  if (!pdu) return shm::fail("out of memory");
  const auto bytes = pdu.bytes();
  const auto size = translator_.rdma_channel_request(head_->prefix(), head_->request,
                                                     memory_.descriptors(cookie), cookie, bytes);
  if (!size) return shm::fail(not_smb2(size.error()));
  if (auto sent = send_small(std::move(pdu), *size); !sent) return std::unexpected(sent.error());
  head_.reset();
  short_ = false;
  return Step::again;
}

shm::Result<> RequestForwarder::send_small(SlabRef pdu, size_t size) {
  const auto bytes = pdu.bytes().first(size);
  if (!transport_.begin_message(size))
    return shm::fail("the server's MaxFragmentedSize is too small for a request");
  transport_.append(std::move(pdu), bytes);
  return {};
}

/// The READ or WRITE has found no memory to be exposed.
shm::Result<RequestForwarder::Step> RequestForwarder::without_memory() {
  short_ = true;
  if (!waits_no_longer_) return Step::waits;
  const bool read = head_->request.kind == Request::Kind::rdma_channel_read;
  const bool fits =
      read ? uint64_t{head_->request.length} + smb2::read_response_at::kBuffer <= largest_response_
           : head_->total <= transport_.engine().agreed().max_fragmented_send_size;
  if (!fits) return refuse();
  head_->request.kind = Request::Kind::pass;
  return begin_plain();
}

/// Answered with an error, by way of the server: it counts MessageIds.
shm::Result<RequestForwarder::Step> RequestForwarder::refuse() {
  SlabRef pdu = pools_.header.acquire_forced(requests_);
  if (!pdu) return shm::fail("out of memory");
  const auto size = translator_.refused_request(head_->prefix(), pdu.bytes());
  if (!size) return shm::fail(not_smb2(size.error()));
  if (auto sent = send_small(std::move(pdu), *size); !sent) return std::unexpected(sent.error());
  dropping_ = smb2::kNbtBytes + uint64_t{head_->total};
  head_.reset();
  short_ = false;
  return Step::again;
}

}  // namespace smbdirect::workers::connect
