// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/transparent_routes.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "daemon/upstream/transparent/routing_lookup.h"
#include "daemon/upstream/transparent/transparent_probe.h"
#include "shm/base/log.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr const char* kSysctlName = "net.ipv4.tcp_fwmark_accept";  // of IPv6 too
constexpr const char* kSysctlFile = "/proc/sys/net/ipv4/tcp_fwmark_accept";
constexpr const char* kNoIpv6File = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

// The metric of our IPv4 route is our note, kept where only a reboot loses it, as it does the sysctl: was the
// sysctl off before we came? (Where the route is an administrator's there is no note; then a supervisor that
// comes after one that was killed leaves the sysctl on.)
constexpr uint32_t kSysctlWasOn = 0;
constexpr uint32_t kSysctlWasOff = 1;
constexpr uint32_t kMetric6 = 1024;  // what the kernel takes for 0 there

std::unexpected<shm::Error> missing(const shm::Error& error) {
  std::string text = "upstream mode \"transparent\" cannot be used: " + error.text();
  switch (error.system_errno) {
    case EPERM:
    case EACCES:
      text += "; it needs CAP_NET_ADMIN (start as root, or add it to CapabilityBoundingSet of the unit)";
      break;
    case EROFS:
      text +=
          "; /proc/sys is read-only here (ProtectKernelTunables of the unit, or a container): set it to 1 "
          "outside, for example in /etc/sysctl.d, and the daemon does not change it";
      break;
    case ETIMEDOUT:
      text += "; perhaps a firewall drops connections over lo (\"nft list ruleset\" shows its rules)";
      break;
    case ENETDOWN:
    case ENODEV:
      text += "; is lo up? (\"ip link set lo up\")";
      break;
    default:
      break;
  }
  return shm::fail(text + ". Modes \"connect\" and \"handoff\" do not need it");
}

shm::Result<std::string> read_small_file(const char* path) {
  const shm::UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return shm::fail(std::string("open ") + path, errno);
  std::array<char, 32> text{};
  const ssize_t got = read(fd.get(), text.data(), text.size());
  if (got < 0) return shm::fail(std::string("read ") + path, errno);
  std::string value(text.data(), size_t(got));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

shm::Result<> write_sysctl(char value) {
  const std::string what = std::string("set the sysctl ") + kSysctlName + " to " + value;
  const shm::UniqueFd fd(open(kSysctlFile, O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), &value, 1) != 1) return shm::fail(what, errno);
  return {};
}

/// Why there is no IPv6 here; empty when there is.
std::string why_no_ipv6() {
  const shm::UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return "this system has no IPv6";
  const auto disabled = read_small_file(kNoIpv6File);
  if (!disabled) return "this system has no IPv6";
  return *disabled == "0" ? "" : "IPv6 is disabled on lo (net.ipv6.conf.lo.disable_ipv6)";
}

std::string namespace_name() {
  struct stat status{};
  return stat("/proc/self/ns/net", &status) == 0 ? std::to_string(status.st_ino) : "0";
}

}  // namespace

TransparentRoutes::TransparentRoutes(const Options& options, Netlink netlink, UserCountLock lock,
                                     uint32_t loopback)
    : options_(options), netlink_(std::move(netlink)), lock_(std::move(lock)), loopback_(loopback) {}

shm::Result<std::unique_ptr<TransparentRoutes>> TransparentRoutes::set_up(const Options& options) {
  auto netlink = Netlink::open();
  if (!netlink) return missing(netlink.error());
  const uint32_t loopback = if_nametoindex("lo");
  if (loopback == 0) return missing({"find the interface lo", errno});
  auto lock = UserCountLock::open(options.lock_directory, "transparent-" + namespace_name() + ".lock");
  if (!lock) return missing(lock.error());
  if (auto locked = lock->lock(); !locked) return missing(locked.error());
  if (auto joined = lock->join(); !joined) return missing(joined.error());
  // From here on the destructor removes what has been added.
  std::unique_ptr<TransparentRoutes> routes(
      new TransparentRoutes(options, std::move(*netlink), std::move(*lock), loopback));
  auto prepared = routes->prepare();
  routes->lock_.unlock();
  if (!prepared) {
    routes.reset();
    return missing(prepared.error());
  }
  return routes;
}

TransparentRoutes::~TransparentRoutes() {
  if (const auto locked = lock_.lock(); !locked) {
    log::write(log::Level::error, "the routing rules of mode \"transparent\" are not removed: %s",
               locked.error().text().c_str());
    return;
  }
  if (lock_.alone()) take_back();
}

shm::Result<> TransparentRoutes::prepare() {
  no_ipv6_ = why_no_ipv6();
  if (auto done = prepare_family(AF_INET); !done) return done;
  if (auto done = prepare_sysctl(); !done) return done;
  if (no_ipv6_.empty()) {
    if (auto done = prepare_family(AF_INET6); !done) return done;
  }
  for (const int family : {AF_INET, AF_INET6}) {
    if (family == AF_INET6 && !no_ipv6_.empty()) continue;
    const auto sources = smbd_sources(netlink_, family, options_.sources);
    if (!sources) return std::unexpected(sources.error());
    if (auto routed = check_marked_route(netlink_, family, options_.routing.mark, *sources); !routed)
      return routed;
    if (auto probed = probe_transparent(family, options_.routing.mark); !probed) return probed;
  }
  log::write(log::Level::info, "mode \"transparent\" is ready: %s, %s%s",
             mark_rule(AF_INET, options_.routing.mark, options_.routing.table, options_.routing.priority)
                 .text()
                 .c_str(),
             no_ipv6_.empty() ? "also for IPv6" : "not for IPv6: ", no_ipv6_.c_str());
  return {};
}

