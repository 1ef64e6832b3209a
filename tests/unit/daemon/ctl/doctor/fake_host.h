// SPDX-License-Identifier: MIT
// A host in memory, healthy until a test prepares an ailment. Tests only.
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/build_paths.h"
#include "daemon/ctl/doctor/host.h"
#include "daemon/ctl/options.h"

namespace smbdirect::daemon::doctor {

inline const DoctorOptions kOptions{.config_file = "/etc/smbdirectd/pool.json",
                                    .connect_program = "/usr/bin/smbdirect-connect",
                                    .socket = ""};

class FakeHost final : public Host {
 public:
  /// A server at 192.0.2.10 (eth0), mode "transparent"; the daemon listens by its own iWARP, smbd on 445.
  FakeHost() {
    files["/etc/smbdirectd/pool.json"] =
        R"({"user": "nobody", "listeners": [{"address": "192.0.2.10", "port": 5445}], "upstream": {"mode": "transparent"}})";
    files["/proc/sys/kernel/osrelease"] = "6.12.118-amd64\n";
    files["/proc/sys/net/ipv4/tcp_fwmark_accept"] = "1\n";
    files["/proc/net/tcp"] = "  sl  local_address rem_address   st\n";
    listens("0A0200C0:1545", 77);
    files["/proc/700/comm"] = "smbdirectd\n";
    links["/proc/700/fd/9"] = "socket:[77]";
    files["/sys/class/net/eth0/speed"] = "25000\n";
    kinds["/usr/bin/testparm"] = kinds["/usr/sbin/smbd"] = kinds["/usr/bin/smbdirect-connect"] =
        FileKind::program;
    kinds["/run/smbdirectd"] = FileKind::directory;
    own_addresses = {
        {host("127.0.0.1"), "lo"}, {host("192.0.2.10"), "eth0"}, {host("198.51.100.10"), "eth1"}};
    state_v4.our_rules.emplace_back();
    state_v4.our_routes.emplace_back();
    status_is("192.0.2.10 port 5445 (iwarp)");
  }

  /// The same with an RDMA NIC of a RoCE port at eth0.
  void use_verbs() {
    files["/etc/smbdirectd/pool.json"] =
        R"({"user": "nobody", "listeners": [{"address": "192.0.2.10", "port": 445, "fabric": "verbs"}], "upstream": {"mode": "transparent"}})";
    status_is("192.0.2.10 port 445 (verbs)");
    kinds["/sys/class/misc/rdma_cm"] = kinds["/sys/class/infiniband_verbs"] = FileKind::directory;
    kinds["/dev/infiniband/uverbs0"] = FileKind::other;
    kinds["/sys/class/infiniband/mlx5_0/device"] = FileKind::directory;
    files["/sys/class/infiniband/mlx5_0/node_type"] = "1: CA\n";
    files["/sys/class/infiniband/mlx5_0/device/net/eth0"] = "";
    files["/sys/class/infiniband/mlx5_0/ports/1/state"] = "4: ACTIVE\n";
    files["/sys/class/infiniband/mlx5_0/ports/1/link_layer"] = "Ethernet\n";
    files["/sys/class/infiniband/mlx5_0/ports/1/gids/0"] = "0000:0000:0000:0000:0000:0000:0000:0000\n";
    files["/sys/class/infiniband/mlx5_0/ports/1/gids/1"] = "0000:0000:0000:0000:0000:ffff:c000:020a\n";
    files["/sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/1"] = "eth0\n";
    files["/proc/700/limits"] =
        "Max locked memory         unlimited            unlimited            bytes     \n";
  }

