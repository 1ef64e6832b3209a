// SPDX-License-Identifier: MIT
// A session's exchange with a native peer (protocol/proxy/frames.h): SMB2 messages pass both ways as they
// are, cut through from the receive buffers and from the slabs they were read into, and the peer moves data
// between the client's memory and the data area by RDMA. Owned by one session, one thread; it owns the
// worker's mapping of the data area, which stays while RDMA may touch it.
//
// The peer is not trusted: what it sends is checked, and an error ends only this channel.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/contract/worker_config.h"
#include "protocol/proxy/frames.h"
#include "shm/base/connection_id.h"
#include "workers/native/peers.h"
#include "workers/session/context.h"
#include "workers/session/exchange.h"
#include "workers/session/pump_stream.h"
#include "workers/stream/reader.h"

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

class NativeExchange final : public Exchange, private StreamOwner {
 public:
  /// areas: the worker's budget of bytes in data areas. peers: outlives the exchange.
  NativeExchange(SessionContext& context, const daemon::WorkerConfig& config, Budget& areas, Peers& peers)
      : context_(context),
        config_(config),
        areas_(areas),
        peers_(peers),
        outbox_(context.budget),
        reader_(context.slabs, context.budget) {}

  void on_fragment(const Fragment& fragment) override;
  void on_read_done(uint64_t cookie) override;
  void on_writes_done(uint64_t count) override;
  void resume() override {}
  [[nodiscard]] bool stalled() const override { return false; }
  [[nodiscard]] Outbox& outbox() override { return outbox_; }
  [[nodiscard]] bool unfinished() const override { return in_message_ || !outbox_.empty(); }
  [[nodiscard]] State pump(int fd) override;
  void trim() override { reader_.trim(); }

  [[nodiscard]] shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest request) override;
  void attached(uint32_t process) override;
  void detached() override { peers_.ended(connection_); }
  [[nodiscard]] const Names& names() const override {
    static constexpr Names kNames{.server = "the server", .stream = "channel", .unreachable = ""};
    return kNames;
  }
  /// The socket of another channel, for the process that this one is with. False: not through this one now.
  [[nodiscard]] bool pass_channel(shm::UniqueFd& socket);

 private:
  /// An RDMA_READ or RDMA_WRITE without its DONE. Each kind ends in the order it was asked for.
  struct Pending {
    uint64_t id{};
    uint64_t last{};  // the number of its last piece
  };
  struct Waiting {
    proxy::FrameHeader header;
    shm::UniqueFd descriptor;
  };
  enum class Mode : uint8_t { header, body, look, pass };

  void gather_negotiate(const Fragment& fragment);
  void say(const proxy::FrameHeader& header, shm::UniqueFd descriptor = {});
  void finish(Ring<Pending>& list, uint64_t done);
  bool step();
  bool take_header();
  bool take_body();
  void look_at_reply();
  bool begin_reply(std::span<const std::byte> tokens);
  bool begin_operation(std::span<const std::byte> body);
  void pass_some();
  std::optional<State> process() override;
  [[nodiscard]] bool between_messages() const override;
  void stream_broken(std::string what) override;
  [[nodiscard]] bool crowded() const;
  bool broken(std::string why);
  bool broken(proxy::FrameError error);

  SessionContext& context_;
  const daemon::WorkerConfig& config_;
  Budget& areas_;
  Peers& peers_;
  shm::ConnectionId connection_{};  // once its client has said who it is
  SlabRef area_;

  // To the peer.
  Outbox outbox_;
  std::vector<std::byte> negotiate_;  // the client's first message, while it arrives
  bool negotiated_ = false;
  bool in_message_ = false;     // the outbox ends in the middle of a message
  Ring<Waiting> waiting_;       // frames of ours, until it does not
  bool channel_waits_ = false;  // a CHANNEL is among them

  // From the peer.
  StreamReader reader_;
  Mode mode_ = Mode::header;
  proxy::FrameHeader header_;
  uint64_t left_ = 0;   // of the reply
  pid_t sender_ = 0;    // of what was read last
  pid_t attached_ = 0;  // the process that serves, once another than the first has said so
  uint32_t attached_again_ = 0;
  std::vector<std::byte> scratch_;
  proxy::Operation operation_;
  Ring<Pending> reads_;
  Ring<Pending> writes_;
  uint64_t reads_asked_ = 0;
  uint64_t writes_asked_ = 0;
  uint64_t writes_done_ = 0;
  bool broken_ = false;
};

}  // namespace smbdirect::workers
