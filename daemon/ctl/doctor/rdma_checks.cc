// SPDX-License-Identifier: MIT
// What listeners on RDMA devices need of the host.
#include <algorithm>
#include <charconv>

#include "daemon/ctl/doctor/checks.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr uint64_t kLeastLocked = 64ull << 20;  // below it not even a few connections can be served

struct Module {
  const char* name;
  const char* trace;  // it is there: also where it is built into the kernel
};
constexpr Module kModules[]{{"rdma_ucm", "/sys/class/misc/rdma_cm"},
                            {"ib_uverbs", "/sys/class/infiniband_verbs"}};

std::string port_text(const RdmaPort& port) { return port.device + " port " + port.port; }

/// (6, 12) of "6.12.118-amd64".
std::pair<unsigned, unsigned> kernel_release(Host& host) {
  const auto text = host.read("/proc/sys/kernel/osrelease");
  std::pair<unsigned, unsigned> release{};
  if (!text) return release;
  const char* const end = text->data() + text->size();
  const auto major = std::from_chars(text->data(), end, release.first);
  if (major.ptr != end && *major.ptr == '.') std::from_chars(major.ptr + 1, end, release.second);
  return release;
}

/// docs/compatibility.md: from there on siw sends from memory that is used again already.
bool siw_damages(Host& host) { return kernel_release(host) > std::pair{6u, 1u}; }

std::string how_to_get_a_device(const std::string& interface) {
  return "\"rdma link\" shows the devices and their interfaces. An RDMA NIC needs its driver (\"modprobe "
         "mlx5_ib\", "
         "irdma, bnxt_re, ...); without one use \"fabric\": \"iwarp\", which needs no device, or for tests "
         "\"modprobe rdma_rxe; rdma link add rxe0 type rxe netdev " +
         interface + "\"";
}

Finding check_device(const Patient& patient, const PoolListener& listener, const Host::Address& address) {
  const std::string at = "listener " + listener.text() + ": ";
  std::vector<const RdmaPort*> serving;
  for (const RdmaPort& port : patient.rdma) {
    if (port.serves(address)) serving.push_back(&port);
  }
  if (serving.empty()) {
    return failed(at + "the interface " + address.interface + " has no RDMA device",
                  how_to_get_a_device(address.interface));
  }
  const auto active = std::ranges::find_if(serving, [](const RdmaPort* port) { return port->active(); });
  if (active == serving.end()) {
    const RdmaPort& port = *serving.front();
    return failed(at + "its RDMA device " + port_text(port) + " is " +
                      (port.state.empty() ? "not readable" : port.state) + ", not ACTIVE",
                  "\"ip link set " + address.interface + " up\", and see to the cable" +
                      (port.ethernet ? "" : " and to the subnet manager (opensm)"));
  }
  const RdmaPort& port = **active;
  // With RoCE the address itself is a GID; InfiniBand and iWARP have others.
  if (port.ethernet && !port.iwarp && !port.has_gid_of(address.host)) {
    return failed(at + port_text(port) + " has no GID for " + listener.config.address,
                  "take the address from " + address.interface +
                      " and give it again, or load the driver anew; \"rdma "
                      "link\" and /sys/class/infiniband/" +
                      port.device + "/ports/" + port.port + "/gids show what it has");
  }
  if (port.siw() && siw_damages(patient.host)) {
    return failed(at + port_text(port) +
                      " is siw, which from Linux 6.12 on (perhaps earlier) sends wrong bytes to "
                      "clients now and then",
                  "set \"fabric\" to \"iwarp\": the same clients connect to it, at the same address");
  }
  return ok(listener.text() + " is on " + port_text(port) + ", ACTIVE" +
            (port.software ? ", software only" : ""));
}

}  // namespace

