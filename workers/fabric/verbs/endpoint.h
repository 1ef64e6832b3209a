// SPDX-License-Identifier: MIT
// One connection on an RDMA device: the seam of fabric.h over a queue pair, with its connection manager's id
// behind a CmLink. Owned by a Transport (or the benchmark), used on the loop's thread only; the device table,
// its loop and its handler outlive it. When the process dies the kernel ends the connection.
//
// Which memory the peer can reach: none on the accepting side of InfiniBand and RoCE, where the queue pair
// allows no remote access at all and connections share the device's protection domain. An iWARP device
// receives the answers to our RDMA READs through memory that the peer may write, and the connecting side
// exposes memory. In these cases a connection has a protection domain of its own, in which the arena is
// registered for local use; only its peer can name the sink of its READs (read_sink.h) or what it has
// exposed, and nothing else.
//
// Life: set-up (endpoint_setup.cc), work, and the end (endpoint_end.cc). Receives that were posted before
// there is a queue pair are posted when it is made. Before on_established() there is no room for sends. The
// end: no new work; what was posted is sent, when the end is an orderly one; the peer is told; the queue pair
// goes to its error state and all work is waited for (both bounded); the queue pair is destroyed, then memory
// registrations, then the connection manager's id; on_closed(), after which no memory of the caller's is
// touched. Destroying the endpoint early does the same at once, without callbacks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <uv.h>

#include "shm/loop/loop.h"
#include "workers/fabric/fabric.h"
#include "workers/fabric/verbs/cm_link.h"
#include "workers/fabric/verbs/device_table.h"
#include "workers/fabric/verbs/handles.h"
#include "workers/fabric/verbs/queue_pair.h"
#include "workers/fabric/verbs/read_sink.h"
#include "workers/fabric/verbs/receive_queue.h"
#include "workers/fabric/verbs/send_queue.h"
#include "workers/fabric/verbs/verbs.h"

namespace smbdirect::workers::fabric::verbs {

enum class Side : uint8_t { accepting, connecting };

/// How long the stages of an end may take.
struct EndTimes {
  uint32_t disconnect_ms = 3000;  // disconnect(): what was posted to be sent, and the peer to answer
  uint32_t drain_ms = 5000;       // all work to come back from a queue pair in error
  uint32_t verdict_ms = 500;      // work was flushed: the connection manager to say why
};

class VerbsEndpoint final : public Endpoint, private CmLink::Observer, private DeviceUser {
 public:
  VerbsEndpoint(uv_loop_t& loop, DeviceTable& devices, std::unique_ptr<CmLink> link, Side side,
                const Options& options, Handler& handler, const EndTimes& times = {});
  ~VerbsEndpoint() override;

  void start() override;
  std::expected<void, PostError> post_receive(uint64_t id, Sge into) override;
  std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                           const uint32_t* invalidate) override;
  std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces,
                                            RemoteMemory to) override;
  std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from) override;
  void ring() override;
  [[nodiscard]] uint32_t send_room() const override;
  std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access) override;
  void unexpose(uint32_t token) override;
  void disconnect() override;
  void abort() override;
  void trim() override;
  [[nodiscard]] const Attributes& attributes() const override { return attributes_; }
  [[nodiscard]] const Traffic& traffic() const override { return traffic_; }
  [[nodiscard]] Progress progress() const override;
  [[nodiscard]] std::string_view description() const override { return description_; }

 private:
  /// In this order; an end may skip some.
  enum class Phase : uint8_t {
    idle,         // start() has not been called
    resolving,    // the connection manager looks for the way; no queue pair yet
    connecting,   // accept() or connect() was called
    established,  // work may be posted
    finishing,    // disconnect(): what was posted goes out first
    closing,      // the peer was told; waiting for its answer
    draining,     // the queue pair is in error; waiting for its work to come back
    closed,       // only on_closed() is left, or not even that
  };

  // CmLink::Observer
  void on_resolved(const PeerLimits& peer) override;
  void on_accepted(const PeerLimits& peer) override;
  void on_established() override;
  void on_disconnected() override;
  void on_failed(CloseCause cause, std::string detail) override;
  void on_device_removed() override;
  // DeviceUser
  void on_work(const WorkId& id, const ibv_wc& completion) override;
  void on_round_end() override;
  void on_device_event(ibv_event_type event) override;
  void on_device_gone(const std::string& why) override;
  [[nodiscard]] const ibv_qp* queue_pair() const override { return qp_.get(); }

  // Set-up (endpoint_setup.cc)
  [[nodiscard]] shm::Result<> make_queue_pair(const PeerLimits& peer);
  [[nodiscard]] shm::Result<> choose_domain(Device& device);
  [[nodiscard]] shm::Result<> enter(ibv_qp_state state);
  [[nodiscard]] shm::Result<> answer();
  void establish();

  // Work (endpoint.cc)
  [[nodiscard]] std::expected<void, PostError> post_message(const Message& message,
                                                            std::span<const Sge> pieces);
  [[nodiscard]] bool open() const { return phase_ < Phase::finishing; }
  void post_queued();
  void deliver();

  // The end (endpoint_end.cc)
  void work_failed(const WorkId& id, const ibv_wc& completion);
  void posting_failed(std::string why);
  void setup_failed(std::string why);
  void setup_ended(CloseCause cause, std::string detail);
  void lost(CloseCause cause, std::string detail);
  void settle(Close close);
  bool tell_peer();
  void drain();
  void proceed();
  void deadline_passed();
  void force();
  void finish();
  void tell_closed();
  void release();
  void arm(uint64_t after_ms);

  uv_loop_t& loop_;
  DeviceTable& devices_;
  Side side_;
  Options options_;
  Handler& handler_;
  EndTimes times_;
  Attributes attributes_;
  Traffic traffic_;
  std::string description_;

  Phase phase_ = Phase::idle;
  OurLimits limits_;
  SendQueue sends_;
  ReceiveQueue receives_;
  std::vector<Completion> done_;  // of this round
  size_t done_peak_ = 0;          // since the last trim()
  std::optional<Close> close_;
  bool verdict_open_ = false;  // close_ is what it looks like; the connection manager may know better
  bool awaiting_verdict_ = false;
  bool peer_told_ = false;
  bool mute_ = false;  // abort(): completions are not delivered any more

  // What the kernel has for us, in the order it is made; it goes in the opposite order.
  std::unique_ptr<CmLink> link_;
  std::unique_ptr<Device::Seat> seat_;
  std::unique_ptr<MrTable> own_domain_;
  MrTable* domain_ = nullptr;
  std::unique_ptr<ReadSink> sink_;
  std::unordered_map<uint32_t, MrHandle> exposed_;  // by token
  QpHandle qp_;

  shm::Timer timer_;
  shm::Deferred later_;
};

}  // namespace smbdirect::workers::fabric::verbs
