// SPDX-License-Identifier: MIT
// SMB2 over TCP with 4-byte length words (MS-SMB2 2.1). Bodies of READ responses are read straight into
// their buffer, and writes are gathered: nothing large is copied in userspace.
#pragma once

#include <array>
#include <memory>
#include <netinet/in.h>
#include <optional>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "tests/bench/link.h"
#include "workers/memory/ring.h"

namespace smbdirect::tests::bench {

class TcpLink final : public Link {
 public:
  TcpLink(uv_loop_t& loop, const sockaddr_in& to, Owner& owner);

  void start() override;
  void send(std::span<const std::byte> head, std::span<const std::byte> payload) override;
  void flush() override;
  std::optional<Exposed> expose(std::span<std::byte>, Access) override { return std::nullopt; }
  void unexpose(uint32_t) override {}
  void close() override;

 private:
  static constexpr size_t kMostHead = 512;     // our requests, payload excluded
  static constexpr size_t kStageBytes = 4096;  // read at once when no body is being placed
  struct Request {
    std::array<std::byte, kMostHead> head{};
    size_t head_size = 0;
    std::span<const std::byte> payload;
    size_t sent = 0;
  };

  void on_events(int events, int status);
  void read_some();
  /// Takes PDUs out of the stage; false when the stream is broken.
  bool parse();
  void want();
  void end(const std::string& why, bool clean);

  uv_loop_t& loop_;
  sockaddr_in to_;
  Owner& owner_;
  shm::Watched<shm::UniqueFd> socket_;
  shm::Deferred deferred_end_;
  std::string end_why_;
  bool end_clean_ = false;
  bool connecting_ = false;
  bool ended_ = false;

  workers::Ring<Request> requests_{64};
  std::array<std::byte, kStageBytes> stage_{};
  size_t staged_ = 0;
  std::span<std::byte> body_;  // still to be filled
  bool in_body_ = false;
};

}  // namespace smbdirect::tests::bench
