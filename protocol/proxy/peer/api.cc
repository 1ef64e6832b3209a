// SPDX-License-Identifier: MIT
// The C functions of smbdirect_peer.h: handles around the classes, and the place where exceptions end.
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "protocol/proxy/peer/native_channel.h"
#include "protocol/proxy/peer/registration.h"
#include "protocol/proxy/smbdirect_peer.h"

namespace peer = smbdirect::protocol::proxy::peer;
namespace proxy = smbdirect::protocol::proxy;

struct smbdirect_main {
  peer::Registration registration;
};
struct smbdirect_channel {
  peer::NativeChannel channel;
};

static_assert(SMBDIRECT_COOKIE_SIZE == proxy::kCookieBytes);
static_assert(SMBDIRECT_GUID_SIZE == sizeof(smbdirect::protocol::smb2::Guid));
static_assert(SMBDIRECT_MAX_DESCRIPTORS == proxy::kMaxOperationDescriptors);
static_assert(SMBDIRECT_MAX_INVALIDATE == proxy::kMaxInvalidate);
static_assert(sizeof(smbdirect_start::socket) == proxy::kMaxSocketPath + 1);

namespace {

/// Nothing in here throws except when memory runs out.
template <typename Result = int, typename Function>
Result guarded(Function&& function) noexcept {
  try {
    return std::forward<Function>(function)();
  } catch (...) {
    return -ENOMEM;
  }
}

/// *handle becomes one around what `make` makes, which may fail with an errno. The handle is made first, so
/// that nothing can fail once a descriptor of the caller's is in it.
template <typename Handle, typename Make>
int into_handle(Handle** handle, Make&& make) noexcept {
  return guarded([&] {
    auto made = std::make_unique<Handle>();
    auto content = std::forward<Make>(make)();
    if (!content) return content.error();
    auto& [held] = *made;
    held = std::move(*content);
    *handle = made.release();
    return 0;
  });
}

template <typename Item>
bool missing(const Item* items, size_t count) {
  return items == nullptr && count > 0;
}

int rdma(smbdirect_channel* channel, proxy::FrameType type, uint64_t id, size_t area_offset, size_t length,
         const smbdirect_descriptor* descriptors, size_t count) {
  if (channel == nullptr || missing(descriptors, count)) return -EINVAL;
  return guarded(
      [&] { return channel->channel.rdma(type, id, area_offset, length, std::span(descriptors, count)); });
}

}  // namespace

const char* smbdirect_peer_version(void) { return SMBDIRECT_PEER_VERSION; }

int smbdirect_main_open(const char* control_socket, smbdirect_main** main_process) {
  if (control_socket == nullptr || main_process == nullptr) return -EINVAL;
  return into_handle(main_process, [&] { return peer::Registration::open(control_socket); });
}

int smbdirect_main_fd(const smbdirect_main* main_process) {
  return main_process == nullptr ? -EINVAL : main_process->registration.fd();
}

int smbdirect_main_next(smbdirect_main* main_process, smbdirect_start* start) {
  if (main_process == nullptr || start == nullptr) return -EINVAL;
  return guarded([&] { return main_process->registration.next(*start); });
}

int smbdirect_main_failed(smbdirect_main* main_process, uint64_t number, int error) {
  if (main_process == nullptr) return -EINVAL;
  return guarded([&] { return main_process->registration.failed(number, error); });
}

void smbdirect_main_close(smbdirect_main* main_process) {
  std::unique_ptr<smbdirect_main>(main_process).reset();
}

int smbdirect_channel_open(const smbdirect_start* start, smbdirect_channel** channel) {
  if (start == nullptr || channel == nullptr) return -EINVAL;
  const size_t length = strnlen(start->socket, sizeof start->socket);
  if (length == 0 || length == sizeof start->socket) return -EINVAL;
  proxy::Cookie cookie{};
  std::memcpy(cookie.bytes.data(), start->cookie, cookie.bytes.size());
  return into_handle(channel, [&] { return peer::NativeChannel::open({start->socket, length}, cookie); });
}

const smbdirect_facts* smbdirect_channel_facts(const smbdirect_channel* channel) {
  return channel == nullptr ? nullptr : &channel->channel.facts();
}

int smbdirect_channel_attach(smbdirect_channel* channel) {
  if (channel == nullptr) return -EINVAL;
  return guarded([&] { return channel->channel.attach(); });
}

int smbdirect_channel_fd(const smbdirect_channel* channel) {
  return channel == nullptr ? -EINVAL : channel->channel.fd();
}

short smbdirect_channel_events(const smbdirect_channel* channel) {
  return channel == nullptr ? short{0} : channel->channel.events();
}

int smbdirect_channel_next(smbdirect_channel* channel, smbdirect_event* event) {
  if (channel == nullptr || event == nullptr) return -EINVAL;
  return guarded([&] {
    std::optional<peer::NativeChannel> other;
    const int result = channel->channel.next(*event, other);
    if (other) {
      auto made = std::make_unique<smbdirect_channel>();
      made->channel = std::move(*other);
      event->channel = made.release();
    }
    return result;
  });
}

int smbdirect_send_pdu(smbdirect_channel* channel, const iovec* pieces, int count, const uint32_t* invalidate,
                       size_t invalidate_count) {
  if (channel == nullptr || count < 0 || missing(pieces, static_cast<size_t>(count)) ||
      missing(invalidate, invalidate_count)) {
    return -EINVAL;
  }
  return guarded([&] {
    return channel->channel.send_pdu(std::span(pieces, static_cast<size_t>(count)),
                                     std::span(invalidate, invalidate_count));
  });
}

int smbdirect_rdma_read(smbdirect_channel* channel, uint64_t id, size_t area_offset, size_t length,
                        const smbdirect_descriptor* descriptors, size_t count) {
  return rdma(channel, proxy::FrameType::rdma_read, id, area_offset, length, descriptors, count);
}

int smbdirect_rdma_write(smbdirect_channel* channel, uint64_t id, size_t area_offset, size_t length,
                         const smbdirect_descriptor* descriptors, size_t count) {
  return rdma(channel, proxy::FrameType::rdma_write, id, area_offset, length, descriptors, count);
}

int64_t smbdirect_channel_flush(smbdirect_channel* channel) {
  if (channel == nullptr) return -EINVAL;
  return guarded<int64_t>([&] { return channel->channel.flush(); });
}

int smbdirect_channel_export(smbdirect_channel* channel, int descriptors[2], void* state, size_t* size) {
  if (channel == nullptr || descriptors == nullptr || size == nullptr || (state == nullptr && *size > 0)) {
    return -EINVAL;
  }
  return guarded([&] {
    const int result = channel->channel.hand_over(std::span<int, 2>(descriptors, 2), state, *size);
    if (result == 0) smbdirect_channel_close(channel);
    return result;
  });
}

int smbdirect_channel_import(const int descriptors[2], const void* state, size_t size,
                             smbdirect_channel** channel) {
  if (descriptors == nullptr || channel == nullptr || missing(static_cast<const std::byte*>(state), size)) {
    return -EINVAL;
  }
  return into_handle(channel, [&] {
    return peer::NativeChannel::take_over(std::span<const int, 2>(descriptors, 2),
                                          std::span(static_cast<const std::byte*>(state), size));
  });
}

void smbdirect_channel_close(smbdirect_channel* channel) {
  std::unique_ptr<smbdirect_channel>(channel).reset();
}
