// SPDX-License-Identifier: MIT
// A fabric for property tests: an endpoint of little room whose completions come when, and between the kinds
// in what order, the test says. What was rung is at the peer at once; the peer is the test's.
// Single-threaded.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "workers/fabric/fabric.h"

namespace smbdirect::workers::fake {

class SmallRoomEndpoint final : public fabric::Endpoint {
 public:
  using Bytes = std::vector<std::byte>;
  struct Peer {
    std::function<void(Bytes message, std::optional<uint32_t> invalidate)> on_send;
    std::function<void(const Bytes& data, fabric::RemoteMemory to)> on_write;
    std::function<Bytes(fabric::RemoteMemory from, uint32_t length)> read;
    /// A rule of the seam (fabric.h) or of the test's is broken.
    std::function<void(const char* what)> fail;
    std::function<void()> destroyed{};  // by its user
  };

  SmallRoomEndpoint(fabric::Handler& handler, uint32_t room, uint32_t sges, uint32_t receives, Peer peer)
      : handler_(handler), attributes_{room, receives, sges, 4, false, true}, peer_(std::move(peer)) {}
  ~SmallRoomEndpoint() override {
    if (peer_.destroyed) peer_.destroyed();
  }

  void start() override {}
  std::expected<void, fabric::PostError> post_receive(uint64_t id, fabric::Sge into) override {
    step();
    if (receives_.size() >= attributes_.max_receive_work)
      return std::unexpected(fabric::PostError::queue_full);
    receives_.push_back({id, into});
    return {};
  }
  std::expected<void, fabric::PostError> post_send(uint64_t id, std::span<const fabric::Sge> pieces,
                                                   const uint32_t* invalidate) override {
    return post({id,
                 fabric::Op::send,
                 {pieces.begin(), pieces.end()},
                 {},
                 invalidate != nullptr ? std::optional(*invalidate) : std::nullopt});
  }
  std::expected<void, fabric::PostError> post_write(uint64_t id, std::span<const fabric::Sge> pieces,
                                                    fabric::RemoteMemory to) override {
    return post({id, fabric::Op::rdma_write, {pieces.begin(), pieces.end()}, to, std::nullopt});
  }
  std::expected<void, fabric::PostError> post_read(uint64_t id, fabric::Sge into,
                                                   fabric::RemoteMemory from) override {
    return post({id, fabric::Op::rdma_read, {into}, from, std::nullopt});
  }
  void ring() override {
    step();
    ++rings;
    if (gone()) return;
    while (!posted_.empty()) {
      Work work = std::move(posted_.front());
      posted_.pop_front();
      auto& queue = under_way_[index(work.op)];
      if (work.op == fabric::Op::rdma_read) {
        queue.push_back(std::move(work));
        continue;
      }
      Bytes bytes;
      for (const fabric::Sge& piece : work.pieces)
        bytes.insert(bytes.end(), piece.addr, piece.addr + piece.length);
      const fabric::RemoteMemory remote = work.remote;
      const auto invalidate = work.invalidate;
      const bool send = work.op == fabric::Op::send;
      queue.push_back(std::move(work));
      if (send) {
        peer_.on_send(std::move(bytes), invalidate);
      } else {
        peer_.on_write(bytes, remote);
      }
    }
  }
  [[nodiscard]] uint32_t send_room() const override {
    const_cast<SmallRoomEndpoint*>(this)->step();
    return attributes_.max_send_work - outstanding();
  }
  std::expected<fabric::RemoteMemory, fabric::PostError> expose(std::span<std::byte> /*memory*/,
                                                                fabric::Access /*access*/) override {
    return std::unexpected(fabric::PostError::closed);
  }
  void unexpose(uint32_t /*token*/) override {}
  void disconnect() override {
    ring();
    closing = true;
  }
  void abort() override {
    aborted = true;
    posted_.clear();
  }
  [[nodiscard]] const fabric::Attributes& attributes() const override { return attributes_; }
  [[nodiscard]] const fabric::Traffic& traffic() const override { return traffic_; }
  [[nodiscard]] fabric::Progress progress() const override {
    return {.reading = !gone() && waits(fabric::Op::rdma_read) > 0,
            .receiving = false,
            .sending = !gone() && waits(fabric::Op::send) + waits(fabric::Op::rdma_write) > 0,
            .read = done_[index(fabric::Op::rdma_read)],
            .received = received_,
            .acknowledged = done_[index(fabric::Op::send)] + done_[index(fabric::Op::rdma_write)]};
  }
  [[nodiscard]] std::string_view description() const override { return "small room"; }

