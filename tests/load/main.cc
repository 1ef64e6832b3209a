// SPDX-License-Identifier: MIT
// smbdirect-crowd: a day's worth of clients. usage: smbdirect-crowd ADDRESS PORT FIRST-SOURCE CONNECTIONS
// PDUS SEED Prints what it did as one line of JSON.
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>

#include "tests/load/crowd.h"

using namespace smbdirect::tests::load;  // NOLINT

int main(int argc, char** argv) {
  sockaddr_in to{};
  in_addr source{};
  if (argc != 7 || ::inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 ||
      ::inet_pton(AF_INET, argv[3], &source) != 1) {
    std::fprintf(stderr, "usage: smbdirect-crowd ADDRESS PORT FIRST-SOURCE CONNECTIONS PDUS SEED\n");
    return 2;
  }
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(number(2)));
  Crowd crowd(to, ntohl(source.s_addr), number(6));
  crowd.run(number(4), number(5));
  std::printf("{\"connections\": %llu, \"pdus\": %llu, \"turned_away\": %llu}\n",
              static_cast<unsigned long long>(crowd.connections()),
              static_cast<unsigned long long>(crowd.pdus()),
              static_cast<unsigned long long>(crowd.turned_away()));
  return 0;
}
