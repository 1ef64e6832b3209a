// SPDX-License-Identifier: MIT
#include "daemon/ctl/client.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {
namespace {

std::string advice(int error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return "; is smbdirectd running, with this /run_directory? (--socket PATH names another one)";
    case EACCES:
      return "; ask as root, or as a member of the group that /control/group in the pool file names";
    default:
      return "";
  }
}

}  // namespace

shm::Result<std::string> ask_daemon(const std::string& socket, const CtlRequest& request) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return shm::fail("'" + socket + "'", ENAMETOOLONG);
  std::memcpy(address.sun_path, socket.c_str(), socket.size() + 1);
  const shm::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return shm::fail("socket", errno);
  const timeval patience{.tv_sec = ctl_table()[size_t(request.command)].patience_s, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    return shm::fail("cannot connect to '" + socket + "': " + std::strerror(error) + advice(error));
  }
  const std::string line = request_text(request) + "\n";
  // A refused connection may have been answered and closed before the request was sent.
  [[maybe_unused]] const ssize_t sent = ::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
  std::string answer;
  char bytes[65536];
  for (;;) {
    const ssize_t got = ::recv(fd.get(), bytes, sizeof bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN)
      return shm::fail("'" + socket + "': no answer within " + std::to_string(patience.tv_sec) +
                       " s; is the daemon stopped?");
    if (got < 0 && answer.empty()) return shm::fail("'" + socket + "'", errno);
    if (got <= 0) break;
    answer.append(bytes, size_t(got));
  }
  if (!answer.ends_with('\n'))
    return shm::fail("'" + socket + "': the answer is incomplete; the daemon ended or closed the connection");
  answer.pop_back();
  return answer;
}

}  // namespace smbdirect::daemon
