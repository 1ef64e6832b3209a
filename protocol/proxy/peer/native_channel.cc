// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/native_channel.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>

#include "protocol/proxy/peer/addresses.h"
#include "protocol/proxy/peer/state.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::proxy::peer {

std::expected<NativeChannel, int> NativeChannel::open(std::string_view path, const Cookie& cookie) {
  const Deadline deadline(kPatience);
  auto socket = connect_to(path, deadline);
  if (!socket) return std::unexpected(socket.error());
  NativeChannel channel(std::move(*socket));
  const std::vector<std::byte> hello = encode_hello(cookie);
  int result = channel.send({.type = FrameType::hello}, hello, {});
  if (result == 0) result = channel.await_facts(deadline);
  // A worker that does not know the cookie closes.
  if (result == -ECONNRESET) result = -EACCES;
  if (result != 0) return std::unexpected(result);
  return channel;
}

std::expected<NativeChannel, int> NativeChannel::accept(OwnedFd socket) {
  if (const int result = prepare_socket(socket.get()); result != 0) return std::unexpected(result);
  NativeChannel channel(std::move(socket));
  if (const int result = channel.await_facts(Deadline(kPatience)); result != 0) {
    return std::unexpected(result);
  }
  return channel;
}

std::expected<NativeChannel, int> NativeChannel::take_over(std::span<const int, 2> descriptors,
                                                           std::span<const std::byte> bytes) {
  auto state = parse_state(bytes);
  if (!state) return std::unexpected(-EPROTO);
  if (const int result = prepare_socket(descriptors[0]); result != 0) return std::unexpected(result);
  auto area = Area::map(descriptors[1], state->facts.area_bytes);
  if (!area) return std::unexpected(area.error());
  if (fcntl(descriptors[1], F_SETFD, FD_CLOEXEC) != 0) return std::unexpected(-errno);
  NativeChannel channel;
  channel.know(std::move(state->facts), std::move(*area));
  channel.inbox_.restore(state->unread);
  channel.outbox_.restore(state->unsent, state->first_frame);
  channel.operations_ = Operations(std::move(state->operations));
  // Last: until here an exception would have closed what is still the caller's.
  channel.socket_ = OwnedFd(descriptors[0]);
  channel.area_fd_ = OwnedFd(descriptors[1]);
  return channel;
}

int NativeChannel::await_facts(const Deadline& deadline) {
  for (;;) {
    Frame frame{};
    const int got = inbox_.next(socket_.get(), frame);
    if (got > 0) return learn(frame);
    if (got < 0) return got;
    if (const int64_t left = outbox_.flush(socket_.get()); left < 0) return static_cast<int>(left);
    if (const int result = wait_for(socket_.get(), events(), deadline); result != 0) return result;
  }
}

int NativeChannel::learn(const Frame& frame) {
  if (frame.header.type != FrameType::facts) return -EPROTO;
  auto facts = parse_facts(frame.body);
  if (!facts) return -EPROTO;
  auto fd = inbox_.take_descriptor();
  if (!fd) return fd.error();
  auto area = Area::map(fd->get(), facts->area_bytes);
  if (!area) return area.error();
  area_fd_ = std::move(*fd);
  know(std::move(*facts), std::move(*area));
  return 0;
}

void NativeChannel::know(Facts facts, Area area) {
  facts_ = std::move(facts);
  area_ = std::move(area);
  public_facts_ = {.client = to_sockaddr(facts_.client),
                   .server = to_sockaddr(facts_.server),
                   .client_guid = {},
                   .negotiate = reinterpret_cast<const uint8_t*>(facts_.negotiate.data()),
                   .negotiate_size = facts_.negotiate.size(),
                   .area = area_.data(),
                   .area_size = area_.size(),
                   .max_pdu = facts_.max_pdu,
                   .max_read_write = facts_.max_read_write,
                   .max_operations = facts_.max_operations};
  copy_bytes(facts_.client_guid.bytes, public_facts_.client_guid);
}

short NativeChannel::events() const {
  return static_cast<short>(outbox_.unsent().empty() ? POLLIN : POLLIN | POLLOUT);
}

int NativeChannel::attach() {
  const auto version = encode_version();
  const int result = send({.type = FrameType::attached}, version, {});
  if (result == 0) attached_ = true;
  return result;
}