shm::Result<RoutingState> TransparentRoutes::look(int family) {
  const auto sources = smbd_sources(netlink_, family, options_.sources);
  if (!sources) return std::unexpected(sources.error());
  return look_up_routing(
      netlink_, mark_rule(family, options_.routing.mark, options_.routing.table, options_.routing.priority),
      everything_local(family, options_.routing.table, loopback_, 0), *sources);
}

shm::Result<> TransparentRoutes::change(NetlinkRequest request, const std::string& what) {
  if (auto answer = netlink_.ask(std::move(request), what); !answer) return std::unexpected(answer.error());
  return {};
}

shm::Result<> TransparentRoutes::prepare_family(int family) {
  const auto state = look(family);
  if (!state) return std::unexpected(state.error());
  if (!state->conflict.empty()) {
    return shm::fail(state->conflict +
                     ", and is not smbdirectd's; remove it, or choose another mark, table or priority "
                     "(/upstream/transparent; a lower priority comes first)");
  }
  uint32_t metric = kMetric6;
  if (family == AF_INET) {
    // Decided here and written down with the route, so before the sysctl is touched.
    const auto value = read_small_file(kSysctlFile);
    bool was_off = value && *value == "0";
    for (const Route& route : state->our_routes) was_off = was_off || route.metric == kSysctlWasOff;
    metric = was_off ? kSysctlWasOff : kSysctlWasOn;
  }
  const Route route = everything_local(family, options_.routing.table, loopback_, metric);
  bool there = state->route_by_administrator;
  for (const Route& ours : state->our_routes) there = there || ours.metric == metric;
  if (!there) {
    if (auto added = change(route.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL),
                            "add the route \"" + route.text() + "\"");
        !added) {
      return added;
    }
  }
  for (const Route& ours : state->our_routes) {
    if (ours.metric == metric) continue;
    // One left from before with another note.
    if (auto removed = change(ours.request(RTM_DELROUTE, 0), "remove the route \"" + ours.text() + "\"");
        !removed) {
      return removed;
    }
  }
  if (!state->our_rules.empty() || !state->our_routes.empty()) {
    log::write(log::Level::notice,
               "took over the %s rule and route of mode \"transparent\" that an earlier smbdirectd left",
               family_name(family).c_str());
  }
  if (state->rule_by_administrator) return {};
  return keep_one_rule(
      mark_rule(family, options_.routing.mark, options_.routing.table, options_.routing.priority),
      state->our_rules);
}

/// Those of another priority are an earlier daemon's; both do the same.
shm::Result<> TransparentRoutes::keep_one_rule(const RoutingRule& wanted,
                                               const std::vector<RoutingRule>& ours) {
  const auto is_there = [&](const RoutingRule& rule) { return rule.priority == wanted.priority; };
  if (std::ranges::none_of(ours, is_there)) {
    auto added = change(wanted.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL),
                        "add the rule \"" + wanted.text() + "\"");
    if (!added) return added;
  }
  for (const RoutingRule& rule : ours) {
    if (is_there(rule)) continue;
    auto removed = change(rule.request(RTM_DELRULE, 0), "remove the rule \"" + rule.text() + "\"");
    if (!removed) return removed;
  }
  return {};
}

shm::Result<> TransparentRoutes::prepare_sysctl() {
  const auto state = look(AF_INET);
  if (!state) return std::unexpected(state.error());
  for (const Route& route : state->our_routes) {
    switched_sysctl_ = switched_sysctl_ || route.metric == kSysctlWasOff;
  }
  const auto value = read_small_file(kSysctlFile);
  if (!value) return std::unexpected(value.error());
  if (*value != "0") return {};
  if (auto written = write_sysctl('1'); !written) return written;
  switched_sysctl_ = true;
  return {};
}

void TransparentRoutes::take_back() {
  if (switched_sysctl_) {
    const auto value = read_small_file(kSysctlFile);
    if (value && *value == "1") {
      if (const auto written = write_sysctl('0'); !written) {
        log::write(log::Level::error, "%s at exit", written.error().text().c_str());
      }
    }
  }
  take_back_family(AF_INET);
  if (no_ipv6_.empty()) take_back_family(AF_INET6);
}

void TransparentRoutes::take_back_family(int family) {
  const auto state = look(family);
  if (!state) {
    log::write(log::Level::error, "%s at exit", state.error().text().c_str());
    return;
  }
  const auto remove = [&](const auto& entry, uint16_t type) {
    if (const auto removed = change(entry.request(type, 0), "remove \"" + entry.text() + "\" at exit");
        !removed) {
      log::write(log::Level::error, "%s", removed.error().text().c_str());
    }
  };
  for (const RoutingRule& rule : state->our_rules) remove(rule, RTM_DELRULE);
  for (const Route& route : state->our_routes) remove(route, RTM_DELROUTE);
}

}  // namespace smbdirect::daemon
