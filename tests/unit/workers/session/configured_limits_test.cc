// SPDX-License-Identifier: MIT
#include "workers/session/configured_limits.h"

#include <doctest/doctest.h>

using smbdirect::daemon::WorkerConfig;
using smbdirect::protocol::smb_direct::Limits;
using smbdirect::workers::limits_of;

TEST_CASE("a pool file that says nothing has the limits of the protocol") {
  CHECK(limits_of(WorkerConfig{}) == Limits{});
}

TEST_CASE("each limit of the pool file is the one of its name") {
  WorkerConfig config;
  config.receive_credit_initial = 1;
  config.receive_credit_max = 2;
  config.send_credit_target = 3;
  config.max_send_size = 4;
  config.max_receive_size = 5;
  config.max_fragmented_size = 6;
  config.max_read_write_size = 7;
  config.negotiate_timeout_ms = 8;
  config.idle_timeout_ms = 9;
  config.keepalive_timeout_ms = 10;
  config.send_credit_timeout_ms = 11;
  CHECK(limits_of(config) == Limits{.receive_credit_initial = 1,
                                    .receive_credit_max = 2,
                                    .send_credit_target = 3,
                                    .max_send_size = 4,
                                    .max_receive_size = 5,
                                    .max_fragmented_size = 6,
                                    .max_read_write_size = 7,
                                    .negotiate_timeout = 8,
                                    .idle_timeout = 9,
                                    .keepalive_timeout = 10,
                                    .send_credit_timeout = 11});
}
