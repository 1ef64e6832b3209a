// SPDX-License-Identifier: MIT
#include "workers/native/native_exchange.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "protocol/smb2/session_reply.h"
#include "shm/area.h"
#include "shm/base/socket_address.h"

namespace smbdirect::workers {
namespace {

constexpr size_t kMostQueued = 4096;  // pieces to the server, messages to the client
constexpr uint32_t kMostAttached = 64;
constexpr uint32_t kPieceBytes = 256 * 1024;  // per RDMA work request, as large as a slab
proxy::Address frame_address(const sockaddr_storage& address) {
  return proxy::address_of_host(shm::host_of(address), shm::port_of(address));
}

constexpr size_t kLargestBody =
    proxy::kOperationFixedBytes + proxy::kMaxOperationDescriptors * smb2::kDescriptorBytes;

}  // namespace

// --- from the client ---

void NativeExchange::on_fragment(const Fragment& fragment) {
  if (broken_) return;
  if (!negotiated_) return gather_negotiate(fragment);
  if (fragment.first) {
    if (fragment.total > proxy::kMaxPdu) {
      broken("the client sent an SMB2 message of " + std::to_string(fragment.total) +
             " bytes, more than the native channel takes");
      return;
    }
    outbox_.push_copy(
        proxy::encode_header({.length = uint32_t(fragment.total), .type = proxy::FrameType::pdu}));
    ++context_.transport.own_counters().smb_requests;
    context_.transport.record(EventKind::request, 0xFFFF, fragment.total);
  }
  outbox_.push(fragment.buffer->share(), fragment.data);
  in_message_ = !fragment.last;
  if (in_message_) return;
  channel_waits_ = false;
  while (!waiting_.empty()) {
    Waiting next = waiting_.pop();
    say(next.header, std::move(next.descriptor));
  }
}

/// The first message is looked into, and goes to the peer with the facts.
void NativeExchange::gather_negotiate(const Fragment& fragment) {
  if (fragment.total > proxy::kMaxNegotiate) {
    broken("the first SMB2 message is too long for a NEGOTIATE");
    return;
  }
  negotiate_.insert(negotiate_.end(), fragment.data.begin(), fragment.data.end());
  if (!fragment.last) return;
  const auto negotiate = smb2::parse_negotiate_request(negotiate_);
  if (!negotiate) {
    broken("the first SMB2 request: " + std::string(smb2::violation_text(negotiate.error())));
    return;
  }
  negotiated_ = true;
  ++context_.transport.own_counters().smb_requests;
  context_.transport.record(EventKind::request, 0, fragment.total);
  context_.events.on_negotiate(*negotiate, negotiate_);
  negotiate_ = std::vector<std::byte>();
}

/// The peer's process first gets the facts about the client, and the data area.
shm::Result<std::unique_ptr<Upstream>> NativeExchange::open_upstream(UpstreamRequest client) {
  auto fd = shm::make_area(config_.native_area_bytes);
  if (!fd) return std::unexpected(fd.error());
  area_ = acquire_shared(context_.slabs.arena(), fd->get(), config_.native_area_bytes, areas_);
  if (!area_) {
    return shm::fail("make a data area of " + std::to_string(config_.native_area_bytes) +
                         " bytes: " + std::to_string(areas_.used()) +
                         " bytes are in use already (/upstream/channel/area_bytes_per_worker)",
                     ENOMEM);
  }
  const smb_direct::Agreed& agreed = context_.transport.engine().agreed();
  const proxy::Facts facts{
      .area_bytes = config_.native_area_bytes,
      .max_pdu = uint32_t(std::min<uint64_t>(agreed.max_fragmented_send_size, proxy::kMaxPdu)),
      .max_read_write = config_.max_read_write_size,
      .max_operations = config_.native_operations,
      .client_guid = {client.client_guid.bytes},
      .client = frame_address(client.client),
      .server = frame_address(client.server),
      .negotiate = {client.negotiate.begin(), client.negotiate.end()}};
  const auto body = proxy::encode_facts(facts);
  const auto header =
      proxy::encode_header({.length = uint32_t(body.size()), .type = proxy::FrameType::facts});
  connection_ = client.connection;
  client.negotiate = {};
  PeerRequest request{
      .client = client, .introduction = {header.begin(), header.end()}, .area = std::move(*fd)};
  request.introduction.insert(request.introduction.end(), body.begin(), body.end());
  return peers_.request(std::move(request));
}

void NativeExchange::attached(uint32_t process) {
  peers_.serving(connection_, process, [this](shm::UniqueFd& socket) {
    const bool taken = pass_channel(socket);
    if (taken) context_.events.on_queued();
    return taken;
  });
}

// --- to the peer, of our own ---

void NativeExchange::say(const proxy::FrameHeader& header, shm::UniqueFd descriptor) {
  if (in_message_) {
    waiting_.push({header, std::move(descriptor)});
    return;
  }
  if (descriptor.valid()) outbox_.push_descriptor(std::move(descriptor));
  outbox_.push_copy(proxy::encode_header(header));
}

/// One at a time: a client in the middle of a message, or a process that does not read, keeps that one and no
/// more.
bool NativeExchange::pass_channel(shm::UniqueFd& socket) {
  if (broken_ || channel_waits_ || outbox_.descriptors() > 0) return false;
  channel_waits_ = in_message_;
  say({.type = proxy::FrameType::channel}, std::move(socket));
  return true;
}

void NativeExchange::on_read_done(uint64_t cookie) { finish(reads_, cookie); }

void NativeExchange::on_writes_done(uint64_t count) {
  writes_done_ += count;
  finish(writes_, writes_done_);
}

void NativeExchange::finish(Ring<Pending>& list, uint64_t done) {
  while (!list.empty() && list.front().last <= done) {
    say({.type = proxy::FrameType::done, .id = list.pop().id});
  }
}

// --- from the peer ---

Exchange::State NativeExchange::pump(int fd) {
  if (broken_) return State::broken;
  const bool floor = context_.transport.idle() && context_.memory.reply_floor();
  return crowded() ? State::no_memory : pump_stream(reader_, fd, *this, floor, &sender_);
}

std::optional<Exchange::State> NativeExchange::process() {
  while (step()) {
  }
  if (broken_) return State::broken;
  return crowded() ? std::optional(State::no_memory) : std::nullopt;
}

bool NativeExchange::between_messages() const { return mode_ == Mode::header && reader_.available() == 0; }

void NativeExchange::stream_broken(std::string what) { broken("the server's channel" + what); }

/// Much is on its way already, to a process that does not read or a client that does not take: what is queued
/// for it is small but not free.
bool NativeExchange::crowded() const {
  return outbox_.pieces() + waiting_.size() > kMostQueued + 2u * config_.native_operations ||
         context_.transport.messages_queued() > kMostQueued;
}

/// False when more bytes are needed, broken, or crowded.
bool NativeExchange::step() {
  switch (mode_) {
    case Mode::header:
      return reader_.available() >= proxy::kFrameHeaderBytes && !crowded() && take_header();
    case Mode::body:
      return reader_.available() >= left_ && take_body();
    case Mode::look:
      if (reader_.available() < std::min<uint64_t>(left_, smb2::kSessionReplyBytes)) return false;
      look_at_reply();
      return true;
    case Mode::pass:
      if (reader_.available() == 0) return false;
      pass_some();
      return true;
  }
  return false;
}

bool NativeExchange::take_header() {
  std::array<std::byte, proxy::kFrameHeaderBytes> scratch{};
  const auto bytes = reader_.peek(proxy::kFrameHeaderBytes, scratch);
  const auto header = proxy::parse_frame_header(std::span<const std::byte, proxy::kFrameHeaderBytes>(bytes),
                                                proxy::Sender::peer);
  if (!header) return broken(header.error());
  reader_.skip(proxy::kFrameHeaderBytes);
  header_ = *header;
  left_ = header_.type == proxy::FrameType::reply ? header_.count * sizeof(uint32_t) : header_.length;
  mode_ = Mode::body;
  return true;
}

/// All of a short body, or what precedes the SMB2 message of a reply.
bool NativeExchange::take_body() {
  if (scratch_.empty()) scratch_.resize(kLargestBody);
  const std::span<const std::byte> body =
      left_ == 0 ? std::span<const std::byte>{} : reader_.peek(left_, scratch_);
  mode_ = Mode::header;
  switch (header_.type) {
    case proxy::FrameType::attached:
      if (const auto version = proxy::parse_version(body); !version) return broken(version.error());
      if (sender_ == attached_) break;
      if (++attached_again_ > kMostAttached)
        return broken("too many processes have attached to the server's channel");
      attached_ = sender_;
      context_.events.on_attached(uint32_t(sender_));
      break;
    case proxy::FrameType::reply:
      if (!begin_reply(body)) return false;
      break;
    case proxy::FrameType::rdma_read:
    case proxy::FrameType::rdma_write:
      if (!begin_operation(body)) return false;
      break;
    default:  // a HELLO, once too often
      return broken(proxy::FrameError::unknown_type);
  }
  const size_t taken = left_;
  left_ = header_.length - taken;
  reader_.skip(taken);
  return true;
}

bool NativeExchange::begin_reply(std::span<const std::byte> tokens) {
  std::array<uint32_t, proxy::kMaxInvalidate> invalidate{};
  for (size_t i = 0; i < header_.count; ++i) {
    invalidate[i] = smb2::wire::load32(tokens, i * sizeof(uint32_t));
  }
  const uint64_t total = header_.length - tokens.size();
  if (!context_.transport.begin_message(total, std::span(invalidate).first(header_.count))) {
    return broken("the server's reply of " + std::to_string(total) +
                  " bytes is more than the client takes (its MaxFragmentedSize, max_pdu of the channel)");
  }
  ++context_.transport.own_counters().smb_responses;
  context_.transport.record(EventKind::response, 0xFFFF, total);
  mode_ = Mode::look;
  return true;
}

void NativeExchange::look_at_reply() {
  std::array<std::byte, smb2::kSessionReplyBytes> scratch{};
  const auto reply = reader_.peek(std::min<uint64_t>(left_, smb2::kSessionReplyBytes), scratch);
  if (smb2::shows_session(reply)) context_.events.on_session_set_up();
  mode_ = Mode::pass;
}

void NativeExchange::pass_some() {
  auto chunk = reader_.take(left_);
  left_ -= chunk.bytes.size();
  context_.transport.append(std::move(chunk.owner), chunk.bytes);
  if (left_ == 0) mode_ = Mode::header;
}

bool NativeExchange::begin_operation(std::span<const std::byte> body) {
  if (const auto parsed = proxy::parse_operation(body, header_.count, operation_); !parsed) {
    return broken(parsed.error());
  }
  const std::span<std::byte> area = area_.bytes();
  if (operation_.area_offset > area.size() || area.size() - operation_.area_offset < operation_.length) {
    return broken("the server named bytes outside its data area");
  }
  if (reads_.size() + writes_.size() >= config_.native_operations) {
    return broken("the server has more RDMA operations in flight than /upstream/channel/operations allows");
  }
  const bool read = header_.type == proxy::FrameType::rdma_read;
  std::span<std::byte> left = area.subspan(operation_.area_offset, operation_.length);
  for (const smb2::BufferDescriptor& memory : operation_.memory) {
    for (uint32_t used = 0; used < memory.length && !left.empty();) {
      const auto piece =
          left.first(std::min<uint64_t>({left.size(), memory.length - used, uint64_t{kPieceBytes}}));
      const fabric::RemoteMemory remote{.offset = memory.offset + used, .token = memory.token};
      if (read) {
        context_.transport.rdma_read(piece, area_.key(), remote, ++reads_asked_);
      } else {
        ++writes_asked_;
        context_.transport.rdma_write(area_.share(), piece, remote);
      }
      used += uint32_t(piece.size());
      left = left.subspan(piece.size());
    }
  }
  (read ? reads_ : writes_).push({.id = header_.id, .last = read ? reads_asked_ : writes_asked_});
  return true;
}

bool NativeExchange::broken(std::string why) {
  broken_ = true;
  context_.events.on_broken(std::move(why));
  return false;
}

bool NativeExchange::broken(proxy::FrameError error) {
  return broken("the server's channel: " + std::string(proxy::frame_error_text(error)));
}

}  // namespace smbdirect::workers
