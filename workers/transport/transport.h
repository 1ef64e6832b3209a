// SPDX-License-Identifier: MIT
// One SMB Direct connection in use: the protocol engine, an RDMA endpoint, the receive buffers and the
// queues of what goes out tied together. Both roles: a worker's sessions, smbdirect-connect and the benchmark
// build on it. Owned by its session, on the loop's thread; dies with the process.
//
// Output order: RDMA WRITEs requested before a message was begun are posted before that message's first
// fragment; messages keep their order; WRITEs never wait for credits. RDMA READs start at once.
//
// Nothing is posted to the wire until pump(). Owner callbacks come from the loop; after a callback the
// transport pumps by itself. An owner that calls in from elsewhere (its TCP side) calls pump() when done.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <uv.h>

#include "protocol/smbdirect/engine.h"
#include "shm/latency_table.h"
#include "shm/loop/loop.h"
#include "workers/fabric/fabric.h"
#include "workers/memory/ring.h"
#include "workers/memory/slab.h"
#include "workers/stats/counters.h"
#include "workers/stats/event_ring.h"
#include "workers/transport/message_queue.h"
#include "workers/transport/progress_watch.h"
#include "workers/transport/rdma_queues.h"

namespace smbdirect::workers {

namespace smb_direct = protocol::smb_direct;

/// A piece of an upper-layer message as it arrived. Keeping `buffer` (share()) keeps `data` valid and
/// keeps one receive from being posted again: that is the back-pressure.
struct Fragment {
  std::span<const std::byte> data;
  SlabRef* buffer{};
  uint64_t total{};
  bool first{};
  bool last{};
};

class Transport final : private fabric::Handler {
 public:
  class Owner {
   public:
    /// SMB Direct is negotiated; agreed() is valid.
    virtual void on_negotiated() = 0;
    virtual void on_fragment(Fragment fragment) = 0;
    /// An RDMA READ started with this cookie has been placed.
    virtual void on_read_done(uint64_t cookie) = 0;
    /// So many of the rdma_write()s asked for are done; they are in the order of asking.
    virtual void on_writes_done(uint64_t /*count*/) {}
    /// The peer invalidated one of our tokens with a SEND (active role).
    virtual void on_invalidated(uint32_t token) = 0;
    /// The end of a batch of events: everything that had arrived has been delivered, references of
    /// completed sends were dropped. The place to flush what the batch produced.
    virtual void on_progress() = 0;
    /// The connection is lost (a rule broken, a timer) but still to be closed in an orderly way: stop
    /// using it, reset what depends on it. on_closed() follows within seconds.
    virtual void on_fault(const std::string& /*why*/) {}
    /// The end, exactly once; nothing follows. clean: the peer or we closed in an orderly way.
    virtual void on_closed(const std::string& why, bool clean) = 0;

   protected:
    ~Owner() = default;
  };

  struct Config {
    smb_direct::Role role{};
    smb_direct::Limits limits;
    SlabPool& receive_pool;  // slabs of at least max(512, limits.max_receive_size) bytes
    SlabPool& header_pool;   // any slab size >= 4096; one slab for message headers
    Budget& budget;          // charged for receive and header slabs, and for what is queued
    uint64_t progress_timeout_ms = ProgressWatch::kNever;  // what the peer owes and does nothing for ends it
    shm::Latencies* latencies = nullptr;                   // where durations are counted; null: nowhere
  };
  using MakeEndpoint = std::function<std::unique_ptr<fabric::Endpoint>(fabric::Handler&)>;

  Transport(uv_loop_t& loop, const Config& config, Owner& owner);
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  ~Transport();

  /// Builds the endpoint (bound to this transport), posts the first receives and starts it. False when
  /// make_endpoint returned nothing; then on_closed() is not called.
  [[nodiscard]] bool start(const MakeEndpoint& make_endpoint);

  // --- sending an upper-layer message ---
  /// Begin a message of `total` bytes (> 0), its bytes to be append()ed as they come. Each token in
  /// `invalidate` is invalidated by one fragment (the first ones) of this message.
  /// False when the peer does not take messages of that size.
  [[nodiscard]] bool begin_message(uint64_t total, std::span<const uint32_t> invalidate = {});
  /// The next bytes of the message begun last. `owner` keeps them alive (empty: static memory).
  void append(SlabRef owner, std::span<const std::byte> bytes);
  /// Bytes begun but not yet posted, and messages not yet completed: for deciding when to close.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] size_t messages_queued() const { return messages_.size(); }

  // --- RDMA (passive role: to and from the peer's memory) ---
  void rdma_write(SlabRef owner, std::span<const std::byte> bytes, fabric::RemoteMemory to);
  /// Whether the bytes of a mapped file may be written so.
  [[nodiscard]] bool sends_files() const {
    return endpoint_ != nullptr && endpoint_->attributes().sends_files;
  }
  /// Reads `into` (memory kept alive by the caller until on_read_done(cookie) or on_closed).
  void rdma_read(std::span<std::byte> into, uint32_t key, fabric::RemoteMemory from, uint64_t cookie);

