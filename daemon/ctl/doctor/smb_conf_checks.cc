// SPDX-License-Identifier: MIT
// What smb.conf says of SMB Direct: whether clients ask for it, and whether data then goes by RDMA.
#include <algorithm>

#include "daemon/ctl/doctor/announcement.h"
#include "daemon/ctl/doctor/checks.h"

namespace smbdirect::daemon::doctor {
namespace {

const std::vector<std::string> kRequired{"required", "mandatory", "force", "forced"};

constexpr const char* kReload = "; then \"smbcontrol smbd reload-config\"";
constexpr const char* kTrusted = ", where the network may be trusted";

std::string in_conf(const Patient& patient, const std::string& line, const char* condition = "") {
  return "set in [global] of " + patient.smb_conf_name() + condition + ":\n" + line +
         "\nthen \"smbcontrol smbd reload-config\"";
}

}  // namespace

Findings check_smb_conf(const Patient& patient) {
  if (!patient.smbd_elsewhere.empty())
    return {skipped("smbd is on another host, " + patient.smbd_elsewhere + ", and so is its smb.conf")};
  if (patient.smb_conf) return {ok("Samba accepts " + patient.smb_conf_name())};
  if (patient.testparm.empty()) {
    return {warning(
        "there is no testparm on this host, so smb.conf cannot be looked at",
        "install Samba's testparm (Debian: samba-common-bin), or name it in /upstream/handoff/testparm")};
  }
  return {failed(patient.smb_conf.error().text(),
                 "\"" + patient.testparm + " -s\" shows what is wrong in it; correct it and restart smbd")};
}

Findings check_multichannel(const Patient& patient) {
  if (patient.smb_conf->is_yes("server multi channel support"))
    return {ok("\"server multi channel support\" is on")};
  return {
      failed("\"server multi channel support\" is off: no Windows client is told that this server has RDMA",
             in_conf(patient, "server multi channel support = yes"))};
}

Findings check_interfaces(const Patient& patient) {
  const auto announced = patient.smb_conf->interfaces();
  const std::string line = interfaces_line(patient);
  for (const AnnouncedInterface& one : announced) {
    // Without quotes the words behind ';' are items of their own.
    if (one.name.starts_with("capability=") || one.name.starts_with("speed=")) {
      return {failed("\"interfaces\" has \"" + one.name +
                         "\" as an interface of its own: the quotes are missing around "
                         "\"INTERFACE;capability=...\"",
                     in_conf(patient, line))};
    }
  }
  if (patient.all_on_loopback()) return {skipped("clients of this host alone need no announcement")};
  Findings found;
  for (const PoolListener& listener : patient.listeners) {
    if (shm::is_loopback(listener.host) || (!listener.everywhere() && !listener.address)) continue;
    const auto item = std::ranges::find_if(announced, [&](const AnnouncedInterface& one) {
      return one.rdma && (listener.everywhere() || one.covers(*listener.address));
    });
    if (item == announced.end()) {
      found.push_back(failed("\"interfaces\" does not announce RDMA on " + listener.config.address +
                                 ": no Windows client asks for it (Linux clients with \"-o rdma\" do)",
                             in_conf(patient, line)));
    } else if (item->speed ? *item->speed == 0
                           : listener.address && !link_speed(patient.host, listener.address->interface)) {
      found.push_back(
          warning("\"interfaces\" announces RDMA on " + listener.config.address +
                      " without a speed, and the "
                      "kernel does not know it: clients leave such an interface out or rank it wrongly",
                  in_conf(patient, line)));
    }
    if (!found.empty()) return found;
  }
  // A client that is told of RDMA tries it, and waits before it does without.
  for (const Host::Address& address : patient.addresses) {
    const auto announces = [&](const AnnouncedInterface& one) { return one.rdma && one.covers(address); };
    const auto listens = [&](const PoolListener& one) {
      return one.address ? one.address->interface == address.interface
                         : one.everywhere() && shm::is_ipv4(one.host) == shm::is_ipv4(address.host);
    };
    if (std::ranges::none_of(announced, announces) || std::ranges::any_of(patient.listeners, listens))
      continue;
    return {warning("\"interfaces\" announces RDMA on " + address.interface + " (" +
                        shm::host_text(address.host) +
                        "), where the pool has no listener: clients try it there in vain",
                    "add a listener with that address to the pool file, or take capability=RDMA from " +
                        address.interface + " in " + patient.smb_conf_name() + kReload)};
  }
  return {ok("\"interfaces\" announces RDMA on every listener's address")};
}

Findings check_smb_ports(const Patient& patient) {
  const auto ports = patient.smb_conf->ports();
  const uint16_t wanted = patient.pool->worker.upstream_port;
  std::string have;
  for (const uint16_t port : ports) have += (have.empty() ? "" : " ") + std::to_string(port);
  if (!ports.empty() && std::ranges::find(ports, wanted) == ports.end()) {
    return {failed(
        "smbd listens on port " + have + ", and the pool's /upstream/port is " + std::to_string(wanted),
        "\"smb ports\" in " + patient.smb_conf_name() + " and /upstream/port have to name the same")};
  }
  if (wanted == 139) {
    return {failed("/upstream/port is 139, on which smbd speaks NetBIOS first", "set /upstream/port to 445")};
  }
  return {ok("smbd listens on port " + std::to_string(wanted))};
}

Findings check_protocol(const Patient& patient) {
  const std::string most = patient.smb_conf->global("server max protocol");
  const std::string least = patient.smb_conf->global("server min protocol");
  if (!most.empty() && !same_word(most.substr(0, 4), "SMB3") && !same_word(most, "default")) {
    return {failed("\"server max protocol\" is " + most + ", and SMB Direct needs SMB3",
                   in_conf(patient, "server max protocol = SMB3"))};
  }
  if (is_one_of(least, {"CORE", "COREPLUS", "LANMAN1", "LANMAN2", "NT1"})) {
    return {warning("\"server min protocol\" is " + least +
                        ": clients of SMB1 never use SMB Direct, and nobody else needs it",
                    in_conf(patient, "server min protocol = SMB2_02"))};
  }
  return {ok("SMB3 is on")};
}

Findings check_signing(const Patient& patient) {
  if (!is_one_of(patient.smb_conf->global("server signing"), kRequired))
    return {ok("smbd does not demand signing")};
  return {warning(
      "\"server signing\" is required: all data goes inside messages, none by RDMA",
      in_conf(patient, "server signing = auto", kTrusted) +
          ". Windows 11 24H2 and Server 2025 demand signing by themselves: \"Set-SmbClientConfiguration "
          "-RequireSecuritySignature $false\" there")};
}

Findings check_encryption(const Patient& patient) {
  Findings found;
  std::string value = patient.smb_conf->global("server smb encrypt");
  if (value.empty()) value = patient.smb_conf->global("smb encrypt");
  if (is_one_of(value, kRequired)) {
    return {warning("\"server smb encrypt\" is required: all data goes inside messages, none by RDMA",
                    in_conf(patient, "server smb encrypt = default", kTrusted))};
  }
  if (same_word(value, "desired")) {
    found.push_back(warning(
        "\"server smb encrypt\" is desired: clients that can encrypt do, and their data then does not "
        "go by RDMA",
        in_conf(patient, "server smb encrypt = default", kTrusted)));
  }
  auto shares = patient.smb_conf->shares_with("server smb encrypt", kRequired);
  for (const std::string& name : patient.smb_conf->shares_with("smb encrypt", kRequired))
    shares.push_back(name);
  std::string names;
  for (const std::string& name : shares) names += " [" + name + "]";
  if (!names.empty()) {
    found.push_back(
        warning("encryption is required in" + names + ": their data goes inside messages, none by RDMA",
                "\"server smb encrypt = default\" there, where the network may be trusted"));
  }
  if (found.empty()) found.push_back(ok("smbd does not demand encryption"));
  return found;
}

}  // namespace smbdirect::daemon::doctor