int NativeChannel::next(smbdirect_event& event, std::optional<NativeChannel>& other) {
  while (failure_ == 0) {
    Frame frame{};
    const int got = inbox_.next(socket_.get(), frame);
    if (got == 0) return 0;
    if (got < 0) {
      failure_ = got;
      break;
    }
    switch (frame.header.type) {
      case FrameType::pdu:
        event = {.type = SMBDIRECT_EVENT_PDU,
                 .pdu = reinterpret_cast<const uint8_t*>(frame.body.data()),
                 .pdu_size = frame.body.size(),
                 .id = 0,
                 .channel = nullptr};
        return 1;
      case FrameType::done:
        if (!operations_.remove(frame.header.id)) {
          failure_ = -EPROTO;
          break;
        }
        event = {.type = SMBDIRECT_EVENT_DONE,
                 .pdu = nullptr,
                 .pdu_size = 0,
                 .id = frame.header.id,
                 .channel = nullptr};
        return 1;
      case FrameType::channel: {
        auto socket = inbox_.take_descriptor();
        if (!socket && socket.error() == -EPROTO) failure_ = -EPROTO;
        // Whatever else is wrong with the other channel, or has ended it, is no fault of this one.
        if (!socket) break;
        if (auto accepted = accept(std::move(*socket))) {
          other = std::move(*accepted);
          event = {
              .type = SMBDIRECT_EVENT_CHANNEL, .pdu = nullptr, .pdu_size = 0, .id = 0, .channel = nullptr};
          return 1;
        }
        break;
      }
      default:
        failure_ = -EPROTO;  // FACTS, a second time
    }
  }
  return failure_;
}

int NativeChannel::send_pdu(std::span<const iovec> pieces, std::span<const uint32_t> invalidate) {
  if (!attached_ || invalidate.size() > kMaxInvalidate) return -EINVAL;
  size_t size = 0;
  for (const iovec& piece : pieces) {
    if (piece.iov_base == nullptr && piece.iov_len > 0) return -EINVAL;
    if (piece.iov_len > facts_.max_pdu - size) return -EMSGSIZE;
    size += piece.iov_len;
  }
  if (size == 0) return -EINVAL;
  std::array<std::byte, kMaxInvalidate * sizeof(uint32_t)> tokens{};
  const std::span<std::byte> body = std::span(tokens).first(invalidate.size() * sizeof(uint32_t));
  for (size_t i = 0; i < invalidate.size(); ++i) {
    smb2::wire::store(body, i * sizeof(uint32_t), invalidate[i]);
  }
  return send({.length = static_cast<uint32_t>(body.size() + size),
               .type = FrameType::reply,
               .count = static_cast<uint16_t>(invalidate.size())},
              body, pieces);
}

int NativeChannel::rdma(FrameType type, uint64_t id, size_t area_offset, size_t length,
                        std::span<const smbdirect_descriptor> descriptors) {
  if (!attached_ || length == 0 || length > UINT32_MAX || descriptors.size() > kMaxOperationDescriptors) {
    return -EINVAL;
  }
  uint64_t room = 0;
  for (const smbdirect_descriptor& piece : descriptors) room += piece.length;
  if (room < length) return -EINVAL;
  if (area_offset > area_.size() || length > area_.size() - area_offset) return -ERANGE;
  if (operations_.contains(id)) return -EEXIST;
  if (operations_.count() >= facts_.max_operations) return -EAGAIN;
  operation_.area_offset = area_offset;
  operation_.length = static_cast<uint32_t>(length);
  operation_.memory.clear();
  for (const smbdirect_descriptor& piece : descriptors) {
    operation_.memory.push_back({.offset = piece.offset, .token = piece.token, .length = piece.length});
  }
  const std::vector<std::byte> body = encode_operation(operation_);
  operations_.reserve_one();
  const int result =
      send({.type = type, .count = static_cast<uint16_t>(descriptors.size()), .id = id}, body, {});
  if (result == 0) operations_.add(id);
  return result;
}

int NativeChannel::send(FrameHeader header, std::span<const std::byte> body, std::span<const iovec> more) {
  if (more.empty()) header.length = static_cast<uint32_t>(body.size());
  auto bytes = encode_header(header);
  gather_.clear();
  gather_.push_back({.iov_base = bytes.data(), .iov_len = bytes.size()});
  // sendmsg() does not write to what it sends.
  gather_.push_back({.iov_base = const_cast<std::byte*>(body.data()), .iov_len = body.size()});
  for (const iovec& piece : more) gather_.push_back(piece);
  return outbox_.send(socket_.get(), gather_);
}

int NativeChannel::hand_over(std::span<int, 2> descriptors, void* state, size_t& size) {
  if (failure_ != 0) return failure_;
  if (outbox_.failure() != 0) return outbox_.failure();
  if (inbox_.descriptor_waits()) return -EBUSY;
  const std::vector<std::byte> bytes = encode_state({.facts = facts_,
                                                     .unread = inbox_.unread(),
                                                     .unsent = outbox_.unsent(),
                                                     .first_frame = outbox_.first_frame(),
                                                     .operations = operations_.sorted()});
  const size_t room = std::exchange(size, bytes.size());
  if (room < bytes.size()) return -ENOSPC;
  std::memcpy(state, bytes.data(), bytes.size());
  descriptors[0] = socket_.release();
  descriptors[1] = area_fd_.release();
  return 0;
}

}  // namespace smbdirect::protocol::proxy::peer
