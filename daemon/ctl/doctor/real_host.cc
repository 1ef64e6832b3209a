// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/real_host.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/os/account.h"
#include "daemon/os/netlink.h"
#include "daemon/os/own_directory.h"
#include "daemon/upstream/transparent/routing_lookup.h"
#include "daemon/upstream/transparent/transparent_probe.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon::doctor {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kProgramMs = 15'000;  // a registry configuration may be on a slow disk
constexpr auto kPatience = std::chrono::seconds(3);
constexpr size_t kMostBytes = 16 << 20;    // of a file
constexpr size_t kMostMessage = 64 << 10;  // of a NEGOTIATE response

/// Waits for the socket. False, with errno, when the time is over.
bool wait_for(int fd, short events, Clock::time_point end) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    pollfd polled{.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&polled, 1, int(std::max<int64_t>(left, 0)));
    if (ready > 0) return true;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) errno = ETIMEDOUT;
    return false;
  }
}

bool connect_to(int fd, const sockaddr_storage& to, Clock::time_point end) {
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), shm::length_of(to)) == 0) return true;
  if (errno != EINPROGRESS || !wait_for(fd, POLLOUT, end)) return false;
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return false;
  errno = error;
  return error == 0;
}

/// Fills the whole span. False, with errno; 0: the other side closed.
bool receive(int fd, std::span<std::byte> into, Clock::time_point end) {
  while (!into.empty()) {
    const ssize_t got = recv(fd, into.data(), into.size(), 0);
    if (got > 0) {
      into = into.subspan(size_t(got));
      continue;
    }
    if (got == 0) errno = 0;
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    if (errno == EAGAIN && !wait_for(fd, POLLIN, end)) return false;
  }
  return true;
}

}  // namespace

bool RealHost::is_root() { return geteuid() == 0; }

bool RealHost::has_user(const std::string& name) { return getpwnam(name.c_str()) != nullptr; }
bool RealHost::has_group(const std::string& name) { return group_id(name).has_value(); }

shm::Result<std::string> RealHost::read(const std::string& path) {
  const shm::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return shm::fail("'" + path + "'", errno);
  std::string text;
  std::array<char, 16384> bytes;
  for (;;) {
    const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return shm::fail("'" + path + "'", errno);
    if (got == 0) return text;
    text.append(bytes.data(), size_t(got));
    if (text.size() > kMostBytes) return shm::fail("'" + path + "'", EFBIG);
  }
}

std::vector<std::string> RealHost::list(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  std::ranges::sort(names);
  return names;
}

std::string RealHost::link(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

std::optional<Host::FileKind> RealHost::kind(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  if (S_ISDIR(status.st_mode)) return FileKind::directory;
  if (!S_ISREG(status.st_mode)) return FileKind::other;
  return access(path.c_str(), X_OK) == 0 ? FileKind::program : FileKind::file;
}

bool RealHost::is_open_to_all(const std::string& path) {
  struct stat status{};
  constexpr mode_t kBoth = S_IROTH | S_IWOTH;
  return stat(path.c_str(), &status) == 0 && (status.st_mode & kBoth) == kBoth;
}

shm::Result<> RealHost::is_ours_alone(const std::string& directory) { return own_directory(directory); }

shm::Result<pid_t> RealHost::lock_holder(const std::string& path) {
  const shm::UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return shm::fail("'" + path + "'", errno);
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(file.get(), F_GETLK, &lock) != 0) return shm::fail("lock of '" + path + "'", errno);
  return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

std::vector<Host::Address> RealHost::addresses() {
  std::vector<Address> found;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return found;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owned(list, freeifaddrs);
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    sockaddr_storage address{};
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    std::memcpy(&address, one->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    found.push_back({.host = shm::host_of(address), .interface = one->ifa_name});
  }
  return found;
}

shm::Result<ProgramOutput> RealHost::run(const std::string& program,
                                         const std::vector<std::string>& arguments) {
  return run_program(program, arguments, kProgramMs);
}

shm::Result<std::string> RealHost::ask(const std::string& socket) {
  return ask_daemon(socket, {.command = CtlCommand::status});
}

shm::Result<std::vector<std::byte>> RealHost::exchange(const sockaddr_storage& to,
                                                       std::span<const std::byte> message) {
  const auto end = Clock::now() + kPatience;
  const shm::UniqueFd fd(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return shm::fail("socket", errno);
  if (!connect_to(fd.get(), to, end)) return shm::fail("connect", errno);
  if (send(fd.get(), message.data(), message.size(), MSG_NOSIGNAL) != ssize_t(message.size()))
    return shm::fail("send", errno);
  const auto broken = [] {
    return errno == 0 ? shm::fail("it closed the connection without an answer") : shm::fail("receive", errno);
  };
  std::array<std::byte, 4> word{};
  if (!receive(fd.get(), word, end)) return broken();
  const size_t length = size_t(word[1]) << 16 | size_t(word[2]) << 8 | size_t(word[3]);
  if (word[0] != std::byte{0} || length > kMostMessage)
    return std::vector<std::byte>(word.begin(), word.end());  // no SMB2: the caller sees that
  std::vector<std::byte> answer(word.size() + length);
  std::ranges::copy(word, answer.begin());
  if (!receive(fd.get(), std::span(answer).subspan(word.size()), end)) return broken();
  return answer;
}

shm::Result<RoutingState> RealHost::routing(int family, const PoolConfig& pool) {
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  const auto sources = smbd_sources(*netlink, family, pool.smbd_addresses());
  if (!sources) return std::unexpected(sources.error());
  const TransparentConfig& wanted = pool.transparent;
  return look_up_routing(*netlink, mark_rule(family, wanted.mark, wanted.table, wanted.priority),
                         everything_local(family, wanted.table, if_nametoindex("lo"), 0), *sources);
}

shm::Result<> RealHost::try_transparent(int family, const PoolConfig& pool) {
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  const auto sources = smbd_sources(*netlink, family, pool.smbd_addresses());
  if (!sources) return std::unexpected(sources.error());
  if (auto routed = check_marked_route(*netlink, family, pool.transparent.mark, *sources); !routed)
    return routed;
  return probe_transparent(family, pool.transparent.mark);
}

}  // namespace smbdirect::daemon::doctor
