// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/announcement.h"

#include <algorithm>

#include "shm/base/number.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr uint64_t kSupposedSpeed = 10'000'000'000;  // where nobody knows

void add(std::vector<std::string>& items, const std::string& item) {
  if (std::ranges::find(items, item) == items.end()) items.push_back(item);
}

/// Those that the listeners stand for, but lo, at which no client looks for us.
std::vector<std::string> rdma_interfaces(const Patient& patient) {
  std::vector<std::string> names;
  for (const PoolListener& listener : patient.listeners) {
    if (listener.address && !shm::is_loopback(listener.host)) add(names, listener.address->interface);
    if (!listener.everywhere()) continue;
    for (const Host::Address& address : patient.addresses) {
      const auto serves = [&](const RdmaPort& port) { return port.serves(address); };
      const bool carries =
          !shm::is_loopback(address.host) && (!listener.verbs() || std::ranges::any_of(patient.rdma, serves));
      if (carries) add(names, address.interface);
    }
  }
  return names;
}

}  // namespace

std::optional<uint64_t> link_speed(Host& host, const std::string& interface) {
  const auto text = host.read("/sys/class/net/" + interface + "/speed");
  if (!text) return std::nullopt;
  const auto megabits = shm::number_from_text<uint64_t>(trimmed(*text));
  if (!megabits || *megabits == 0) return std::nullopt;
  return *megabits * 1'000'000;
}

std::string interfaces_line(const Patient& patient) {
  const auto rdma = rdma_interfaces(patient);
  std::vector<std::string> items;
  for (const std::string& name : rdma) {
    add(items, name + ";capability=RSS,capability=RDMA,speed=" +
                   std::to_string(link_speed(patient.host, name).value_or(kSupposedSpeed)));
  }
  const auto is_rdma = [&](const Host::Address& address) {
    return std::ranges::find(rdma, address.interface) != rdma.end();
  };
  if (patient.smb_conf) {
    // What is set stays, but for what stands for these interfaces or is a rest of missing quotes.
    const auto announced = patient.smb_conf->interfaces();
    const auto texts = patient.smb_conf->interface_items();
    for (size_t i = 0; i < announced.size(); ++i) {
      const bool replaced = std::ranges::any_of(patient.addresses, [&](const Host::Address& address) {
        return is_rdma(address) && announced[i].covers(address);
      });
      if (!replaced && announced[i].name.find('=') == std::string::npos) add(items, texts[i]);
    }
  }
  const bool names_some = patient.smb_conf && !patient.smb_conf->interface_items().empty();
  for (const Host::Address& address : patient.addresses) {
    // Without the line smbd announces every interface; with it, those that it names.
    if (!is_rdma(address) && (!names_some || address.interface == "lo")) add(items, address.interface);
  }
  std::string line = "interfaces =";
  for (const std::string& item : items) line += " \"" + item + "\"";
  return line;
}

std::string smb_conf_lines(const Patient& patient) {
  std::string text =
      "# For [global] of smb.conf: what tells clients of RDMA. Then \"testparm\", and \"smbcontrol smbd "
      "reload-config\".\n"
      "server multi channel support = yes\n"
      "# Windows clients ask for RDMA only on interfaces that are announced with it. The quotes are needed; "
      "speed is\n"
      "# in bit/s";
  std::string unknown;
  for (const std::string& name : rdma_interfaces(patient)) {
    if (!link_speed(patient.host, name)) unknown += (unknown.empty() ? "" : ", ") + name;
  }
  text += unknown.empty()
              ? ".\n"
              : ", and supposed for " + unknown + ", whose speed the kernel does not know: correct it.\n";
  text += patient.all_on_loopback()
              ? "# (Every listener of the pool file is on loopback: nothing to announce.)\n"
              : interfaces_line(patient) + "\n";
  text +=
      "# Signed and encrypted sessions work, but their data does not go by RDMA. Where the network may be "
      "trusted,\n"
      "# do not require either. (Windows 11 24H2 and Server 2025 demand signing by themselves; on such "
      "clients\n"
      "# \"Set-SmbClientConfiguration -RequireSecuritySignature $false\" ends that.)\n"
      "# server signing = auto\n"
      "# server smb encrypt = default\n";
  return text;
}

}  // namespace smbdirect::daemon::doctor
