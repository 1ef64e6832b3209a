// SPDX-License-Identifier: MIT
// SMB2 over SMB Direct in this process: the transport's active role on the iwarp fabric.
#pragma once

#include <memory>
#include <netinet/in.h>
#include <optional>

#include <uv.h>

#include "shm/loop/loop.h"
#include "tests/bench/link.h"
#include "workers/memory/slab.h"
#include "workers/transport/transport.h"

namespace smbdirect::tests::bench {

class SmbDirectLink final : public Link, private workers::Transport::Owner {
 public:
  /// Memory that outlives every link of a run, as a client keeps it.
  struct Memory {
    static constexpr uint32_t kReceiveSize = 8192;
    static constexpr uint32_t kHeaderSize = 4096;
    workers::Budget budget{256u << 20};
    workers::Arena arena;
    workers::SlabPool receive_pool{arena, kReceiveSize};
    workers::SlabPool header_pool{arena, kHeaderSize};
    workers::SlabPool request_pool{arena, 512};
  };

  SmbDirectLink(uv_loop_t& loop, const sockaddr_in& to, bool crc, Memory& memory, Link::Owner& owner);

  void start() override;
  void send(std::span<const std::byte> head, std::span<const std::byte> payload) override;
  void flush() override { transport_->pump(); }
  std::optional<Exposed> expose(std::span<std::byte> memory, Access access) override;
  void unexpose(uint32_t token) override { transport_->unexpose(token); }
  void close() override { transport_->disconnect("closed"); }

  [[nodiscard]] workers::Counters counters() const { return transport_->counters(); }

 private:
  void on_negotiated() override { owner_.on_ready(); }
  void on_fragment(workers::Fragment fragment) override;
  void on_read_done(uint64_t) override {}
  void on_invalidated(uint32_t) override {}
  void on_progress() override {}
  void on_closed(const std::string& why, bool clean) override { owner_.on_closed(why, clean); }

  uv_loop_t& loop_;
  sockaddr_in to_;
  bool crc_;
  Memory& memory_;
  Link::Owner& owner_;
  std::string connect_error_;
  shm::Deferred failed_;

  // The PDU being received.
  std::array<std::byte, kHeadBytes> head_{};
  size_t head_have_ = 0;
  size_t head_size_ = 0;
  uint64_t rest_ = 0;
  bool announced_ = false;
  std::span<std::byte> sink_;

  std::unique_ptr<workers::Transport> transport_;  // last: dies first
};

}  // namespace smbdirect::tests::bench
