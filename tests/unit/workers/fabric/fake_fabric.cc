// SPDX-License-Identifier: MIT
#include "tests/unit/workers/fabric/fake_fabric.h"

#include <cstring>
#include <utility>

namespace smbdirect::workers::fake {

FakeEndpoint::FakeEndpoint(fabric::Handler& handler, uint32_t max_work, uint32_t max_sge)
    : handler_(handler), attributes_{max_work, 1024, max_sge, 4, false, true} {}

FakeEndpoint::~FakeEndpoint() {
  if (peer_ != nullptr) peer_->peer_ = nullptr;
  if (known_as_ != nullptr) *known_as_ = nullptr;
}

std::expected<void, PostError> FakeEndpoint::post_receive(uint64_t id, Sge into) {
  receives_.push_back({id, into});
  return {};
}

std::expected<void, PostError> FakeEndpoint::post_send(uint64_t id, std::span<const Sge> pieces,
                                                       const uint32_t* invalidate) {
  return post({id,
               Op::send,
               {pieces.begin(), pieces.end()},
               {},
               invalidate ? std::optional(*invalidate) : std::nullopt});
}

std::expected<void, PostError> FakeEndpoint::post_write(uint64_t id, std::span<const Sge> pieces,
                                                        RemoteMemory to) {
  return post({id, Op::rdma_write, {pieces.begin(), pieces.end()}, to, std::nullopt});
}

std::expected<void, PostError> FakeEndpoint::post_read(uint64_t id, Sge into, RemoteMemory from) {
  return post({id, Op::rdma_read, {into}, from, std::nullopt});
}

std::expected<RemoteMemory, PostError> FakeEndpoint::expose(std::span<std::byte> memory, Access access) {
  const uint32_t token = next_token_++;
  exposed_[token] = {memory, access};
  return RemoteMemory{0x1000, token};
}

void FakeEndpoint::unexpose(uint32_t token) { exposed_.erase(token); }

void FakeEndpoint::abort() {
  closing_ = true;
  lingers = false;
  work_.clear();
  rung_ = 0;
}

bool FakeEndpoint::step() {
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

void FakeEndpoint::inject(std::span<const std::byte> bytes) {
  REQUIRE(!peer_->receives_.empty());
  const Receive receive = peer_->receives_.front();
  peer_->receives_.pop_front();
  std::memcpy(receive.into.addr, bytes.data(), bytes.size());
  peer_->complete({receive.id, Op::receive, static_cast<uint32_t>(bytes.size()), false, 0});
}

std::expected<void, PostError> FakeEndpoint::post(Work work) {
  if (closed_ || closing_) return std::unexpected(PostError::closed);
  if (refuses.contains(work.op)) return std::unexpected(refuses[work.op]);
  REQUIRE(work.pieces.size() <= attributes_.max_send_sge);
  REQUIRE(send_room() > 0);
  work_.push_back(std::move(work));
  return {};
}

void FakeEndpoint::close(const Close& why) {
  if (closed_) return;
  closed_ = true;
  handler_.on_closed(why);
}

void FakeEndpoint::carry_out(const Work& work) {
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

}  // namespace smbdirect::workers::fake