  static shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); }

  /// Another socket in state LISTEN. address: as /proc/net/tcp has it.
  void listens(const std::string& address, unsigned inode) {
    files["/proc/net/tcp"] += "   0: " + address +
                              " 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 " +
                              std::to_string(inode) + " 1 0000000000000000 100 0 0 10 0\n";
  }
  void status_is(const std::string& listeners, unsigned ready = 4, const std::string& phase = "serving",
                 const std::string& more = "") {
    answer = R"({"status":{"version":")" + std::string(kVersion) + R"(","pid":700,"phase":")" + phase +
             R"(","upstream":"transparent","workers":4,"workers_ready":)" + std::to_string(ready) +
             R"(,"listeners":")" + listeners + "\"" + more + "}}";
  }
  void set_conf(const std::string& parameter, const std::string& value) { conf[parameter] = value; }

  std::map<std::string, std::string> files;
  std::map<std::string, std::string> links;
  std::map<std::string, FileKind> kinds;  // of what is no file above
  std::vector<Address> own_addresses;
  std::map<std::string, std::string> conf{
      {"server multi channel support", "Yes"},
      {"interfaces", "eth0;capability=RSS,capability=RDMA,speed=25000000000 lo"},
      {"smb ports", "445 139"},
      {"server min protocol", "SMB2_02"},
      {"server max protocol", "SMB3"},
      {"server signing", "default"},
      {"server smb encrypt", "default"},
      {"pid directory", "/run/samba"},
  };
  std::string shares = "[share]\n\tpath = /srv\n";
  /// smb.conf has smbdirect on [share], and its files are there, for this Samba.
  void use_vfs_module() {
    shares = "[share]\n\tpath = /srv\n\tvfs objects = smbdirect\n";
    kinds["/usr/lib/samba/vfs/smbdirect.so"] = FileKind::file;
    kinds["/usr/lib/samba/smbdirect/smbdirect-4.22.so"] = FileKind::file;
    kinds["/run/smbdirectd/smbd"] = FileKind::directory;
  }
  std::string samba = "4.22.1-Debian";
  std::set<std::string> others_directories;  // that are not ours alone
  std::string conf_refused;                  // what testparm says instead
  bool durable_handles = false;
  std::string answer;  // the daemon's
  shm::Error no_answer;
  bool root = true;
  std::set<std::string> closed_devices;
  std::string not_ours;
  shm::Result<pid_t> smbd_lock = 900;
  int smbd_error = 0;              // of connect
  std::string smbd_says;           // instead of a NEGOTIATE response
  uint8_t smbd_security_mode = 1;  // signing enabled
  uint8_t smbd_capabilities = 0x08 | 0x01;
  uint8_t smbd_dialect_high = 3;
  RoutingState state_v4;
  std::string transparent_trouble;
  std::string probe_trouble;

  // Host
  bool is_root() override { return root; }
  bool has_user(const std::string& name) override { return name == "nobody"; }
  bool has_group(const std::string& name) override { return name == "adm"; }
  bool is_open_to_all(const std::string& path) override { return !closed_devices.contains(path); }
  shm::Result<std::string> read(const std::string& path) override {
    const auto found = files.find(path);
    if (found == files.end()) return shm::fail("'" + path + "'", ENOENT);
    return found->second;
  }
  std::vector<std::string> list(const std::string& directory) override {
    std::set<std::string> names;
    const auto take = [&](const auto& paths) {
      for (const auto& [path, what] : paths) {
        if (!path.starts_with(directory + "/")) continue;
        const std::string rest = path.substr(directory.size() + 1);
        names.insert(rest.substr(0, rest.find('/')));
      }
    };
    take(files);
    take(links);
    take(kinds);
    return {names.begin(), names.end()};
  }
  std::string link(const std::string& path) override { return links.contains(path) ? links[path] : ""; }
  std::optional<FileKind> kind(const std::string& path) override {
    if (const auto found = kinds.find(path); found != kinds.end()) return found->second;
    if (files.contains(path)) return FileKind::file;
    return list(path).empty() ? std::nullopt : std::optional(FileKind::directory);
  }
  shm::Result<> is_ours_alone(const std::string& directory) override {
    if (others_directories.contains(directory))
      return shm::fail("directory '" + directory + "' is writable by others");
    return not_ours.empty() ? shm::Result<>{} : shm::fail(not_ours);
  }
  shm::Result<pid_t> lock_holder(const std::string& /*path*/) override { return smbd_lock; }
  std::vector<Address> addresses() override { return own_addresses; }
  shm::Result<ProgramOutput> run(const std::string& program,
                                 const std::vector<std::string>& arguments) override {
    const auto has = [&](const char* word) { return std::ranges::find(arguments, word) != arguments.end(); };
    if (program.ends_with("smbdirect-connect")) {
      ran = arguments;
      if (probe_trouble.empty())
        return ProgramOutput{0, "SMB Direct works.\n  set up within     0.50 ms\n", ""};
      return ProgramOutput{1 << 8, "", "smbdirect-connect: " + probe_trouble};
    }
    if (has("--version")) return ProgramOutput{0, "Version " + samba + "\n", ""};
    if (has("-b"))
      return ProgramOutput{0, "Paths:\n   SBINDIR: /usr/sbin\n   MODULESDIR: /usr/lib/samba\n", ""};
    if (!conf_refused.empty()) return ProgramOutput{1 << 8, "", conf_refused};
    std::string text = "# Global parameters\n[global]\n";
    for (const auto& [name, value] : conf) text += "\t" + name + " = " + value + "\n";
    if (durable_handles) text += "\tdurable handles = Yes\n";
    return ProgramOutput{0, text + "\n" + shares, ""};
  }
  shm::Result<std::string> ask(const std::string& /*socket*/) override {
    if (!no_answer.what.empty()) return std::unexpected(no_answer);
    return answer;
  }
  shm::Result<std::vector<std::byte>> exchange(const sockaddr_storage& /*to*/,
                                               std::span<const std::byte> /*message*/) override {
    if (smbd_error != 0) return shm::fail("connect", smbd_error);
    std::vector<std::byte> message;
    for (const char c : smbd_says) message.push_back(std::byte(c));
    if (!smbd_says.empty()) return message;
    message.resize(4 + 128);
    message[4] = std::byte{0xfe};
    for (size_t i = 0; i < 3; ++i) message[5 + i] = std::byte("SMB"[i]);
    message[20] = std::byte{1};  // a response
    message[68 + 2] = std::byte(smbd_security_mode);
    message[68 + 4] = std::byte{2};
    message[68 + 5] = std::byte(smbd_dialect_high);
    message[68 + 24] = std::byte(smbd_capabilities);
    return message;
  }
  shm::Result<RoutingState> routing(int /*family*/, const PoolConfig& /*pool*/) override { return state_v4; }
  shm::Result<> try_transparent(int /*family*/, const PoolConfig& /*pool*/) override {
    return transparent_trouble.empty() ? shm::Result<>{} : shm::fail(transparent_trouble);
  }

  std::vector<std::string> ran;  // of smbdirect-connect
};

}  // namespace smbdirect::daemon::doctor
