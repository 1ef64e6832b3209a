// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/device.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <fcntl.h>
#include <utility>

#include "shm/base/log.h"

namespace smbdirect::workers::fabric::verbs {

namespace log = shm::log;

namespace {

constexpr const char* kRemoved = "was removed";

bool set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

}  // namespace

shm::Result<std::unique_ptr<Device>> Device::open(VerbsApi& api, uv_loop_t& loop, Arena& arena,
                                                  ibv_device& device, Owner& owner) {
  const std::string name = device.name;
  ContextHandle context = own(api, api.open_device(&device));
  if (context == nullptr) return shm::fail("ibv_open_device " + name, errno);
  ibv_device_attr attributes{};
  if (const int error = api.query_device(context.get(), &attributes); error != 0) {
    return shm::fail("ibv_query_device " + name, error);
  }
  if ((attributes.device_cap_flags & IBV_DEVICE_MEM_MGT_EXTENSIONS) == 0) {
    return shm::fail(
        "RDMA device " + name +
        " has no memory management extensions: it cannot send with invalidate, which clients of SMB "
        "3.0.2 and later rely on");
  }
  if (!set_nonblocking(context->async_fd)) return shm::fail("fcntl on the events of " + name, errno);
  std::unique_ptr<Device> made(new Device(api, loop, arena, std::move(context), attributes, owner));
  made->node_guid_ = api.get_device_guid(&device);
  auto queues = CompletionQueues::create(api, loop, made->context(),
                                         static_cast<uint32_t>(std::max(attributes.max_cqe, 1)), made->seats_,
                                         made->stats_, *made);
  if (!queues) return std::unexpected(queues.error());
  made->queues_ = std::move(*queues);
  return made;
}

Device::Device(VerbsApi& api, uv_loop_t& loop, Arena& arena, ContextHandle context,
               const ibv_device_attr& attributes, Owner& owner)
    : api_(api),
      arena_(arena),
      owner_(owner),
      context_(loop, std::move(context), [this](int, int status) { on_async_readable(status); }),
      attributes_(attributes),
      node_guid_(0),
      idle_(loop, [this] { owner_.device_done(*this); }),
      presence_(loop, [this] { look_again(); }) {
  context_.want(UV_READABLE);
  presence_.start(kPresenceMs);
}

Device::~Device() { assert(seats_.taken() == 0); }

shm::Result<std::unique_ptr<Device::Seat>> Device::take_seat(DeviceUser& user, uint32_t work) {
  const auto room = queues_->reserve(work);
  if (!room) return std::unexpected(room.error());
  const auto place = seats_.take(user);
  if (!place) {
    queues_->release(*room);
    return shm::fail(std::string("too many connections on ") + name());
  }
  idle_.stop();
  return std::make_unique<Seat>(*this, *place, *room);
}

void Device::leave(const Seat& seat) {
  seats_.leave(seat.place_);
  queues_->release(seat.room_);
  // Never at once: the last user may be leaving from inside a call of ours.
  if (seats_.taken() == 0) idle_.start(removed_ ? 0 : idle_ms_);
}

void Device::start_idle() {
  if (seats_.taken() == 0) idle_.start(idle_ms_);
}

void Device::remove(std::string why) {
  if (std::exchange(removed_, true)) return;
  log::write(log::Level::notice, "RDMA device %s %s; %zu connections end", name(), why.c_str(),
             seats_.taken());
  context_.want(0);
  seats_.each([&why](DeviceUser& user) { user.on_device_gone(why); });
  if (seats_.taken() == 0) idle_.start(0);
}

uint32_t Device::max_message(uint8_t port) const {
  ibv_port_attr attributes{};
  constexpr uint32_t kLeast = 1U << 20U;
  if (api_.query_port(context_.owner().get(), port, &attributes) != 0 || attributes.max_msg_sz == 0)
    return kLeast;
  return attributes.max_msg_sz;
}

shm::Result<MrTable*> Device::shared_domain() {
  if (shared_domain_ == nullptr) {
    auto domain = MrTable::create(api_, context(), arena_);
    if (!domain) return std::unexpected(domain.error());
    shared_domain_ = std::move(*domain);
  }
  return shared_domain_.get();
}

void Device::look() {
  if (!removed_ && !api_.is_present(context().device)) remove(kRemoved);
}

void Device::look_again() {
  look();
  if (!removed_) presence_.start(kPresenceMs);
}

void Device::on_polling_failed(std::string why, bool taken_away) { failed(std::move(why), taken_away); }

/// A failure caused by the removal of the device may be reported before the removal itself.
void Device::failed(std::string why, bool taken_away) {
  if (!taken_away) look();
  remove(taken_away ? kRemoved : "failed: " + std::move(why));
}

// --- asynchronous events ---

void Device::on_async_readable(int status) {
  if (status < 0) {  // UV_EBADF: libuv's word for EPOLLERR
    return failed(std::string("its events cannot be watched: ") + uv_strerror(status), status == UV_EBADF);
  }
  for (int most = 16; most > 0; --most) {
    ibv_async_event event{};
    if (api_.get_async_event(context_.owner().get(), &event) != 0) {
      // EIO: there are no more, the kernel has taken the device from us.
      if (errno != EAGAIN && errno != EINTR) failed("ibv_get_async_event", errno == EIO);
      return;
    }
    // Destroying what an event is about waits for its acknowledgement; from here on only pointers are
    // compared.
    api_.ack_async_event(&event);
    on_async_event(event);
  }
}

void Device::on_async_event(const ibv_async_event& event) {
  const auto tell_owner_of_queue_pair = [&] {
    seats_.each([&](DeviceUser& user) {
      if (user.queue_pair() == event.element.qp) user.on_device_event(event.event_type);
    });
  };
  switch (event.event_type) {
    case IBV_EVENT_QP_FATAL:       // the queue pair is lost
    case IBV_EVENT_QP_REQ_ERR:     // the peer asked for what does not exist
    case IBV_EVENT_QP_ACCESS_ERR:  // the peer reached for memory it may not use
      tell_owner_of_queue_pair();
      return;
    case IBV_EVENT_CQ_ERR:  // it overran or broke: nothing on it can be told of any more
    case IBV_EVENT_DEVICE_FATAL:
      failed(ibv_event_type_str(event.event_type), false);
      return;
    case IBV_EVENT_PORT_ERR:  // connections on it fail by their own timeouts, or live through it
      log::write(log::Level::notice, "RDMA device %s: port %d is down", name(), event.element.port_num);
      return;
    case IBV_EVENT_PORT_ACTIVE:
      log::write(log::Level::notice, "RDMA device %s: port %d is up", name(), event.element.port_num);
      return;
    case IBV_EVENT_COMM_EST:             // the connection manager and the first receive tell the same
    case IBV_EVENT_SQ_DRAINED:           // we drain by error
    case IBV_EVENT_QP_LAST_WQE_REACHED:  // only matters with shared receive queues
    case IBV_EVENT_PATH_MIG:             // no alternate paths here
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_LID_CHANGE:  // the connection manager's business
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_GID_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
    case IBV_EVENT_SRQ_ERR:  // we make none of these
    case IBV_EVENT_SRQ_LIMIT_REACHED:
    case IBV_EVENT_WQ_FATAL:
    default:  // what later releases of rdma-core add, such as a change of the port's speed
      break;
  }
  log::write(log::Level::debug, "RDMA device %s: %s", name(), ibv_event_type_str(event.event_type));
}

}  // namespace smbdirect::workers::fabric::verbs
