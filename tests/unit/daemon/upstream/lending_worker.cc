// SPDX-License-Identifier: MIT
// A worker that does nothing but lend its control socket to the test that runs the supervisor's part: sends
// it to the UNIX socket that LENDING_WORKER_SOCKET names, with the number of its slot, and ends when the test
// closes that connection.
#include <cstdlib>
#include <cstring>
#include <span>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/contract/contract.h"
#include "tests/unit/unix_sockets.h"

int main(int argc, char** argv) {
  const char* path = std::getenv("LENDING_WORKER_SOCKET");
  if (argc != 5 || std::strcmp(argv[1], "--slot") != 0 || path == nullptr) return 2;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) return 2;
  std::memcpy(address.sun_path, path, std::strlen(path) + 1);
  const int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(link, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return 1;
  char slot = char(std::atoi(argv[2]));
  const auto said = std::as_bytes(std::span(&slot, 1));
  if (smbdirect::test::send_with(link, said, smbdirect::daemon::kControlFd) != 1) return 1;
  return read(link, &slot, 1) == 0 ? 0 : 1;
}
