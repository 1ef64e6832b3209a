// SPDX-License-Identifier: MIT
// A whole smbdirect-connect in one test process: an SMB client on a thread of its own with a blocking
// socket, the program under test and a scripted server on one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <uv.h>

#include "scripted_server.h"
#include "shm/base/unique_fd.h"
#include "workers/connect/program.h"

namespace smbdirect::workers::connect::test {

using Bytes = std::vector<std::byte>;

/// Bytes that look random and follow from the seed.
[[nodiscard]] Bytes pattern(size_t size, uint64_t seed);

/// An SMB client's side of a TCP connection; blocking, with a deadline of 30 s on each receive.
class Client {
 public:
  explicit Client(const sockaddr_storage& to);

  void send(std::span<const std::byte> bytes);
  void send_pdu(const Bytes& pdu);
  /// The next PDU without its length word; nothing when the connection ended before the PDU's end.
  [[nodiscard]] std::optional<Bytes> receive_pdu();
  /// True when the connection ended by a reset, false when in an orderly way. Data is discarded.
  [[nodiscard]] bool ended_by_reset();
  void half_close();
  void reset();

  /// All of them; false when the connection ended before.
  bool receive(std::span<std::byte> bytes);
  /// The next one is numbered so.
  void set_message_id(uint64_t id) { next_message_id_ = id; }

  // Requests of the scripted server. MessageIds count up from 0.
  [[nodiscard]] Bytes negotiate();
  [[nodiscard]] Bytes read(uint64_t offset, uint32_t length, bool is_signed = false);
  [[nodiscard]] Bytes write(uint64_t offset, std::span<const std::byte> data, bool is_signed = false);
  [[nodiscard]] Bytes echo();
  [[nodiscard]] Bytes session_setup();

  /// Negotiates and discards the answer.
  void greet();
  /// Greets and is let in.
  void log_in();

 private:
  shm::UniqueFd fd_;
  uint64_t next_message_id_ = 0;
  bool reset_seen_ = false;
};

struct RigSettings {
  ServerScript server;
  Options options;  // listen and to are filled in
  size_t file_size = 1 << 20;
};

/// Status of a response, and the data of a READ response.
[[nodiscard]] uint32_t status_of(const Bytes& pdu);
[[nodiscard]] Bytes read_data(const Bytes& pdu);

class Rig {
 public:
  explicit Rig(const RigSettings& settings);
  ~Rig();

  /// Runs the scripts at once, each with a client of its own on a thread of its own, and the loop until all
  /// have returned; `turn` after each turn of the loop.
  void run(const std::vector<std::function<void(Client&)>>& scripts, const std::function<void()>& turn = {});
  void run(const std::function<void(Client&)>& script) { run(std::vector{script}); }
  /// Ends the program and waits until both sides have no connection left. Called by the destructor.
  void stop();

  [[nodiscard]] ScriptedServer& server() { return *server_; }
  /// Counters of the program; also after stop().
  [[nodiscard]] Counters counters() const;
  /// Runs the loop until `condition` holds; fails the test after some seconds.
  void until(const std::function<bool()>& condition);
  [[nodiscard]] Program& program() { return *program_; }
  [[nodiscard]] uv_loop_t& loop() { return loop_; }
  [[nodiscard]] sockaddr_storage client_address() const;

 private:
  uv_loop_t loop_{};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Program> program_;
  bool stopped_ = false;
  bool over_ = false;
  Counters counters_;
};

}  // namespace smbdirect::workers::connect::test
