// SPDX-License-Identifier: MIT
// A whole session between a client and an smbd that the input drives: the session's real code, a fabric of
// small room (tests/unit/workers/fabric/small_room_fabric.h), a socket pair to smbd, and a clock that the
// input moves. What must hold whatever they do is checked here; a broken rule ends the process.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/smbdirect/messages.h"
#include "shm/base/log.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/shm/connection_literal.h"
#include "tests/unit/workers/fabric/small_room_fabric.h"
#include "tests/unit/workers/fake_clock.h"
#include "workers/session/session.h"
#include "workers/smbd/smbd_exchange.h"

namespace smbdirect::workers::session_fuzz {

using smb2_test::Bytes;
using smb_direct::DataTransfer;

/// The rest of the input, taken from the front; zeros when it is used up.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : left_(data, size) {}
  [[nodiscard]] bool empty() const { return left_.empty(); }
  uint8_t byte() {
    if (left_.empty()) return 0;
    const uint8_t value = left_.front();
    left_ = left_.subspan(1);
    return value;
  }
  uint32_t word() { return byte() | uint32_t{byte()} << 8U; }
  uint32_t below(uint32_t bound) { return word() % bound; }
  /// Small mostly, large sometimes.
  uint32_t size(uint32_t most) {
    const uint32_t w = word();
    return std::min(most, w < 0xC000 ? w % 512 : w < 0xF000 ? w : w * 16);
  }
  Bytes bytes(size_t count) {
    Bytes out;
    for (size_t i = 0; i < count && !left_.empty(); ++i) out.push_back(std::byte{byte()});
    return out;
  }

 private:
  std::span<const uint8_t> left_;
};

[[noreturn]] inline void broken(const char* what) {
  std::fprintf(stderr, "session: %s\n", what);
  std::fflush(stderr);
  std::abort();
}
inline void require(bool holds, const char* what) {
  if (!holds) broken(what);
}

/// smbd's place: connected when the input says so.
class Attempt final : public Upstream {
 public:
  Attempt(Attempt*& here, Done& done) : here_(here), done_(done) { here_ = this; }
  ~Attempt() override {
    if (here_ == this) here_ = nullptr, done_ = nullptr;
  }
  void start(Done done) override { done_ = std::move(done); }

 private:
  Attempt*& here_;
  Done& done_;
};

class Rig {
 public:
  static constexpr uint64_t kMostCalls = 400'000;
  static constexpr uint64_t kTurnsPerSecond = 200;

