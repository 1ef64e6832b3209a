// SPDX-License-Identifier: MIT
// What a worker needs of the pool file. The supervisor writes it into a sealed memfd as JSON, the worker
// reads it once, at its start; neither changes it. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/log.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

/// What a worker needs of the pool file, defaults applied by the supervisor. Times in milliseconds, sizes
/// in bytes.
struct WorkerConfig {
  shm::log::Level log_level = shm::log::Level::info;
  std::string user;  // drop to this user when started as root; empty: stay

  // Where streams to the server come from.
  enum class Upstream : uint8_t {
    connect,  // connect(2) to smbd
    ask,      // the supervisor (want_smbd)
    native,   // native peers, whose processes come to the worker or are passed a channel
  };
  Upstream upstream = Upstream::connect;
  std::string upstream_address;  // smbd
  uint16_t upstream_port = 445;
  uint32_t upstream_connect_timeout_ms = 1000;

  // Either asks for links to modules (want_module).
  bool module_area = true;
  uint32_t module_area_threshold = 65536;  // of a READ or WRITE, from which on it goes that way
  uint32_t module_area_bytes = 16 << 20;   // of each connection
  bool module_area_huge_pages = true;      // while the system has some set aside
  uint64_t module_area_bytes_per_worker = 1ull << 30;
  bool direct = true;                  // READs and WRITEs on open files that modules grant
  uint32_t direct_files = 256;         // of each connection
  uint32_t direct_busy_poll_us = 100;  // awake after one of these, at most; 0: never

  uint32_t native_area_bytes = 16 << 20;  // of each native channel
  uint64_t native_area_bytes_per_worker = 4ull << 30;
  uint16_t native_operations = 64;  // RDMA operations a peer may have under way on one channel

  // MS-SMBD limits (protocol/smbdirect/engine.h has the meaning).
  uint16_t receive_credit_initial = 32;
  uint16_t receive_credit_max = 255;
  uint16_t send_credit_target = 255;
  uint32_t max_send_size = 8192;
  uint32_t max_receive_size = 8192;
  uint32_t max_fragmented_size = 8 * 1024 * 1024 + 128 * 1024;
  uint32_t max_read_write_size = 8 * 1024 * 1024;
  uint32_t negotiate_timeout_ms = 5'000;
  uint32_t idle_timeout_ms = 120'000;
  uint32_t keepalive_timeout_ms = 5'000;
  uint32_t send_credit_timeout_ms = 60'000;

  bool iwarp_crc = true;  // ask for CRC32C; used when either side asks
  uint16_t iwarp_max_inbound_reads = 16;
  uint16_t iwarp_max_outbound_reads = 16;

  bool verbs = false;  // the pool has a verbs listener: kHandoverFd is there
  uint16_t verbs_max_outbound_reads = 32;
  uint32_t verbs_busy_poll_us = 0;
  uint32_t verbs_device_idle_ms = 10'000;

  uint32_t connections = 1024;  // per worker: the pool's limit, enforced by the supervisor, repeated here
  uint32_t ipv6_prefix_length = 64;  // of the network that an IPv6 client is
  uint32_t handshake_timeout_ms = 5'000;
  uint32_t progress_timeout_ms = 60'000;
  uint32_t upstream_progress_timeout_ms = 120'000;
  uint32_t session_timeout_ms = 45'000;  // until the server has answered a SESSION_SETUP with success
  uint64_t buffered_bytes_per_connection = 32ull << 20;
  uint64_t buffered_bytes_per_worker = 1024ull << 20;

  [[nodiscard]] std::string to_json() const;
  [[nodiscard]] static shm::Result<WorkerConfig> from_json(const std::string& text);
};

}  // namespace smbdirect::daemon
