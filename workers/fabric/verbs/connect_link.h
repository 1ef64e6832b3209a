// SPDX-License-Identifier: MIT
// The connecting side's link, through librdmacm, with an event channel of its own. Owned by its endpoint, on
// the loop's thread. The library never sees the queue pair, which is made on the endpoint's device context:
// so this code moves it through its states and takes the last step of the set-up. Destroying the link ends
// the connection; when the process dies the kernel does.
//
// Each event is copied and acknowledged before it is handled, because destroying an id waits for
// unacknowledged events.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/fabric/verbs/cm_link.h"
#include "workers/fabric/verbs/rdma_api.h"

namespace smbdirect::workers::fabric::verbs {

struct DestroyEventChannel {
  RdmaApi* api;
  void operator()(rdma_event_channel* channel) const { api->destroy_event_channel(channel); }
};
using EventChannel = std::unique_ptr<rdma_event_channel, DestroyEventChannel>;
[[nodiscard]] inline int descriptor_of(const EventChannel& channel) { return channel->fd; }
/// The error says what may be missing.
[[nodiscard]] shm::Result<EventChannel> open_channel(RdmaApi& api);

class ConnectLink final : public CmLink {
 public:
  // Of the address, and of the route again: both within the 5 s that a connection may take in all, so that
  // the reason can be reported.
  static constexpr int kResolveTimeoutMs = 2000;

  /// Nothing is sent before start(). from: any port when its port is 0.
  [[nodiscard]] static shm::Result<std::unique_ptr<ConnectLink>> make(
      RdmaApi& api, uv_loop_t& loop, const sockaddr_storage& to, const std::optional<sockaddr_storage>& from);
  ~ConnectLink() override = default;

  void start(Observer& observer) override;
  [[nodiscard]] const DevicePort& device() const override { return device_; }
  [[nodiscard]] shm::Result<QpAttributes> qp_attributes(ibv_qp_state state) override;
  [[nodiscard]] shm::Result<> accept(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> connect(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> establish() override;
  [[nodiscard]] shm::Result<> disconnect() override;
  [[nodiscard]] bool device_in_doubt() override;
  [[nodiscard]] std::string description() const override { return description_; }

 private:
  struct DestroyId {
    RdmaApi* api;
    void operator()(rdma_cm_id* id) const { (void)api->destroy_id(id); }
  };
  using Id = std::unique_ptr<rdma_cm_id, DestroyId>;

  enum class State : uint8_t {
    idle,
    resolving_address,
    resolving_route,
    resolved,
    connecting,
    accepted,      // the server has; establish() is awaited
    establishing,  // establish() was called; on_established() is due
    established,
    over,
  };
  /// What of an event outlives its acknowledgement.
  struct Event {
    int type{};  // enum rdma_cm_event_type, or a number that is not in it
    int status{};
    PeerLimits limits;
  };

  ConnectLink(RdmaApi& api, uv_loop_t& loop, EventChannel channel, const sockaddr_storage& to,
              const std::optional<sockaddr_storage>& from);
  void step();
  void read_events(int status);
  void on_event(const Event& event);
  void on_address();
  void fail(std::string detail);
  void ended(std::string how);
  [[nodiscard]] shm::Error failed(const char* call) const;

  RdmaApi& api_;
  sockaddr_storage to_;
  std::optional<sockaddr_storage> from_;
  shm::Watched<EventChannel> channel_;
  Id id_;  // after channel_: gone before it
  shm::Deferred step_;
  Observer* observer_ = nullptr;
  State state_ = State::idle;
  DevicePort device_;
  bool iwarp_ = false;
  std::string description_;
};

}  // namespace smbdirect::workers::fabric::verbs
