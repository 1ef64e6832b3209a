// SPDX-License-Identifier: MIT
// An SMB Direct server for tests: accepts over loopback iWARP, serves one file from memory, and misbehaves
// on request. Its SMB2 is NEGOTIATE, SESSION_SETUP, READ, WRITE (inline and by RDMA channel) and ECHO.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <uv.h>

#include "workers/connect/listener.h"
#include "workers/fabric/iwarp/iwarp.h"
#include "workers/memory/slab.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect::test {

/// What the server does; fixed before the first connection.
struct ServerScript {
  smb_direct::Limits limits;
  fabric::iwarp::Options iwarp;
  uint16_t dialect = 0x0311;
  bool interim = false;          // STATUS_PENDING before each final answer
  uint32_t short_read = 0;       // > 0: a READ returns at most so many bytes
  uint32_t error_status = 0;     // > 0: READ and WRITE fail with it
  bool answer_inline = false;    // RDMA-channel READs are answered inline
  uint64_t hold_until = 0;       // answers are held back until so many requests are there
  bool never_answer_io = false;  // READ and WRITE, as a pipe that nobody is at the other end of
  bool lie = false;              // RDMA-channel READs: "all is placed", and nothing is

  // How it ends; 0: never.
  uint64_t disconnect_after = 0;    // requests, in an orderly way, instead of answering the last
  uint64_t abort_after = 0;         // requests, at once
  uint64_t cut_response_after = 0;  // requests: the answer to the last is begun, then the connection dropped
  uint64_t garbage_after = 0;       // requests: the answer to the last is no SMB2 message
};

class ScriptedServer {
 public:
  ScriptedServer(uv_loop_t& loop, const ServerScript& script, size_t file_size);
  ~ScriptedServer();

  [[nodiscard]] sockaddr_storage address() const { return listener_->address(); }
  [[nodiscard]] std::vector<std::byte>& file() { return file_; }
  /// Requests it got, over all connections.
  [[nodiscard]] uint64_t requests() const { return requests_; }
  [[nodiscard]] uint64_t rdma_channel_requests() const { return rdma_channel_requests_; }
  /// Most descriptors in one request.
  [[nodiscard]] size_t most_descriptors() const { return most_descriptors_; }
  /// Connections that have not ended.
  [[nodiscard]] size_t open() const;
  /// Stops accepting.
  void close_listener() { listener_.reset(); }

 private:
  class Connection;

  uv_loop_t& loop_;
  ServerScript script_;
  std::vector<std::byte> file_;
  uint64_t requests_ = 0;
  uint64_t rdma_channel_requests_ = 0;
  size_t most_descriptors_ = 0;
  Arena arena_;
  SlabPool receive_pool_;
  SlabPool header_pool_{arena_, 4096};
  Budget budget_{UINT64_MAX};
  std::unique_ptr<Listener> listener_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace smbdirect::workers::connect::test