  // --- memory for the peer (active role) ---
  [[nodiscard]] std::optional<fabric::RemoteMemory> expose(std::span<std::byte> memory,
                                                           fabric::Access access);
  void unexpose(uint32_t token);

  /// Grant no further credits (but the one that must stay) while held.
  void hold_grants(bool held);
  /// The most credits that the peer may hold, within Config::limits.
  void limit_receive_credits(uint16_t most) { engine_.limit_receive_credits(most); }
  /// Post what is due: receives, writes, messages; ring the doorbell; arm the timer.
  void pump();
  /// The same, and it leaves now, also from within a callback, which else sends all at its end.
  void hurry();
  /// Finish what was posted, then close in an orderly way. on_closed() follows.
  void disconnect(std::string why);
  /// Give the connection up, dropping what is not posted yet, but close in an orderly way, so that the
  /// peer sees what it was already sent. on_closed() follows.
  void fail(std::string why);
  /// Close at once. on_closed() follows from the loop.
  void abort(std::string why);
  /// The connection is dropped at once and nothing follows: RDMA touches no memory any more.
  void drop();
  /// Called now and then, not from a callback: frees memory that was not needed since the last call, and when
  /// nothing was received since then, the pages of the buffers as well.
  void trim();

  /// Since when the peer has made hardly any progress with what it owes, and so holds memory up. UINT64_MAX:
  /// it owes nothing.
  [[nodiscard]] uint64_t stuck_since();
  /// Bytes of the budget that every connection takes, whatever it does: posted receives and headers.
  [[nodiscard]] uint64_t standing_bytes() const {
    return receive_quota_.used() + (headers_ ? headers_.bytes().size() : 0);
  }
  [[nodiscard]] uint64_t now() const { return uv_now(&loop_); }
  [[nodiscard]] const smb_direct::Engine& engine() const { return engine_; }
  /// This connection's counters, the fabric's included.
  [[nodiscard]] Counters counters() const;
  [[nodiscard]] Counters& own_counters() { return counters_; }
  [[nodiscard]] EventRing& events() { return events_; }
  /// A clock for durations, in microseconds; 0 where nobody counts them.
  [[nodiscard]] uint64_t clock_us() const { return config_.latencies == nullptr ? 0 : uv_hrtime() / 1000; }
  /// An operation ended that began at this time of the clock.
  void took(shm::Operation operation, uint64_t since_us) {
    if (config_.latencies == nullptr) return;
    (*config_.latencies)[size_t(operation)].record(clock_us() - since_us);
  }
  void record(EventKind kind, uint64_t a = 0, uint64_t b = 0) { events_.record(uv_now(&loop_), kind, a, b); }
  [[nodiscard]] const fabric::Endpoint* endpoint() const { return endpoint_.get(); }

 private:
  void on_established() override;
  void on_completions(std::span<const fabric::Completion> done) override;
  void on_closed(const fabric::Close& why) override;

  void received(const fabric::Completion& completion);
  void post_receives();
  void post_messages();
  bool post_fragment();
  void fault(smb_direct::Fault fault);
  void begin_closing(std::string why, bool clean);
  void refused(fabric::PostError error);
  void close_endpoint(bool orderly);
  void post_send(const smb_direct::Outgoing& out);
  [[nodiscard]] bool can_send() const;
  [[nodiscard]] bool owed() const;
  void look_at_progress();
  void overdue(Owed what);
  void arm_timer();
  void on_timer();

  uv_loop_t& loop_;
  Owner& owner_;
  Config config_;
  smb_direct::Engine engine_;
  Counters counters_;
  EventRing events_;
  shm::Timer timer_;
  uint64_t armed_for_ = UINT64_MAX;
  ProgressWatch watch_;
  ProgressWatch stuck_;                       // the same, of more than a trickle
  uint64_t look_at_ = ProgressWatch::kNever;  // when to look at it again; kNever: nothing was owed
  uint64_t moved_ = 0;                        // by the fabric, when it was last looked at

  uint64_t received_ = 0;      // messages...
  uint64_t trimmed_at_ = 0;    // ...at the last trim()
  bool buffers_clean_ = true;  // their pages were given back, and nothing was received or sent since

  Budget receive_quota_;  // bounds receives posted + retained by the owner
  SlabRef headers_;       // one 32-byte header per SEND in flight, used in turn
  uint64_t sends_posted_ = 0;
  uint64_t sends_done_ = 0;

  Ring<SlabRef> receives_;  // posted, in order
  MessageQueue messages_;
  RdmaQueues rdma_;

  bool established_ = false;
  bool closing_ = false;  // no more work; waiting for the fabric's on_closed()
  bool clean_ = true;
  bool disconnect_when_sent_ = false;
  bool pumping_ = false;
  std::string close_reason_;
  std::unique_ptr<fabric::Endpoint> endpoint_;  // last: dies first
};

}  // namespace smbdirect::workers
