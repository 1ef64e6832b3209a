// SPDX-License-Identifier: MIT
// Hostile and careless clients, one after the other, as many as are asked for: each goes some way into a
// connection and then does what it should not. One thread; a seed tells all of it.
#pragma once

#include <cstdint>
#include <netinet/in.h>
#include <random>

#include "tests/load/iwarp_client.h"

namespace smbdirect::tests::load {

class Crowd {
 public:
  Crowd(const sockaddr_in& to, uint32_t first_source, uint64_t seed)
      : to_(to), first_source_(first_source), random_(seed) {}

  /// So many connections, and on those that come so far so many SMB2 PDUs in all.
  void run(uint64_t connections, uint64_t pdus);

  [[nodiscard]] uint64_t connections() const { return connections_; }
  [[nodiscard]] uint64_t pdus() const { return pdus_; }
  [[nodiscard]] uint64_t turned_away() const { return turned_away_; }

 private:
  void one(uint64_t pdus);
  void talk(IwarpClient& client, uint64_t pdus);
  Bytes noise(size_t most);
  uint64_t below(uint64_t bound) { return random_() % bound; }

  sockaddr_in to_;
  uint32_t first_source_;  // of 64 addresses
  std::mt19937_64 random_;
  uint64_t connections_ = 0, pdus_ = 0, turned_away_ = 0;
};

}  // namespace smbdirect::tests::load
