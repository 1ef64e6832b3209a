// SPDX-License-Identifier: MIT
#include "workers/connect/request_path.h"

#include <algorithm>
#include <cstring>
#include <string>

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

std::string refused(smb2::Violation violation) {
  return "not a valid SMB2 request: " + std::string(smb2::violation_text(violation));
}

}  // namespace

RequestPath::RequestPath(Pools& pools, const MemoryLimits& limits, Transport& transport,
                         smb2::ClientTranslator& translator, ChannelMemory& memory)
    : pools_(pools),
      transport_(transport),
      translator_(translator),
      memory_(memory),
      requests_(limits.requests),
      reads_(limits.reads),
      reader_(pools.stream, requests_) {}

uint32_t RequestPath::most_channel_bytes() const {
  // A WRITE must fit the reader together with what one read may take too much, and with partly used
  // slabs at both ends; else it could wait for ever.
  const uint64_t slab = pools_.stream.slab_size();
  const uint64_t slack = kReadBytes + 3 * slab;
  const uint64_t write = requests_.limit() > slack ? requests_.limit() - slack : 0;
  const uint64_t read = reads_.limit() / slab * slab;
  const uint64_t described = (kMaxDescriptors - 2) * slab;
  return static_cast<uint32_t>(std::min({write, read, described, uint64_t{UINT32_MAX}}));
}

size_t RequestPath::wanted() const {
  if (!head_) return kReadBytes;
  const size_t whole = smb2::kNbtBytes + head_->total;
  return std::max(kReadBytes, whole - std::min(whole, reader_.available()));
}

shm::Result<RequestPath::State> RequestPath::run(int fd) {
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
      return State::waits;
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
shm::Result<RequestPath::Step> RequestPath::forward() {
  for (;;) {
    if (unsent_ > 0) {
      if (!stream()) return Step::needs_bytes;
      continue;
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
      case Request::Kind::channel_read:
        step = channel_read();
        break;
      case Request::Kind::channel_write:
        step = channel_write();
        break;
    }
    if (!step || *step != Step::again) return step;
  }
}

/// Classifies the next request once its first bytes are there.
shm::Result<bool> RequestPath::next_head() {
  std::array<std::byte, smb2::kNbtBytes + smb2::kPrefixBytes> scratch{};
  if (reader_.available() < smb2::kNbtBytes) return false;
  std::array<std::byte, smb2::kNbtBytes> word{};
  std::ranges::copy(reader_.peek(word.size(), scratch), word.begin());
  const auto total = smb2::parse_nbt(word);
  if (!total || *total == 0) {
    return shm::fail("the client does not speak SMB2 over TCP port 445's framing (message type " +
                     std::to_string(std::to_integer<unsigned>(word[0])) +
                     "): let it connect as to port 445, not as to NetBIOS port 139");
  }
  const uint32_t prefix_size = std::min<uint32_t>(*total, smb2::kPrefixBytes);
  if (reader_.available() < smb2::kNbtBytes + prefix_size) return false;

  RequestHead& head = head_.emplace();
  head.total = *total;
  head.prefix_size = prefix_size;
  const auto bytes = reader_.peek(smb2::kNbtBytes + prefix_size, scratch).subspan(smb2::kNbtBytes);
  std::ranges::copy(bytes, head.storage.begin());
  const auto request = translator_.request(head.prefix(), head.total);
  if (!request) return shm::fail(refused(request.error()));
  head.request = *request;
  if (head.request.kind != Request::Kind::pass && !fits_channel()) head.request.kind = Request::Kind::pass;

  const auto command = prefix_size < 14 ? 0 : std::to_integer<uint64_t>(head.storage[12]);
  transport_.record(EventKind::request, command, head.total);
  ++transport_.own_counters().smb_requests;
  return true;
}

bool RequestPath::fits_channel() const {
  const uint32_t most = most_channel_bytes();
  if (head_->request.kind == Request::Kind::channel_read) {
    return head_->request.length <= most && head_->total <= kMostReadRequest;
  }
  return head_->total <= most;
}

shm::Result<RequestPath::Step> RequestPath::begin_plain() {
  if (!transport_.begin_message(head_->total)) {
    return shm::fail("a request of " + std::to_string(head_->total) +
                     " bytes is longer than the server takes in one message (" +
                     std::to_string(transport_.engine().agreed().max_fragmented_send_size) +
                     "); raise its max_fragmented_size, or let the client write in smaller pieces");
  }
  reader_.skip(smb2::kNbtBytes);
  unsent_ = head_->total;
  head_.reset();
  return Step::again;
}

/// Moves bytes of the PDU in progress to the transport. False when more are needed first.
bool RequestPath::stream() {
  const uint64_t least = std::max<uint64_t>(kLeastAppend, transport_.engine().agreed().max_send_size);
  if (reader_.available() < std::min(unsent_, least)) return false;
  while (unsent_ > 0 && reader_.available() > 0) {
    auto chunk = reader_.take(std::min<uint64_t>(unsent_, reader_.available()));
    unsent_ -= chunk.bytes.size();
    transport_.append(std::move(chunk.owner), chunk.bytes);
  }
  return true;
}

shm::Result<RequestPath::Step> RequestPath::channel_read() {
  if (reader_.available() < smb2::kNbtBytes + head_->total) return Step::needs_bytes;
  const uint32_t length = head_->request.length;
  SlabPool& pool = length <= pools_.small.slab_size() ? pools_.small : pools_.stream;
  const uint64_t slabs = (uint64_t{length} + pool.slab_size() - 1) / pool.slab_size();
  if (!reads_.has_room(slabs * pool.slab_size()) || memory_.pieces() + slabs > kMostPieces) {
    return Step::waits;
  }
  const uint64_t cookie = memory_.open();
  for (uint32_t left = length; left > 0;) {
    SlabRef slab = pool.acquire(reads_);
    if (!slab) return shm::fail("out of memory");
    const auto bytes = slab.bytes().first(std::min(left, pool.slab_size()));
    left -= static_cast<uint32_t>(bytes.size());
    if (!memory_.add(cookie, std::move(slab), bytes, fabric::Access::remote_write)) {
      return shm::fail("the fabric exposes no more memory");
    }
  }
  reader_.skip(smb2::kNbtBytes + head_->total);
  return send_channel(cookie);
}

shm::Result<RequestPath::Step> RequestPath::channel_write() {
  const size_t whole = smb2::kNbtBytes + head_->total;
  if (reader_.available() < whole) return Step::needs_bytes;
  if (memory_.pieces() > kMostPieces - kMaxDescriptors) return Step::waits;
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
  return send_channel(cookie);
}

shm::Result<RequestPath::Step> RequestPath::send_channel(uint64_t cookie) {
  SlabRef pdu = pools_.header.acquire_forced(requests_);
  if (!pdu) return shm::fail("out of memory");
  const auto bytes = pdu.bytes();
  const auto size = translator_.channel_request(head_->prefix(), head_->request, memory_.descriptors(cookie),
                                                cookie, bytes);
  if (!size) return shm::fail(refused(size.error()));
  if (!transport_.begin_message(*size))
    return shm::fail("the server takes no message of one channel request");
  transport_.append(std::move(pdu), bytes.first(*size));
  head_.reset();
  return Step::again;
}

}  // namespace smbdirect::workers::connect
