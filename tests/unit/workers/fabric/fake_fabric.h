// SPDX-License-Identifier: MIT
// A fabric for tests: two endpoints joined in memory, moving one unit of work at a time when the test says
// so, and holding its users to the seam's rules (fabric.h). Single-threaded.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "workers/fabric/fabric.h"

namespace smbdirect::workers::fake {

using fabric::Access;
using fabric::Close;
using fabric::Completion;
using fabric::Op;
using fabric::PostError;
using fabric::RemoteMemory;
using fabric::Sge;

class FakeEndpoint final : public fabric::Endpoint {
 public:
  explicit FakeEndpoint(fabric::Handler& handler, uint32_t max_work = 64, uint32_t max_sge = 4)
      : handler_(handler), attributes_{max_work, 1024, max_sge, 4, false, true} {}

  static void join(FakeEndpoint& a, FakeEndpoint& b) {
    a.peer_ = &b;
    b.peer_ = &a;
  }
  ~FakeEndpoint() override {
    if (peer_ != nullptr) peer_->peer_ = nullptr;
    if (known_as_ != nullptr) *known_as_ = nullptr;
  }
  /// `pointer` points to this for as long as there is this.
  void known_as(FakeEndpoint*& pointer) {
    pointer = this;
    known_as_ = &pointer;
  }

