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

/// The next connection; reading and writing it blocks for at most kPatience.
[[nodiscard]] peer::Fd accept_from(int listening);
void read_all(int fd, std::span<std::byte> into);
void write_all(int fd, std::span<const std::byte> bytes);
[[nodiscard]] Bytes with_header(const proxy::FrameHeader& header, std::span<const std::byte> body);

/// Short, for sockets below it; gone with all that is in it at the end.
struct Directory {
  Directory();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string path;
};
[[nodiscard]] peer::Fd listen_at(const std::string& path);

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
  [[nodiscard]] proxy::Start start_frame() const;  // the same, as the daemon says it
  /// The peer's HELLO, the facts for it, and its ATTACHED.
  void accept(std::span<const std::byte> negotiate);
  /// HELLO and facts only.
  void accept_unattached(std::span<const std::byte> negotiate);
  /// Instead: this channel comes to the process that serves `served` already.
  void arrive_with(Worker& served, std::span<const std::byte> negotiate);
  void end() { channel_ = peer::Fd(); }
  /// The peer has closed its end.
  [[nodiscard]] bool ended();

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
  void introduce(std::span<const std::byte> negotiate);
  void await_attached();

  Settings settings_;
  Directory directory_;
  peer::Fd listening_;
  peer::Fd channel_;
  peer::Fd memory_;
  std::span<std::byte> area_;
};

class Smbd {
 public:
  class Connection {
   public:
    explicit Connection(peer::Fd fd) : fd_(std::move(fd)) {}
    /// Without the length word.
    [[nodiscard]] Bytes receive();
    void send(std::span<const std::byte> pdu);
    /// The peer has closed it.
    [[nodiscard]] bool closed();

   private:
    peer::Fd fd_;
  };

  Smbd();
  [[nodiscard]] peer::SmbdAddress address() const;
  [[nodiscard]] std::string address_text() const;
  [[nodiscard]] Connection accept_another() { return Connection(accept_from(listening_.get())); }
  /// The first one, which is meant below.
  void accept() { connection_.emplace(accept_another()); }
  [[nodiscard]] Bytes receive() { return connection_->receive(); }
  void send(std::span<const std::byte> pdu) { connection_->send(pdu); }
  void end() { connection_.reset(); }
  [[nodiscard]] bool closed() { return connection_->closed(); }

 private:
  peer::Fd listening_;
  std::optional<Connection> connection_;
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