  explicit Rig(Choices& choices) {
    shm::log::configure(shm::log::Level::error, "session_fuzz");
    uv_loop_init(&loop_);
    config_.receive_credit_initial = static_cast<uint16_t>(2 + choices.below(14));
    config_.receive_credit_max = static_cast<uint16_t>(config_.receive_credit_initial + choices.below(32));
    config_.max_receive_size = config_.max_send_size = 128 + choices.below(900);
    config_.max_fragmented_size = 131'072 + 65'536 * choices.below(8);
    config_.max_read_write_size = 65'536 * (1 + choices.below(8));
    config_.buffered_bytes_per_connection = 1 << 20;
    config_.buffered_bytes_per_worker = (1 << 20) * (1 + choices.below(4));
    memory_.emplace(loop_, config_.buffered_bytes_per_worker, config_.ipv6_prefix_length);
    resources_.emplace(SessionResources{
        loop_, config_, slabs_, receives_, headers_, *memory_,
        [this](SessionContext& context) { return std::make_unique<SmbdExchange>(context, connect_); },
        [](shm::ConnectionId, const smb2::Guid&) {}, [](shm::ConnectionId, uint32_t) {},
        [](shm::ConnectionId) {}, [](shm::ConnectionId) {}, [](const std::string&) {}});
    session_ = std::make_unique<Session>(*resources_, Session::Client{1_c, {}, {}, "fuzz"},
                                         [this](const std::string& why, bool) {
                                           if (std::getenv("SESSION_WHY") != nullptr)
                                             std::fprintf(stderr, "ended: %s\n", why.c_str());
                                           require(!ended_, "ended twice");
                                           ended_ = true;
                                         });
    const uint32_t room = 2 + choices.below(30);
    const uint32_t sges = 2 + choices.below(6);
    require(session_->start([&](fabric::Handler& handler) {
      auto made = std::make_unique<fake::SmallRoomEndpoint>(
          handler, room, sges, 512,
          fake::SmallRoomEndpoint::Peer{
              [this](Bytes m, auto) { from_session_.push_back(std::move(m)); }, [](const Bytes&, auto) {},
              [](auto from, uint32_t length) { return smb2_test::pattern(length, from.token); },
              [](const char* what) { broken(what); }, [this] { end_ = nullptr; }});
      end_ = made.get();
      return made;
    }),
            "the session starts");
    end_->establish();
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    session_.reset();
    close_smbd();
    for (int i = 0; i < 3; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
    require(memory_->held().used() == 0, "memory is still charged after the end");
    require(slabs_.slabs_in_use() + receives_.slabs_in_use() + headers_.slabs_in_use() == 0,
            "slabs after the end");
    memory_.reset();
    for (int i = 0; i < 3; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
    require(uv_loop_close(&loop_) == 0, "handles are left after the end");
  }

  // --- time ---
  void turn() {
    allow();
    for (int i = 0; i < 2; ++i) {
      uv_run(&loop_, UV_RUN_NOWAIT);
      if (end_ != nullptr && end_->gone()) close(fabric::CloseCause::local);
    }
    take();
    check();
  }
  void wait(uint64_t ms) {
    clock_.advance(ms);
    turn();
  }
  /// Nothing comes from outside any more, for `ms` at most: the session must end, and rest meanwhile.
  void vanish(uint64_t ms) {
    uint64_t turns = 0;
    for (uint64_t passed = 0; passed < ms && !ended_; ++turns) {
      const int timeout = uv_backend_timeout(&loop_);
      const uint64_t step =
          std::clamp<uint64_t>(timeout < 0 ? 10'000 : static_cast<uint64_t>(timeout), 1, 10'000);
      passed += step;
      wait(step);
      require(turns < 2'000 + kTurnsPerSecond * passed / 1000, "the loop turns and nothing moves");
    }
    require(ended_, "a session whose client has vanished is never ended");
  }
  [[nodiscard]] bool over() const { return ended_; }

  // --- the client ---
  /// What is said next, in fragments, as credits allow.
  void queue(Bytes pdu) {
    if (!pdu.empty() && to_say_.size() < 64) to_say_.push_back(std::move(pdu));
  }
  /// One data message of the client's, within the rules.
  void say(uint32_t grant, uint32_t most) {
    grant = std::min<uint32_t>(grant, 200 - granted_);
    if (!negotiated_ || credits_ == 0 || (credits_ == 1 && grant == 0)) return;
    DataTransfer head{.credits_requested = 64, .credits_granted = static_cast<uint16_t>(grant)};
    std::span<const std::byte> part;
    if (!to_say_.empty()) {
      const std::span<const std::byte> rest = std::span<const std::byte>(to_say_.front()).subspan(said_);
      part =
          rest.first(std::min<size_t>({rest.size(), most_ - DataTransfer::kDataOffset, std::max(1U, most)}));
      head.data_offset = DataTransfer::kDataOffset;
      head.data_length = static_cast<uint32_t>(part.size());
      head.remaining_data_length = static_cast<uint32_t>(rest.size() - part.size());
    }
    const auto header = smb_direct::encode(head);
    Bytes message(header.begin(),
                  header.begin() + (part.empty() ? DataTransfer::kHeaderSize : DataTransfer::kDataOffset));
    message.insert(message.end(), part.begin(), part.end());
    said_ += part.size();
    if (!to_say_.empty() && said_ == to_say_.front().size()) {
      to_say_.pop_front();
      said_ = 0;
    }
    granted_ += grant;
    --credits_;
    send_raw(message);
  }
  void say_all() {
    for (int i = 0; i < 300 && !to_say_.empty() && credits_ > 0 && !ended_; ++i) say(200, UINT32_MAX);
  }
  /// Any bytes, as long as there is a receive for them: the fabric ends what has none.
  void send_raw(std::span<const std::byte> message) {
    if (end_ == nullptr || end_->gone()) return;
    if (end_->receives_posted() == 0) return close(fabric::CloseCause::protocol_error);
    allow();
    end_->receive(
        message.first(std::min<size_t>(message.size(), std::max<size_t>(512, config_.max_receive_size))));
  }
  void complete(fabric::Op op, uint32_t count) {
    for (; count > 0 && end_ != nullptr; --count) end_->complete(op);
  }
  void close(fabric::CloseCause cause) {
    if (end_ != nullptr) end_->close(cause);
  }
  void negotiate() {
    const smb_direct::NegotiateRequest request{0x0100, 0x0100, 64, 512, 512, 1 << 20};
    send_raw(smb_direct::encode(request));
    turn();
  }

  // --- smbd ---
  [[nodiscard]] bool wanted() const { return attempt_ != nullptr && done_ != nullptr; }
  void connect(bool well) {
    if (!wanted()) return;
    auto done = std::move(done_);
    done_ = nullptr;
    int pair[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0, "a socket pair");
    const int small = 4096;
    ::setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    smbd_ = pair[1];
    shm::UniqueFd theirs(pair[0]);
    if (!well) {
      close_smbd();
      return done(shm::fail("no smbd", ECONNREFUSED));
    }
    done(std::move(theirs));
  }
  struct Asked {
    uint16_t command{};
    uint64_t message_id{};
    uint32_t length{};
    uint64_t async_id{};  // of its interim answer
  };
  /// Reads up to so many bytes; what requests they hold is remembered.
  void smbd_reads(size_t most) {
    while (most > 0 && smbd_ >= 0) {
      std::array<std::byte, 4096> some;
      const ssize_t n = ::recv(smbd_, some.data(), std::min(most, some.size()), 0);
      if (n <= 0) return;
      most -= static_cast<size_t>(n);
      got_.insert(got_.end(), some.begin(), some.begin() + n);
      while (got_.size() >= 4) {
        const size_t length = std::to_integer<size_t>(got_[1]) << 16 | std::to_integer<size_t>(got_[2]) << 8 |
                              std::to_integer<size_t>(got_[3]);
        require(got_[0] == std::byte{0} && length > 0, "smbd is sent a length word that is none");
        if (got_.size() - 4 < length) break;
        note(std::span(got_).subspan(4, length));
        got_.erase(got_.begin(), got_.begin() + static_cast<ptrdiff_t>(4 + length));
      }
    }
  }
  void smbd_sends(std::span<const std::byte> bytes) {
    to_client_.insert(to_client_.end(), bytes.begin(), bytes.end());
  }
  void smbd_answers(const Bytes& pdu) {
    Bytes word(4);
    for (int i = 1; i < 4; ++i)
      word[static_cast<size_t>(i)] = static_cast<std::byte>(pdu.size() >> (24 - 8 * i));
    if (to_client_.size() > (4U << 20)) return;
    smbd_sends(word);
    smbd_sends(pdu);
  }
  void smbd_writes(size_t most) {
    if (smbd_ < 0 || to_client_.empty()) return;
    const ssize_t n = ::send(smbd_, to_client_.data(), std::min(most, to_client_.size()), MSG_NOSIGNAL);
    if (n > 0) to_client_.erase(to_client_.begin(), to_client_.begin() + n);
  }
  void close_smbd() {
    if (smbd_ >= 0) ::close(smbd_);
    smbd_ = -1;
  }

  /// SMB2 NEGOTIATE and SESSION_SETUP, both answered as they should be.
  void begin_well() {
    negotiate();
    queue(smb2_test::negotiate_request({0x0302}));
    say_all();
    turn();
    connect(true);
    turn();
    smbd_reads(1 << 16);
    smbd_answers(smb2_test::negotiate_response(0x0302, 1 << 20, 1 << 20));
    smbd_writes(1 << 16);
    turn();
    queue(smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1}, 24));
    say_all();
    turn();
    smbd_reads(1 << 16);
    Bytes set_up =
        smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1, .flags = smb2_test::kResponse}, 8);
    smb2_test::put(set_up, 64, 9, 2);
    smbd_answers(set_up);
    smbd_writes(1 << 16);
    turn();
    asked.clear();
    next_id = 2;
  }

  std::deque<Asked> asked;  // requests that smbd has whole
  uint64_t next_id = 0;     // the client's next MessageId

  void stop() { session_->stop("told to"); }
  [[nodiscard]] bool says_something() const { return !to_say_.empty(); }

 private:
  void allow() {
    if (end_ != nullptr) end_->allow(kMostCalls);
  }
  void note(std::span<const std::byte> pdu) {
    size_t at = 0;
    while (pdu.size() - at >= 64 && smb2_test::get(pdu, at, 4) == 0x424D53FE && asked.size() < 256) {
      const auto element = pdu.subspan(at);
      Asked one{static_cast<uint16_t>(smb2_test::get(element, 12, 2)), smb2_test::get(element, 24, 8)};
      if (one.command == smb2_test::kRead && element.size() >= 112) {
        one.length = static_cast<uint32_t>(smb2_test::get(element, 68, 4));
        require(smb2_test::get(element, 100, 4) == 0, "smbd is sent a READ with a channel");
      }
      if (one.command == smb2_test::kWrite && element.size() >= 112) {
        one.length = static_cast<uint32_t>(smb2_test::get(element, 68, 4));
        require(smb2_test::get(element, 96, 4) == 0, "smbd is sent a WRITE with a channel");
      }
      if (one.command != smb2_test::kCancel) asked.push_back(one);  // it has no answer
      const size_t next = smb2_test::get(element, 20, 4);
      if (next == 0 || next > pdu.size() - at) break;
      at += next;
    }
  }
  /// What the session has sent keeps to the credits it was granted.
  void take() {
    for (; !from_session_.empty(); from_session_.pop_front()) {
      const Bytes& message = from_session_.front();
      if (!negotiated_) {
        const auto response = smb_direct::parse_negotiate_response(message);
        require(response.has_value(), "a negotiate response");
        if (response->status != 0) continue;
        negotiated_ = true;
        credits_ = response->credits_granted;
        most_ = std::min(response->max_receive_size, std::max(512U, config_.max_receive_size));
        continue;
      }
      const auto parsed = smb_direct::parse_data_transfer(message);
      require(parsed.has_value(), "a data message");
      require(granted_ > 0, "sent without a credit");
      --granted_;
      credits_ += parsed->credits_granted;
      require(end_ == nullptr || end_->gone() || credits_ <= end_->receives_posted(),
              "more credits than receives");
      const uint64_t whole = uint64_t{parsed->data_length} + parsed->remaining_data_length;
      require(left_ == 0 ? whole <= (1U << 20) : whole == left_, "fragments that do not add up");
      left_ = parsed->remaining_data_length;
    }
  }
  void check() const {
    // What is configured, the receives, and what may always be had whatever the others hold.
    const uint64_t limit = config_.buffered_bytes_per_connection + (2U << 20) +
                           uint64_t{config_.receive_credit_max} * receives_.slab_size() +
                           config_.max_fragmented_size + (3U << 20);
    require(memory_->held().used() <= limit, "more memory than the limits allow");
  }

  fake::FakeClock clock_;
  uv_loop_t loop_{};
  daemon::WorkerConfig config_;
  Arena arena_;
  SlabPool slabs_{arena_, 256 << 10};
  SlabPool receives_{arena_, 1032};
  SlabPool headers_{arena_, 4096};
  const OpenUpstream connect_ = [this](const UpstreamRequest&) {
    return std::make_unique<Attempt>(attempt_, done_);
  };
  std::optional<WorkerMemory> memory_;
  std::optional<SessionResources> resources_;
  Attempt* attempt_ = nullptr;
  Upstream::Done done_;
  std::unique_ptr<Session> session_;
  bool ended_ = false;
  fake::SmallRoomEndpoint* end_ = nullptr;  // while the session has it

  std::deque<Bytes> from_session_;
  std::deque<Bytes> to_say_;
  size_t said_ = 0;
  bool negotiated_ = false;
  uint32_t credits_ = 0;
  uint32_t granted_ = 0;
  uint32_t most_ = 128;
  uint64_t left_ = 0;

  int smbd_ = -1;
  Bytes got_;
  Bytes to_client_;
};

}  // namespace smbdirect::workers::session_fuzz
