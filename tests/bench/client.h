// SPDX-License-Identifier: MIT
// One SMB2 client on one link: set-up as a guest, then READs or WRITEs of one size with a fixed number in
// flight. Failures throw Failure out of the loop's run (never through a callback of libuv): a benchmark
// has no use for a connection that misbehaves.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <uv.h>

#include "tests/bench/link.h"
#include "tests/bench/pattern.h"
#include "tests/bench/pdu.h"

namespace smbdirect::tests::bench {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Seconds on the monotonic clock.
double now_seconds();

/// A page-aligned block of memory that is resident from the start.
class Block {
 public:
  explicit Block(size_t size);
  Block(Block&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Block& operator=(Block&&) = delete;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block();
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

class Client final : private Link::Owner {
 public:
  using MakeLink = std::function<std::unique_ptr<Link>(uv_loop_t&, Link::Owner&)>;

  /// channel: 0 data inline, 1 RDMA_V1, 2 RDMA_V1_INVALIDATE (MS-SMB2 2.2.19).
  Client(uv_loop_t& loop, const MakeLink& make_link, uint32_t channel);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Connects and negotiates SMB 3.0.2.
  void connect();
  /// SESSION_SETUP as a guest, TREE_CONNECT.
  void log_in(const std::string& share);
  void open(const std::string& name, Disposition disposition);
  void close_file();
  void disconnect();

  /// Work on the open file. Offsets run through [0, file_bytes) and wrap.
  struct Job {
    bool write = false;
    uint32_t size{};
    uint32_t depth{};
    uint64_t file_bytes{};
    double seconds{};        // issue new requests for this long, or ...
    uint64_t operations{};   // ... when not 0, exactly so many
    uint64_t generation{};   // reads: what the file holds; writes: what to write (0: each a new one)
    bool check_all = false;  // compare every byte; else stamps, and every byte of the first round
  };
  struct Done {
    uint64_t operations{};
    uint64_t bytes{};
    double seconds{};
    uint64_t checked_pages{};  // pages whose stamp was compared
    uint64_t checked_bytes{};  // bytes compared
  };
  Done run(const Job& job);
  /// Reads back and compares every byte of what WRITE jobs have left in the file. Returns bytes compared.
  uint64_t verify_written(uint32_t size, uint32_t depth);

 private:
  struct Slot {
    std::span<std::byte> memory;
    uint64_t offset{};
    uint64_t generation{};
    uint64_t message_id{};
    uint32_t token{};
    bool busy = false;
    bool exposed = false;
  };

  void on_ready() override { ready_ = true; }
  std::span<std::byte> on_head(std::span<const std::byte> head, size_t rest) override;
  void on_pdu() override;
  void on_closed(const std::string& why, bool clean) override;

  void wait_for(const bool& condition, const char* what);
  RequestHeader next_header(Command command, uint32_t payload = 0);
  /// Sends one request of the set-up and waits for its answer, which is then in reply().
  void call(const Pdu& request, const char* what, uint32_t expected_status = 0);
  [[nodiscard]] std::span<const std::byte> reply() const { return std::span(reply_).first(reply_size_); }

  void issue(Slot& slot);
  void finish(Slot& slot);
  void fill_depth(uint32_t depth);
  void fail(const std::string& why);

  uv_loop_t& loop_;
  uint32_t channel_;
  std::unique_ptr<Link> link_;
  std::string failure_;
  bool ready_ = false;
  bool closed_ = false;

  std::array<std::byte, 16> guid_{};
  uint64_t message_id_ = 0;
  uint64_t session_id_ = 0;
  uint32_t tree_id_ = 0;
  uint32_t credits_ = 1;
  FileId file_{};

  std::array<std::byte, 4096> reply_{};  // what follows the head of a response is received in place
  size_t reply_size_ = 0;
  bool replied_ = false;

  std::array<std::byte, kHeadBytes> head_{};
  size_t head_size_ = 0;
  Slot* answered_ = nullptr;  // whose response is being received

  const Pattern pattern_;
  Job job_;
  Done done_;
  std::vector<Block> blocks_;
  std::vector<Slot> slots_;
  uint32_t busy_ = 0;
  uint64_t issued_ = 0;
  double stop_at_ = 0;
  bool stopped_ = false;
  bool drained_ = false;
  uint64_t generation_ = 1;  // of the write issued last
  uint32_t written_size_ = 0;
  std::vector<uint64_t> written_;  // generation last written, per piece of written_size_ bytes; 0: none
  bool reading_back_ = false;
};

}  // namespace smbdirect::tests::bench
