// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/netns_thread.h"

#include <cerrno>
#include <csignal>
#include <future>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <system_error>
#include <utility>

#include "daemon/os/netlink.h"
#include "daemon/upstream/policy_routing.h"

namespace smbdirect::daemon {
namespace {

constexpr uint32_t kMainTable = RT_TABLE_MAIN;

shm::Result<> change(Netlink& netlink, NetlinkRequest request, const std::string& what) {
  if (auto answer = netlink.ask(std::move(request), what); !answer) return std::unexpected(answer.error());
  return {};
}

shm::Result<> raise_loopback(Netlink& netlink, uint32_t loopback) {
  ifinfomsg link{};
  link.ifi_family = AF_UNSPEC;
  link.ifi_index = int(loopback);
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  return change(netlink, NetlinkRequest(RTM_NEWLINK, 0, link), "set lo up in a network namespace");
}

shm::Result<> all_local(Netlink& netlink, int family, uint32_t loopback) {
  const Route route = everything_local(family, kMainTable, loopback, 0);
  return change(netlink, route.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
                "add the route \"" + route.text() + "\" in a network namespace");
}

/// In the thread. Sets no_ipv6 when there is no IPv6.
shm::Result<> enter_name_space(std::string& no_ipv6) {
  if (unshare(CLONE_NEWNET) != 0) {
    return shm::fail(errno == EPERM
                         ? "make a network namespace, which needs CAP_SYS_ADMIN (start as root, or add it to "
                           "CapabilityBoundingSet of the unit)"
                         : "make a network namespace",
                     errno);
  }
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  const uint32_t loopback = if_nametoindex("lo");
  if (loopback == 0) return shm::fail("find lo in a network namespace", errno);
  if (auto raised = raise_loopback(*netlink, loopback); !raised) return raised;
  if (auto routed = all_local(*netlink, AF_INET, loopback); !routed) return routed;
  if (const auto routed = all_local(*netlink, AF_INET6, loopback); !routed) {
    no_ipv6 = "this system has no IPv6 (" + routed.error().text() + ")";
  }
  return {};
}

}  // namespace

NetnsThread::NetnsThread(shm::Loop& loop, Done done)
    : done_(std::move(done)), wake_(loop, [this] { deliver(); }) {}

shm::Result<std::unique_ptr<NetnsThread>> NetnsThread::start(shm::Loop& loop, Done done) {
  std::unique_ptr<NetnsThread> made(new NetnsThread(loop, std::move(done)));
  std::promise<shm::Result<>> entered;
  auto outcome = entered.get_future();
  // Signals are for the loop's thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    made->thread_ = std::thread([self = made.get(), promise = std::move(entered)]() mutable {
      auto result = enter_name_space(self->no_ipv6_);
      const bool serves = result.has_value();
      promise.set_value(std::move(result));
      if (serves) self->serve();
    });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return shm::fail("start a thread", error.code().value());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (auto result = outcome.get(); !result) return std::unexpected(result.error());
  return made;
}

NetnsThread::~NetnsThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void NetnsThread::request(uint64_t number, const sockaddr_storage& client, const sockaddr_storage& server) {
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back({number, client, server});
  }
  changed_.notify_one();
}

void NetnsThread::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !requests_.empty(); });
    if (ending_) return;
    const Request request = requests_.front();
    requests_.pop_front();
    lock.unlock();
    Answer answer{request.number, make_tcp_pair(request.client, request.server)};
    lock.lock();
    answers_.push_back(std::move(answer));
    wake_.wake();
  }
}

void NetnsThread::deliver() {
  // One at a time: what is done with a pair takes milliseconds, and the loop has others to serve.
  std::unique_lock lock(mutex_);
  if (answers_.empty()) return;
  Answer answer = std::move(answers_.front());
  answers_.pop_front();
  if (!answers_.empty()) wake_.wake();
  lock.unlock();
  done_(answer.number, std::move(answer.pair));
}

}  // namespace smbdirect::daemon
