// SPDX-License-Identifier: MIT
// The two sides of a channel that is served, for tests of the relaying between them: a worker that speaks
// protocol/proxy/frames.h and an smbd that speaks nothing but what the test tells it to. Both are the test's,
// in its thread, blocking for at most kPatience; the peer runs in a thread of its own.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "protocol/proxy/frames.h"
#include "tests/peer/handles.h"
#include "tests/peer/options.h"

namespace scripted {

namespace peer = smbdirect::tests::peer;
namespace proxy = smbdirect::protocol::proxy;
namespace smb2 = smbdirect::protocol::smb2;
using Bytes = std::vector<std::byte>;

inline constexpr int kPatience = 5;  // s

/// A worker's end of one channel.
class Worker {
 public:
  struct Settings {
    size_t area = 4 << 20;
    uint16_t max_operations = 64;
  };
  explicit Worker(const Settings& settings);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] smbdirect_start start() const;
  /// The peer's HELLO, and the facts for it.
  void accept(std::span<const std::byte> negotiate);
  void end() { channel_ = peer::Fd(); }

  struct Frame {
    proxy::FrameHeader header;
    Bytes body;
  };
  [[nodiscard]] Frame receive();
  /// The peer says nothing for a moment.
  [[nodiscard]] bool quiet();
  void send_pdu(std::span<const std::byte> pdu);
  /// As much of a PDU frame's bytes as the socket takes within 300 ms; how many.
  size_t send_some(std::span<const std::byte> bytes);
  [[nodiscard]] static Bytes pdu_frame(std::span<const std::byte> pdu);
  void send_done(uint64_t id);
  /// The next frame is this operation.
  [[nodiscard]] std::pair<uint64_t, proxy::Operation> operation(proxy::FrameType type);
  /// The next frame is a message to the client: its bytes, and the tokens to invalidate.
  struct Reply {
    Bytes pdu;
    std::vector<uint32_t> invalidate;
  };
  [[nodiscard]] Reply reply();

  [[nodiscard]] std::span<std::byte> area() const { return area_; }

 private:
  void send(const proxy::FrameHeader& header, std::span<const std::byte> body, int descriptor = -1);

  Settings settings_;
  std::string directory_;
  peer::Fd listening_;
  peer::Fd channel_;
  peer::Fd memory_;
  std::span<std::byte> area_;
};

class Smbd {
 public:
  Smbd();
  [[nodiscard]] peer::SmbdAddress address() const;
  void accept();
  /// Without the length word.
  [[nodiscard]] Bytes receive();
  void send(std::span<const std::byte> pdu);
  void end() { connection_ = peer::Fd(); }
  /// The peer has closed its connection.
  [[nodiscard]] bool closed();

 private:
  peer::Fd listening_;
  peer::Fd connection_;
};

/// A process's part, in a thread: opens the channel, and serves it to its end.
class Peer {
 public:
  Peer(const smbdirect_start& start, const peer::SmbdAddress& smbd);
  /// Blocks until the channel has ended: its worker or its smbd must have.
  void join() { thread_.join(); }

 private:
  std::jthread thread_;
};

}  // namespace scripted