  // --- the test's side ---
  void establish() { handler_.on_established(); }
  [[nodiscard]] bool gone() const { return closing || aborted || closed; }
  [[nodiscard]] size_t receives_posted() const { return receives_.size(); }
  [[nodiscard]] size_t waits(fabric::Op op) const { return under_way_[index(op)].size(); }
  [[nodiscard]] uint32_t outstanding() const {
    size_t all = posted_.size();
    for (const auto& queue : under_way_) all += queue.size();
    return static_cast<uint32_t>(all);
  }
  /// The oldest of the kind is done; a READ has its data first. False when none is under way.
  bool complete(fabric::Op op) {
    auto& queue = under_way_[index(op)];
    if (queue.empty() || aborted || closed) return false;
    const Work work = std::move(queue.front());
    queue.pop_front();
    uint32_t bytes = 0;
    if (op == fabric::Op::rdma_read) {
      const fabric::Sge& into = work.pieces.front();
      const Bytes data = peer_.read(work.remote, into.length);
      std::ranges::copy(std::span(data).first(into.length), into.addr);
      bytes = into.length;
    }
    ++done_[index(op)];
    deliver({work.id, op, bytes, false, 0});
    return true;
  }
  /// The peer's SEND.
  void receive(std::span<const std::byte> message) {
    if (gone()) return;
    if (receives_.empty()) return peer_.fail("a credit was granted and no receive is posted");
    const Receive receive = receives_.front();
    receives_.pop_front();
    if (message.size() > receive.into.length) return peer_.fail("a receive shorter than what was negotiated");
    std::ranges::copy(message, receive.into.addr);
    if (message.size() > 20) received_ += message.size();  // not those without data (fabric.h)
    deliver({receive.id, fabric::Op::receive, static_cast<uint32_t>(message.size()), false, 0});
  }
  /// The connection's end; work that is not done is gone.
  void close(fabric::CloseCause cause) {
    if (closed) return;
    closed = true;
    handler_.on_closed({cause, "closed by the test"});
  }
  /// Calls of this endpoint that the test allows before it looks again.
  void allow(uint64_t calls) { calls_left_ = calls; }

  bool closing = false;
  bool aborted = false;
  bool closed = false;
  uint64_t rings = 0;

 private:
  struct Receive {
    uint64_t id{};
    fabric::Sge into;
  };
  struct Work {
    uint64_t id{};
    fabric::Op op{};
    std::vector<fabric::Sge> pieces;
    fabric::RemoteMemory remote;
    std::optional<uint32_t> invalidate;
  };
  static size_t index(fabric::Op op) { return static_cast<size_t>(op); }

  std::expected<void, fabric::PostError> post(Work work) {
    step();
    if (gone()) return std::unexpected(fabric::PostError::closed);
    if (outstanding() >= attributes_.max_send_work) return std::unexpected(fabric::PostError::queue_full);
    if (work.pieces.size() > attributes_.max_send_sge) {
      peer_.fail("more pieces than the endpoint takes");
      return std::unexpected(fabric::PostError::too_many_sges);
    }
    posted_.push_back(std::move(work));
    return {};
  }
  void deliver(const fabric::Completion& completion) { handler_.on_completions(std::span(&completion, 1)); }
  /// A loop that never comes back cannot be told of in any other way.
  void step() {
    if (calls_left_-- > 0) return;
    peer_.fail("the loop does not come back: work without a bound");
    std::abort();
  }

  fabric::Handler& handler_;
  fabric::Attributes attributes_;
  Peer peer_;
  fabric::Traffic traffic_;
  std::deque<Receive> receives_;
  std::deque<Work> posted_;
  std::deque<Work> under_way_[4];
  uint64_t done_[4] = {};
  uint64_t received_ = 0;
  uint64_t calls_left_ = UINT64_MAX;
};

}  // namespace smbdirect::workers::fake
