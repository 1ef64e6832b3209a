// SPDX-License-Identifier: MIT
// A fabric for tests: two endpoints joined in memory, moving one unit of work at a time when the test says
// so, and holding its users to the seam's rules (fabric.h). Single-threaded.
#pragma once

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
  explicit FakeEndpoint(fabric::Handler& handler, uint32_t max_work = 64, uint32_t max_sge = 4);

  static void join(FakeEndpoint& a, FakeEndpoint& b) {
    a.peer_ = &b;
    b.peer_ = &a;
  }
  ~FakeEndpoint() override;
  /// `pointer` points to this for as long as there is this.
  void known_as(FakeEndpoint*& pointer) {
    pointer = this;
    known_as_ = &pointer;
  }

  void start() override { started = true; }
  std::expected<void, PostError> post_receive(uint64_t id, Sge into) override;
  std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                           const uint32_t* invalidate) override;
  std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces,
                                            RemoteMemory to) override;
  std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from) override;
  void ring() override { rung_ = work_.size(); }
  void ring_now() override {
    ++rung_now;
    ring();
  }
  [[nodiscard]] uint32_t send_room() const override {
    return attributes_.max_send_work - static_cast<uint32_t>(work_.size());
  }
  std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access) override;
  void unexpose(uint32_t token) override;
  void disconnect() override { closing_ = true; }
  void abort() override;
  [[nodiscard]] const fabric::Attributes& attributes() const override { return attributes_; }
  [[nodiscard]] const fabric::Traffic& traffic() const override { return traffic_; }
  [[nodiscard]] fabric::Progress progress() const override { return progress_now; }
  [[nodiscard]] std::string_view description() const override { return "fake"; }

  /// Carries out one posted unit of work, if any was rung. True when something happened.
  bool step();
  /// Delivers bytes to the peer as a SEND that our user knows nothing of.
  void inject(std::span<const std::byte> bytes);
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

  std::expected<void, PostError> post(Work work);
  void close(const Close& why);
  void complete(const Completion& completion) { handler_.on_completions(std::span(&completion, 1)); }

  void carry_out(const Work& work);

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
