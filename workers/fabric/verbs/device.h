// SPDX-License-Identifier: MIT
// One RDMA device that this process has open: its context and attributes, its completion queues, its
// asynchronous events, and the protection domain that connections share where that is safe. Owned by the
// device table; the loop's thread only; ends with the process.
//
// Each connection has a seat on it (Seat). The table is told to destroy the device when it has had no
// connections for a while, or as soon as the last one has left after the device failed or is being removed:
// soft devices cannot be deleted before every process has closed them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/fabric/verbs/completion_queues.h"
#include "workers/fabric/verbs/handles.h"
#include "workers/fabric/verbs/mr_table.h"
#include "workers/fabric/verbs/seat_table.h"
#include "workers/memory/arena.h"

namespace smbdirect::workers::fabric::verbs {

/// Where a chain of work requests is built; nothing of it is used after the post that it was built for.
struct WorkScratch {
  static constexpr unsigned kChain = 64;
  std::array<ibv_send_wr, kChain> send{};
  std::array<ibv_recv_wr, kChain> receive{};
};

class Device final : private CompletionQueues::Owner {
 public:
  static constexpr uint64_t kPresenceMs = 1000;

  class Owner {
   public:
    /// Nobody uses the device: destroy it. From the loop.
    virtual void device_done(Device& device) = 0;

   protected:
    ~Owner() = default;
  };

  /// Fails for a device without what SMB Direct needs.
  [[nodiscard]] static shm::Result<std::unique_ptr<Device>> open(VerbsApi& api, uv_loop_t& loop, Arena& arena,
                                                                 ibv_device& device, Owner& owner);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// A connection's place: while one lasts the device stays open, and completions find their way. To be
  /// given up after the connection's queue pair.
  class Seat {
   public:
    Seat(Device& device, SeatTable::Place place, const CompletionQueues::Room& room)
        : device_(device), place_(place), room_(room) {}
    ~Seat() { device_.leave(*this); }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

    [[nodiscard]] Device& device() const { return device_; }
    [[nodiscard]] ibv_cq& cq() const { return *room_.cq; }
    [[nodiscard]] WorkId work_id(WorkKind kind, uint32_t sequence) const {
      return {.seat = place_.seat, .generation = place_.generation, .kind = kind, .sequence = sequence};
    }

   private:
    friend class Device;
    Device& device_;
    SeatTable::Place place_;
    CompletionQueues::Room room_;
  };
  /// For a connection that will never have more than `work` work requests outstanding.
  [[nodiscard]] shm::Result<std::unique_ptr<Seat>> take_seat(DeviceUser& user, uint32_t work);

  /// The device goes away: tells every user, and has itself destroyed when all have left.
  void remove(std::string why);
  [[nodiscard]] bool removed() const { return removed_; }
  /// Whether it is still there, now: as remove(), where it is not.
  void look();

  void set_idle_ms(uint32_t after) { idle_ms_ = after; }
  /// Nobody may ever take a seat after all: starts the time after which the device is closed.
  void start_idle();
  void set_busy_poll(uint32_t microseconds, const shm::BusyPoll* loops) {
    queues_->set_busy_poll(microseconds, loops);
  }

  [[nodiscard]] VerbsApi& api() const { return api_; }
  [[nodiscard]] Arena& arena() const { return arena_; }
  [[nodiscard]] ibv_context& context() const { return *context_.owner(); }
  [[nodiscard]] uint64_t node_guid() const { return node_guid_; }
  [[nodiscard]] const char* name() const { return context().device->name; }
  [[nodiscard]] bool is_iwarp() const { return context().device->transport_type == IBV_TRANSPORT_IWARP; }
  [[nodiscard]] const ibv_device_attr& attributes() const { return attributes_; }
  /// The most bytes that one work request may move on this port.
  [[nodiscard]] uint32_t max_message(uint8_t port) const;
  /// What connections of the accepting side share on IB and RoCE. Made when first asked for.
  [[nodiscard]] shm::Result<MrTable*> shared_domain();
  [[nodiscard]] WorkScratch& scratch() { return scratch_; }
  [[nodiscard]] PollStats& stats() { return stats_; }
  [[nodiscard]] size_t users() const { return seats_.taken(); }
  [[nodiscard]] size_t completion_queues() const { return queues_->size(); }

 private:
  Device(VerbsApi& api, uv_loop_t& loop, Arena& arena, ContextHandle context,
         const ibv_device_attr& attributes, Owner& owner);
  void leave(const Seat& seat);
  void on_polling_failed(std::string why, bool taken_away) override;
  void failed(std::string why, bool taken_away);
  void look_again();
  void on_async_readable(int status);
  void on_async_event(const ibv_async_event& event);

  VerbsApi& api_;
  Arena& arena_;
  Owner& owner_;
  shm::Watched<ContextHandle> context_;  // and its asynchronous events
  ibv_device_attr attributes_;
  uint64_t node_guid_;
  SeatTable seats_;
  PollStats stats_;
  WorkScratch scratch_;
  std::unique_ptr<MrTable> shared_domain_;
  std::unique_ptr<CompletionQueues> queues_;
  uint32_t idle_ms_ = 0;
  bool removed_ = false;
  shm::Timer idle_;
  shm::Timer presence_;
};

}  // namespace smbdirect::workers::fabric::verbs