Findings check_rdma_modules(const Patient& patient) {
  std::string missing;
  for (const Module& module : kModules) {
    if (patient.host.kind(module.trace)) continue;
    if (patient.host.kind(std::string("/sys/module/") + module.name)) continue;
    missing += (missing.empty() ? "" : " ") + std::string(module.name);
  }
  if (missing.empty()) return {ok("rdma_ucm and ib_uverbs are loaded")};
  return {failed("verbs listeners need kernel modules that are not loaded: " + missing,
                 "\"modprobe -a " + missing +
                     "\" now, and \"systemctl enable rdma-load-modules@rdma\" or a file in "
                     "/etc/modules-load.d for the next start")};
}

Findings check_rdma_devices(const Patient& patient) {
  Findings found;
  for (const PoolListener& one : patient.listeners) {
    if (!one.verbs()) continue;
    if (patient.rdma.empty()) {
      found.push_back(failed("listener " + one.text() + ": this host has no RDMA device at all",
                             how_to_get_a_device(one.address ? one.address->interface : "eth0")));
    } else if (one.address) {
      found.push_back(check_device(patient, one, *one.address));
    } else if (std::ranges::none_of(patient.rdma, &RdmaPort::active)) {
      found.push_back(failed("listener " + one.text() + ": no port of an RDMA device is ACTIVE",
                             "\"rdma link\" shows them; see to the interfaces and cables"));
    } else if (one.everywhere()) {
      found.push_back(ok(one.text() + " is on every RDMA device"));
    }
  }
  if (found.empty()) found.push_back(skipped("this host does not have the listeners' addresses"));
  return found;
}

Findings check_rdma_rights(const Patient& patient) {
  if (patient.pool->worker.user.empty()) return {ok("workers keep the daemon's user, root")};
  std::string closed;
  for (const std::string& name : patient.host.list("/dev/infiniband")) {
    const std::string path = "/dev/infiniband/" + name;
    if (name.starts_with("uverbs") && !patient.host.is_open_to_all(path))
      closed += (closed.empty() ? "" : ", ") + path;
  }
  if (closed.empty()) return {ok("workers may open the RDMA devices")};
  return {warning(
      "not every user may open " + closed + ", and workers run as \"" + patient.pool->worker.user +
          "\": without a right to it they refuse every client",
      "let rdma-core's udev rules set its mode 0666 (package rdma-core; \"udevadm trigger\"), or make the "
      "user a member of the device's group")};
}

Findings check_locked_memory(const Patient& patient) {
  if (!patient.daemon) return {skipped("the daemon does not run; the limit is its own")};
  if (patient.pool->worker.user.empty() && patient.host.is_root())
    return {ok("workers run as root, without a limit")};
  const auto limits = patient.host.read("/proc/" + std::to_string(patient.daemon->pid) + "/limits");
  if (!limits) return {skipped("the daemon's limits cannot be read: " + limits.error().text())};
  constexpr std::string_view kName = "Max locked memory";
  for (const std::string& line : words_of(*limits, "\n")) {
    if (!line.starts_with(kName)) continue;
    const auto words = words_of(std::string_view(line).substr(kName.size()));
    if (words.empty()) break;
    if (words[0] == "unlimited") return {ok("memory may be locked without limit")};
    uint64_t bytes = 0;
    std::from_chars(words[0].data(), words[0].data() + words[0].size(), bytes);
    const std::string what =
        "the daemon may lock " + std::to_string(bytes >> 10) + " KiB of memory for RDMA devices";
    const std::string fix =
        "\"LimitMEMLOCK=infinity\" in the unit (or \"ulimit -l unlimited\" before it is started), then "
        "restart it";
    if (bytes < kLeastLocked) return {failed(what + ", too little to serve clients", fix)};
    const uint64_t wanted = patient.pool->worker.buffered_bytes_per_worker;
    if (bytes < wanted) {
      return {warning(what + ", and a worker may want " + std::to_string(wanted >> 10) +
                          " KiB "
                          "(/limits/buffered_bytes_per_worker)",
                      fix)};
    }
    return {ok(what)};
  }
  return {skipped("the daemon's limits do not tell of locked memory")};
}

}  // namespace smbdirect::daemon::doctor