  void start() override { started = true; }
  std::expected<void, PostError> post_receive(uint64_t id, Sge into) override {
    receives_.push_back({id, into});
    return {};
  }
  std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                           const uint32_t* invalidate) override {
    return post({id,
                 Op::send,
                 {pieces.begin(), pieces.end()},
                 {},
                 invalidate ? std::optional(*invalidate) : std::nullopt});
  }
  std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces,
                                            RemoteMemory to) override {
    return post({id, Op::rdma_write, {pieces.begin(), pieces.end()}, to, std::nullopt});
  }
  std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from) override {
    return post({id, Op::rdma_read, {into}, from, std::nullopt});
  }
  void ring() override { rung_ = work_.size(); }
  void ring_now() override {
    ++rung_now;
    ring();
  }
  [[nodiscard]] uint32_t send_room() const override {
    return attributes_.max_send_work - static_cast<uint32_t>(work_.size());
  }
  std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access) override {
    const uint32_t token = next_token_++;
    exposed_[token] = {memory, access};
    return RemoteMemory{0x1000, token};
  }
  void unexpose(uint32_t token) override { exposed_.erase(token); }
  void disconnect() override { closing_ = true; }
  void abort() override {
    closing_ = true;
    lingers = false;
    work_.clear();
    rung_ = 0;
  }
  [[nodiscard]] const fabric::Attributes& attributes() const override { return attributes_; }
  [[nodiscard]] const fabric::Traffic& traffic() const override { return traffic_; }
  [[nodiscard]] fabric::Progress progress() const override { return progress_now; }
  [[nodiscard]] std::string_view description() const override { return "fake"; }

  /// Carries out one posted unit of work, if any was rung. True when something happened.
  bool step() {
    if (!started || closed_) return false;
    if (rung_ > 0 && peer_ != nullptr && !peer_->closed_) {
      const Work work = work_.front();
      work_.pop_front();
      --rung_;
      carry_out(work);
      return true;
    }
    if (closing_ && !lingers) {
      close({fabric::CloseCause::local, "closed here"});
      if (peer_ != nullptr) peer_->close({fabric::CloseCause::peer_closed, "closed by the peer"});
      return true;
    }
    return false;
  }
  /// Delivers bytes to the peer as a SEND that our user knows nothing of.
  void inject(std::span<const std::byte> bytes) {
    REQUIRE(!peer_->receives_.empty());
    const Receive receive = peer_->receives_.front();
    peer_->receives_.pop_front();
    std::memcpy(receive.into.addr, bytes.data(), bytes.size());
    peer_->complete({receive.id, Op::receive, static_cast<uint32_t>(bytes.size()), false, 0});
  }
  void establish() { handler_.on_established(); }
  /// Its peer has vanished.
  void lose() { close({fabric::CloseCause::peer_reset, "the peer has vanished"}); }
  [[nodiscard]] size_t receives_posted() const { return receives_.size(); }
  /// The memory of the i-th of them, the oldest first.
  [[nodiscard]] std::span<std::byte> posted(size_t i) const {
    return {receives_[i].into.addr, receives_[i].into.length};
  }
  [[nodiscard]] size_t exposed() const { return exposed_.size(); }
  [[nodiscard]] bool closed() const { return closed_; }

  struct Work {
    uint64_t id{};
    Op op{};
    std::vector<Sge> pieces;
    RemoteMemory remote;
    std::optional<uint32_t> invalidate;
  };
  /// Posted and not carried out yet.
  [[nodiscard]] const std::deque<Work>& work() const { return work_; }

  void send_files() { attributes_.sends_files = true; }

  uint64_t rung_now = 0;  // calls
  bool started = false;
  bool lingers = false;             // disconnect() comes to no end, for the peer does not close
  fabric::Progress progress_now;    // what progress() says
  std::map<Op, PostError> refuses;  // what is not taken, whatever room there is

 private:
  struct Receive {
    uint64_t id{};
    Sge into;
  };
  struct Exposed {
    std::span<std::byte> memory;
    Access access{};
  };

  std::expected<void, PostError> post(Work work) {
    if (closed_ || closing_) return std::unexpected(PostError::closed);
    if (refuses.contains(work.op)) return std::unexpected(refuses[work.op]);
    REQUIRE(work.pieces.size() <= attributes_.max_send_sge);
    REQUIRE(send_room() > 0);
    work_.push_back(std::move(work));
    return {};
  }
  void close(const Close& why) {
    if (closed_) return;
    closed_ = true;
    handler_.on_closed(why);
  }
  void complete(const Completion& completion) { handler_.on_completions(std::span(&completion, 1)); }

  void carry_out(const Work& work) {
    std::vector<std::byte> bytes;
    if (work.op != Op::rdma_read) {
      for (const Sge& piece : work.pieces) bytes.insert(bytes.end(), piece.addr, piece.addr + piece.length);
    }
    switch (work.op) {
      case Op::send: {
        REQUIRE_MESSAGE(!peer_->receives_.empty(), "a SEND found no posted receive");
        const Receive receive = peer_->receives_.front();
        peer_->receives_.pop_front();
        REQUIRE(bytes.size() <= receive.into.length);
        std::memcpy(receive.into.addr, bytes.data(), bytes.size());
        Completion there{receive.id, Op::receive, static_cast<uint32_t>(bytes.size()), false, 0};
        if (work.invalidate) {
          REQUIRE(peer_->exposed_.erase(*work.invalidate) == 1);
          there.invalidated = true;
          there.invalidated_token = *work.invalidate;
        }
        complete({work.id, Op::send, 0, false, 0});
        if (peer_ != nullptr) peer_->complete(there);
        return;
      }
      case Op::rdma_write: {
        const Exposed& at = peer_->exposed_.at(work.remote.token);
        REQUIRE(at.access == Access::remote_write);
        const uint64_t from = work.remote.offset - 0x1000;
        REQUIRE(from + bytes.size() <= at.memory.size());
        std::memcpy(at.memory.data() + from, bytes.data(), bytes.size());
        traffic_.write_bytes += bytes.size();
        return complete({work.id, Op::rdma_write, static_cast<uint32_t>(bytes.size()), false, 0});
      }
      case Op::rdma_read: {
        const Exposed& at = peer_->exposed_.at(work.remote.token);
        REQUIRE(at.access == Access::remote_read);
        const uint64_t from = work.remote.offset - 0x1000;
        const Sge& into = work.pieces.front();
        REQUIRE(from + into.length <= at.memory.size());
        std::memcpy(into.addr, at.memory.data() + from, into.length);
        traffic_.read_bytes += into.length;
        return complete({work.id, Op::rdma_read, into.length, false, 0});
      }
      case Op::receive:
        break;
    }
  }

  fabric::Handler& handler_;
  FakeEndpoint** known_as_ = nullptr;
  FakeEndpoint* peer_ = nullptr;
  fabric::Attributes attributes_;
  fabric::Traffic traffic_;
  std::deque<Receive> receives_;
  std::deque<Work> work_;
  size_t rung_ = 0;
  std::map<uint32_t, Exposed> exposed_;
  uint32_t next_token_ = 7;
  bool closing_ = false;
  bool closed_ = false;
};

}  // namespace smbdirect::workers::fake
