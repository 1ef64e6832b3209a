// SPDX-License-Identifier: MIT
#include "daemon/prefork/placement.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ifaddrs.h>
#include <iterator>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <set>
#include <system_error>

#include "daemon/config/placement_text.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

constexpr int kDeepest = 4;  // a VLAN on a bond of devices has 2

std::vector<std::string> interfaces_of_this_host(const ListenerConfig& listener) {
  std::vector<std::string> names;
  const auto wanted = shm::address_from_text(listener.address, 0);
  ifaddrs* list = nullptr;
  if (!wanted || getifaddrs(&list) != 0) return names;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  const auto any = shm::address_from_text(wanted->ss_family == AF_INET6 ? "::" : "0.0.0.0", 0);
  const bool all = shm::host_of(*wanted) == shm::host_of(*any);
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != wanted->ss_family) continue;
    sockaddr_storage address{};
    const size_t size = wanted->ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    std::copy_n(reinterpret_cast<const char*>(one->ifa_addr), size, reinterpret_cast<char*>(&address));
    const bool fits =
        all ? (one->ifa_flags & IFF_LOOPBACK) == 0 : shm::host_of(address) == shm::host_of(*wanted);
    if (fits && std::ranges::find(names, one->ifa_name) == names.end()) names.emplace_back(one->ifa_name);
  }
  return names;
}

std::vector<unsigned> usable_of_this_process() {
  std::vector<unsigned> usable;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return usable;
  for (unsigned processor = 0; processor < unsigned(CPU_SETSIZE); ++processor) {
    if (CPU_ISSET(processor, &set)) usable.push_back(processor);
  }
  return usable;
}

}  // namespace

Placement Placement::of_this_host() {
  return {.interfaces_of = interfaces_of_this_host, .usable = usable_of_this_process};
}

/// A bond, a bridge or a VLAN has no device, but interfaces below it.
std::vector<unsigned> Placement::near(const std::string& interface, int depth) const {
  const std::filesystem::path at = std::filesystem::path(sys) / "class/net" / interface;
  std::string line;
  if (std::ifstream file(at / "device/local_cpulist"); file && std::getline(file, line))
    return parse_processor_list(line).value_or(std::vector<unsigned>{});
  std::set<unsigned> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(at, error)) {
    const std::string name = entry.path().filename();
    if (depth == 0 || !name.starts_with("lower_")) continue;
    for (const unsigned processor : near(name.substr(6), depth - 1)) found.insert(processor);
  }
  return {found.begin(), found.end()};
}

std::vector<unsigned> Placement::candidates(const PoolConfig& config) const {
  if (config.placement == kNoPlacement) return {};
  const std::vector<unsigned> may = usable();
  std::set<unsigned> wanted;
  if (config.placement == kAutomaticPlacement) {
    for (const ListenerConfig& listener : config.listeners) {
      for (const std::string& interface : interfaces_of(listener)) {
        for (const unsigned processor : near(interface, kDeepest)) wanted.insert(processor);
      }
    }
  } else if (const auto list = parse_processor_list(config.placement)) {
    wanted.insert(list->begin(), list->end());
  }
  std::vector<unsigned> both;
  std::ranges::set_intersection(wanted, may, std::back_inserter(both));
  return both.empty() && config.placement == kAutomaticPlacement ? may : both;
}

std::optional<unsigned> least_taken(const std::vector<unsigned>& candidates,
                                    const std::vector<unsigned>& taken) {
  std::optional<unsigned> best;
  std::ptrdiff_t fewest = 0;
  for (const unsigned candidate : candidates) {
    const auto times = std::ranges::count(taken, candidate);
    if (best && times >= fewest) continue;
    best = candidate;
    fewest = times;
  }
  return best;
}

}  // namespace smbdirect::daemon
