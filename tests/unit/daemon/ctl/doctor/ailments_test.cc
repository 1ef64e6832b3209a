// SPDX-License-Identifier: MIT
// Prepared ailments: each is found by its check, as a failure or a warning, and told with its fix.
#include <functional>

#include <doctest/doctest.h>

#include "daemon/ctl/doctor/examination.h"
#include "tests/unit/daemon/ctl/doctor/ailment.h"

using namespace smbdirect::daemon;          // NOLINT: a test of one program's parts
using namespace smbdirect::daemon::doctor;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

void stop_daemon(FakeHost& host) {
  host.no_answer = {"cannot connect to '/run/smbdirectd/control': No such file or directory", 0};
  host.links.erase("/proc/700/fd/9");
  host.files.erase("/proc/700/comm");
  host.files["/proc/net/tcp"] = "  sl\n";
}

constexpr const char* kIwarp = R"({"address": "192.0.2.10", "port": 5445})";

const std::vector<Ailment>& ailments() {
  static const std::vector<Ailment> kAilments{
      // The pool file and the daemon.
      {"no pool file", [](FakeHost& h) { h.files.erase("/etc/smbdirectd/pool.json"); }, "pool-file",
       State::failed, "No such file", "--configfile"},
      {"a wrong key", [](FakeHost& h) { replace(h.files["/etc/smbdirectd/pool.json"], "user", "usr"); },
       "pool-file", State::failed, "pool.json:1: /usr is not a known key", "--check-config"},
      {"two wrong keys", [](FakeHost& h) { pool(h, R"({"address": "here", "port": 70000})"); }, "pool-file",
       State::failed, "/listeners/0/port", "correct it"},
      {"only loopback",
       [](FakeHost& h) {
         pool(h, R"({"address": "127.0.0.1", "port": 5445})");
         replace(h.files["/proc/net/tcp"], "0A0200C0", "0100007F");
         h.status_is("127.0.0.1 port 5445 (iwarp)");
         h.set_conf("interfaces", "");
       },
       "pool-file", State::warning, "every listener is on loopback", "the interface that clients use"},
      {"an unknown user",
       [](FakeHost& h) { replace(h.files["/etc/smbdirectd/pool.json"], "nobody", "smbd"); }, "pool-file",
       State::failed, "/user is \"smbd\", which this system does not know", "useradd --system smbd"},
      {"an unknown group of those who may ask",
       [](FakeHost& h) {
         replace(h.files["/etc/smbdirectd/pool.json"], R"({"user")",
                 R"({"control": {"group": "smb"}, "user")");
       },
       "pool-file", State::failed, "/control/group is \"smb\", which this system does not know",
       "groupadd --system smb"},
      {"a daemon with another pool file",
       [](FakeHost& h) {
         stop_daemon(h);
         h.files["/proc/700/comm"] = "smbdirectd\n";
         h.files["/proc/700/cmdline"] = std::string("smbdirectd\0-s\0/x.json\0", 23);
       },
       "daemon", State::failed, "another one runs: pid 700 (smbdirectd -s /x.json)", "--configfile"},
      {"devices that workers may not open",
       [](FakeHost& h) {
         h.use_verbs();
         h.closed_devices = {"/dev/infiniband/uverbs0"};
       },
       "rdma-rights", State::warning, "not every user may open /dev/infiniband/uverbs0", "udev"},
      {"a run directory for everybody",
       [](FakeHost& h) { h.not_ours = "directory '/run/smbdirectd' is writable by others"; }, "run-directory",
       State::failed, "writable by others", "chmod 0755 /run/smbdirectd"},
      {"the daemon does not run", stop_daemon, "daemon", State::failed, "does not run",
       "systemctl start smbdirectd"},
      {"the daemon is another user's",
       [](FakeHost& h) { h.no_answer = {"only root and the daemon's own user may use this socket", 0}; },
       "daemon", State::failed, "the daemon runs", "ask as root", false},
      {"no worker is ready", [](FakeHost& h) { h.status_is("192.0.2.10 port 5445 (iwarp)", 0); }, "daemon",
       State::failed, "none of its workers", "journalctl"},
      {"a worker is missing", [](FakeHost& h) { h.status_is("192.0.2.10 port 5445 (iwarp)", 3); }, "daemon",
       State::warning, "only 3 of 4 workers", "smbdirectctl workers"},
      {"it is draining", [](FakeHost& h) { h.status_is("192.0.2.10 port 5445 (iwarp)", 4, "draining"); },
       "daemon", State::failed, "\"draining\"", "start it again"},
      {"an older daemon still runs", [](FakeHost& h) { replace(h.answer, std::string(kVersion), "0.0.9"); },
       "daemon", State::warning, "version 0.0.9", "smbdirectctl upgrade"},
      {"it runs with another pool file", [](FakeHost& h) { h.status_is("192.0.2.99 port 5445 (iwarp)"); },
       "daemon-pool", State::failed, "no listener 192.0.2.10 port 5445 (it has: 192.0.2.99",
       "smbdirectctl upgrade"},
      {"not root", [](FakeHost& h) { h.root = false; }, "root", State::warning, "not run as root", "sudo"},
      // Listeners.
      {"an address that no interface has",
       [](FakeHost& h) { h.own_addresses.erase(h.own_addresses.begin() + 1); }, "addresses", State::failed,
       "no interface of this host has the address 192.0.2.10", "ip address"},
      {"another program has the port",
       [](FakeHost& h) {
         stop_daemon(h);
         h.listens("00000000:1545", 99);
         h.links["/proc/800/fd/3"] = "socket:[99]";
         h.files["/proc/800/comm"] = "nc\n";
       },
       "ports", State::failed, "192.0.2.10 port 5445 is taken by nc (pid 800)", "ss -ltnp sport = :5445",
       false},
      {"smbd has the port",
       [](FakeHost& h) {
         stop_daemon(h);
         pool(h, R"({"address": "192.0.2.10", "port": 445})");
         h.listens("00000000:01BD", 99);
         h.links["/proc/800/fd/3"] = "socket:[99]";
         h.files["/proc/800/comm"] = "smbd\n";
       },
       "ports", State::failed, "taken by smbd (pid 800)", "give an iwarp listener 5445", false},
      {"ksmbd has the port",
       [](FakeHost& h) {
         stop_daemon(h);
         h.kinds["/sys/module/ksmbd"] = Host::FileKind::directory;
         h.listens("00000000:1545", 0);
       },
       "ports", State::failed, "the kernel itself (ksmbd)", "stop it", false},
      {"it runs and does not listen", [](FakeHost& h) { h.files["/proc/net/tcp"] = "  sl\n"; }, "ports",
       State::failed, "nobody listens", "systemctl restart smbdirectd"},
      {"ksmbd is loaded",
       [](FakeHost& h) { h.kinds["/sys/class/ksmbd-control"] = Host::FileKind::directory; }, "ksmbd",
       State::warning, "is loaded", "modprobe -r ksmbd"},
      {"ksmbd runs beside verbs",
       [](FakeHost& h) {
         h.use_verbs();
         h.files["/sys/class/ksmbd-control/stats"] = "2 running 1 0\n";
       },
       "ksmbd", State::failed, "has the RDMA ports", "modprobe -r ksmbd"},
      {"a port that clients do not look for",
       [](FakeHost& h) {
         pool(h, R"({"address": "192.0.2.10", "port": 5446})");
         replace(h.files["/proc/net/tcp"], ":1545", ":1546");
         h.status_is("192.0.2.10 port 5446 (iwarp)");
       },
       "port-numbers", State::warning, "on port 5445 of iWARP", "5445"},
      {"SMB Direct does not work",
       [](FakeHost& h) { h.probe_trouble = "no SMB Direct with it: refused\nIs it running?\n"; }, "path",
       State::failed, "no SMB Direct with it: refused", "Is it running?"},
      // RDMA devices.
      {"no module",
       [](FakeHost& h) {
         h.use_verbs();
         h.kinds.erase("/sys/class/misc/rdma_cm");
       },
       "rdma-modules", State::failed, "rdma_ucm", "modprobe -a rdma_ucm"},
      {"no device",
       [](FakeHost& h) {
         h.use_verbs();
         std::erase_if(h.files, [](const auto& f) { return f.first.starts_with("/sys/class/infiniband/"); });
         h.kinds.erase("/sys/class/infiniband/mlx5_0/device");
       },
       "rdma-devices", State::failed, "no RDMA device at all", "netdev eth0"},
      {"a device at another interface",
       [](FakeHost& h) {
         h.use_verbs();
         h.files.erase("/sys/class/infiniband/mlx5_0/device/net/eth0");
         h.files["/sys/class/infiniband/mlx5_0/ports/1/gids/1"] = "fe80::1\n";
         h.files["/sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/1"] = "eth1\n";
       },
       "rdma-devices", State::failed, "eth0 has no RDMA device", "rdma link"},
      {"a port that is down",
       [](FakeHost& h) {
         h.use_verbs();
         h.files["/sys/class/infiniband/mlx5_0/ports/1/state"] = "1: DOWN\n";
       },
       "rdma-devices", State::failed, "mlx5_0 port 1 is DOWN", "ip link set eth0 up"},
      {"no GID for the address",
       [](FakeHost& h) {
         h.use_verbs();
         h.files["/sys/class/infiniband/mlx5_0/ports/1/gids/1"] = "fe80::1\n";
       },
       "rdma-devices", State::failed, "no GID for 192.0.2.10", "give it again"},
      {"siw that damages data",
       [](FakeHost& h) {
         h.use_verbs();
         h.kinds.erase("/sys/class/infiniband/mlx5_0/device");
         h.files.erase("/sys/class/infiniband/mlx5_0/device/net/eth0");
         h.files["/sys/class/infiniband/mlx5_0/node_type"] = "4: RNIC\n";
       },
       "rdma-devices", State::failed, "sends wrong bytes", "set \"fabric\" to \"iwarp\"", false},
      {"little locked memory",
       [](FakeHost& h) {
         h.use_verbs();
         h.files["/proc/700/limits"] =
             "Max locked memory         8388608              8388608              bytes     \n";
       },
       "locked-memory", State::failed, "8192 KiB", "LimitMEMLOCK=infinity"},
      {"less locked memory than a worker may want",
       [](FakeHost& h) {
         h.use_verbs();
         h.files["/proc/700/limits"] =
             "Max locked memory         134217728            134217728            bytes     \n";
       },
       "locked-memory", State::warning, "131072 KiB", "LimitMEMLOCK=infinity"},
      // smb.conf.
      {"smb.conf that Samba refuses", [](FakeHost& h) { h.conf_refused = "Error loading services."; },
       "smb-conf", State::failed, "does not accept smb.conf: Error loading services.",
       "/usr/bin/testparm -s"},
      {"no testparm", [](FakeHost& h) { h.kinds.erase("/usr/bin/testparm"); }, "smb-conf", State::warning,
       "no testparm", "samba-common-bin"},
      {"no multichannel", [](FakeHost& h) { h.set_conf("server multi channel support", "No"); },
       "multichannel", State::failed, "is off", "server multi channel support = yes"},
      {"no interfaces", [](FakeHost& h) { h.set_conf("interfaces", ""); }, "interfaces", State::failed,
       "does not announce RDMA on 192.0.2.10",
       "interfaces = \"eth0;capability=RSS,capability=RDMA,speed=25000000000\" \"lo\" \"eth1\""},
      {"interfaces without RDMA", [](FakeHost& h) { h.set_conf("interfaces", "eth0;capability=RSS eth1"); },
       "interfaces", State::failed, "no Windows client asks", "speed=25000000000\" \"eth1\" \"lo\"\n"},
      {"interfaces without quotes",
       [](FakeHost& h) { h.set_conf("interfaces", "eth0 capability=RDMA speed=1"); }, "interfaces",
       State::failed, "the quotes are missing", "\"eth0;capability=RSS,capability=RDMA"},
      {"a speed that nobody knows",
       [](FakeHost& h) {
         h.set_conf("interfaces", "192.0.2.0/24;capability=RDMA");
         h.files["/sys/class/net/eth0/speed"] = "-1\n";
       },
       "interfaces", State::warning, "without a speed", "speed=10000000000"},
      {"RDMA announced where nobody listens",
       [](FakeHost& h) { h.set_conf("interfaces", "eth*;capability=RDMA,speed=25000000000"); }, "interfaces",
       State::warning, "on eth1 (198.51.100.10)", "add a listener"},
      {"another port of smbd", [](FakeHost& h) { h.set_conf("smb ports", "4450"); }, "smb-ports",
       State::failed, "smbd listens on port 4450", "/upstream/port"},
      {"transports without TCP", [](FakeHost& h) { h.set_conf("server smb transports", "nbt, quic"); },
       "smb-ports", State::failed, "smbd listens on port 139", "smb ports"},
      {"no SMB3", [](FakeHost& h) { h.set_conf("server max protocol", "SMB2_10"); }, "protocol",
       State::failed, "SMB Direct needs SMB3", "server max protocol = SMB3"},
      {"SMB1", [](FakeHost& h) { h.set_conf("server min protocol", "NT1"); }, "protocol", State::warning,
       "SMB1", "server min protocol = SMB2_02"},
      {"signing is required", [](FakeHost& h) { h.set_conf("server signing", "required"); }, "signing",
       State::warning, "none by RDMA", "RequireSecuritySignature"},
      {"encryption is required", [](FakeHost& h) { h.set_conf("server smb encrypt", "required"); },
       "encryption", State::warning, "none by RDMA", "server smb encrypt = default"},
      {"a share requires encryption",
       [](FakeHost& h) { h.shares = "[a b]\n\tserver smb encrypt = mandatory\n"; }, "encryption",
       State::warning, "[a b]", "server smb encrypt = default"},
      // smbd.
      {"smbd does not run", [](FakeHost& h) { h.smbd_error = ECONNREFUSED; }, "smbd", State::failed,
       "192.0.2.10:445: connect: Connection refused", "systemctl start smbd"},
      {"mode connect and an smbd that refuses this host",
       [](FakeHost& h) {
         pool(h, kIwarp, R"("mode": "connect", "address": "127.0.0.1", "allow": ["192.0.2.0/24"])");
         h.smbd_says = "\x83";
       },
       "smbd", State::failed, "refuses this host", "/upstream/allow"},
      {"somebody else is on smbd's port", [](FakeHost& h) { h.smbd_says = "HTTP"; }, "smbd", State::failed,
       "no smbd", "ss -ltnp"},
      {"smbd speaks SMB2 only", [](FakeHost& h) { h.smbd_dialect_high = 2; }, "smbd", State::failed,
       "not agree to SMB3", "server max protocol"},
      {"smbd has not read its file", [](FakeHost& h) { h.smbd_capabilities = 1; }, "smbd", State::failed,
       "runs with older settings", "systemctl restart smbd"},
      {"a domain controller", [](FakeHost& h) { h.smbd_security_mode = 3; }, "smbd", State::warning,
       "demands signing", "server signing = auto"},
      // The module for smbd.
      {"the module is not installed",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.kinds.erase("/usr/lib/samba/vfs/smbdirect.so");
       },
       "vfs-module", State::failed, "there is no /usr/lib/samba/vfs/smbdirect.so: smbd lets nobody connect",
       "-Dvfs_directory=/usr/lib/samba; or take smbdirect out of smb.conf"},
      {"the module is not installed, and all shares have it",
       [](FakeHost& h) {
         h.set_conf("vfs objects", "smbdirect");
         h.kinds["/run/smbdirectd/smbd"] = Host::FileKind::directory;
       },
       "vfs-module", State::failed, "\"vfs objects\" of [share] has smbdirect", "scripts/setup module"},
      {"an upgrade of Samba",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.samba = "4.23.0";
       },
       "vfs-module", State::warning,
       "no build of vfs_smbdirect for Samba 4.23 (/usr/lib/samba/smbdirect/smbdirect-4.23.so): [share]",
       "scripts/setup module"},
      {"an smbd of before the upgrade",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.files["/proc/900/comm"] = "smbd\n";
         h.links["/proc/900/exe"] = "/usr/sbin/smbd (deleted)";
       },
       "vfs-module", State::warning, "smbd (pid 900) runs since before Samba was upgraded to 4.22",
       "systemctl restart smbd"},
      {"btrfs first",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.samba = "4.17.12-Debian";
         h.kinds["/usr/lib/samba/smbdirect/smbdirect-4.17.so"] = Host::FileKind::file;
         h.shares =
             "[old]\n\tvfs objects = full_audit btrfs smbdirect\n[new]\n\tvfs objects = smbdirect btrfs\n";
       },
       "vfs-objects", State::warning, "of [old] has btrfs before smbdirect", "put smbdirect before btrfs"},
      {"a share with a list of its own",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.set_conf("vfs objects", "smbdirect");
         h.shares =
             "[a]\n\tpath = /a\n[b]\n\tvfs objects = recycle\n[c]\n\tvfs objects =\n"
             "[d]\n\tvfs objects = catia smbdirect:x, btrfs\n[print]\n\tprintable = Yes\n\tvfs objects =\n";
       },
       "vfs-objects", State::warning, "and [b] [c] a list without it", "add smbdirect"},
      {"switched off in the pool file",
       [](FakeHost& h) {
         h.use_vfs_module();
         pool(h, kIwarp, R"("mode": "transparent", "area": {"enabled": false})");
       },
       "vfs-directory", State::warning, "no memory is shared", "set /upstream/area/enabled to true"},
      {"smbd does all itself",
       [](FakeHost& h) {
         h.use_vfs_module();
         pool(h, kIwarp, R"("mode": "transparent", "direct": {"enabled": false})");
       },
       "vfs-directory", State::warning, "smbd does each READ and WRITE itself",
       "set /upstream/direct/enabled to true"},
      {"two directories",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.set_conf("smbdirect:directory", "/run/other");
       },
       "vfs-directory", State::warning, "listen in /run/other (smbdirect:directory of smb.conf)",
       "set both to the same"},
      {"the directory is gone",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.kinds.erase("/run/smbdirectd/smbd");
       },
       "vfs-directory", State::warning, "is not there", "install -d -m 0700 /run/smbdirectd/smbd"},
      {"the directory is everybody's",
       [](FakeHost& h) {
         h.use_vfs_module();
         h.others_directories = {"/run/smbdirectd/smbd"};
       },
       "vfs-directory", State::warning, "is writable by others", "chmod 0700 /run/smbdirectd/smbd"},
      // What the upstream modes need.
      {"the rule is gone", [](FakeHost& h) { h.state_v4.our_rules.clear(); }, "upstream-mode", State::failed,
       "routing rule for the mark is gone", "systemctl restart smbdirectd"},
      {"the route is gone", [](FakeHost& h) { h.state_v4.our_routes.clear(); }, "upstream-mode",
       State::failed, "route in table 5342 is gone", "systemctl restart smbdirectd"},
      {"another's rule", [](FakeHost& h) { h.state_v4.conflict = "the rule \"x\" uses the mark"; },
       "upstream-mode", State::failed, "the rule \"x\"", "another mark"},
      {"the sysctl was set back",
       [](FakeHost& h) { h.files["/proc/sys/net/ipv4/tcp_fwmark_accept"] = "0\n"; }, "upstream-mode",
       State::failed, "tcp_fwmark_accept is 0", "sysctl net.ipv4.tcp_fwmark_accept=1"},
      {"a firewall on lo", [](FakeHost& h) { h.transparent_trouble = "it did not arrive"; }, "upstream-mode",
       State::failed, "it did not arrive", "nft list ruleset"},
      {"handoff without smbd",
       [](FakeHost& h) {
         pool(h, kIwarp, R"("mode": "handoff")");
         h.kinds.erase("/usr/sbin/smbd");
       },
       "upstream-mode", State::failed, "/usr/sbin/smbd', which is no program", "/upstream/handoff/smbd"},
      {"handoff and smbd is stopped",
       [](FakeHost& h) {
         pool(h, kIwarp, R"("mode": "handoff")");
         h.smbd_lock = 0;
       },
       "upstream-mode", State::failed, "no process has locked /run/samba/smbd.pid", "systemctl start smbd"},
      {"handoff with durable handles",
       [](FakeHost& h) {
         pool(h, kIwarp, R"("mode": "handoff")");
         h.durable_handles = true;
       },
       "upstream-mode", State::failed, "\"durable handles\" is on in [global]", "set it to \"no\""},
      {"no server has registered", [](FakeHost& h) { pool(h, kIwarp, R"("mode": "channel")"); },
       "upstream-mode", State::failed, "no server has registered", "libsmbdirect-peer"},
  };
  return kAilments;
}

}  // namespace

TEST_CASE("a healthy host has no ailment, with iwarp and with verbs, in every mode") {
  const std::vector<std::function<void(FakeHost&)>> healthy{
      [](FakeHost&) {},
      [](FakeHost& host) { host.use_verbs(); },
      [](FakeHost& host) {
        host.use_vfs_module();
        host.files["/proc/900/comm"] = "smbd\n";
        host.links["/proc/900/exe"] = "/usr/sbin/smbd";
      },
      [](FakeHost& host) {  // of all shares, in another directory
        host.use_vfs_module();
        host.shares = "[a]\n\tpath = /a\n[b]\n\tvfs objects = btrfs smbdirect\n";
        host.set_conf("vfs objects", "smbdirect");
        host.set_conf("smbdirect:directory", "/run/modules/");
        host.kinds["/run/modules"] = Host::FileKind::directory;
        pool(host, kIwarp, R"("mode": "transparent", "area": {"directory": "/run/modules"})");
      },
      [](FakeHost& host) { pool(host, kIwarp, R"("mode": "handoff")"); },
      [](FakeHost& host) { host.smbd_says = "\x83"; },  // smbd sees the clients' addresses
      [](FakeHost& host) {
        pool(host, kIwarp, R"("mode": "connect", "address": "127.0.0.1", "allow": ["192.0.2.0/24"])");
      },
      [](FakeHost& host) {
        pool(host, kIwarp, R"("mode": "connect", "address": "203.0.113.5", "allow": ["192.0.2.0/24"])");
        host.conf.clear();  // that is not its smb.conf
      },
      [](FakeHost& host) {
        pool(host, kIwarp, R"("mode": "channel")");
        host.status_is("192.0.2.10 port 5445 (iwarp)", 4, "serving", R"(,"main_process":55)");
      },
      [](FakeHost& host) {
        pool(host, R"({"address": "0.0.0.0", "port": 5445})");
        host.status_is("0.0.0.0 port 5445 (iwarp)");
        replace(host.files["/proc/net/tcp"], "0A0200C0", "00000000");
      },
  };
  for (const auto& prepare : healthy) {
    const std::string text = examination_text(check_healthy(prepare), false);
    CHECK(text.find("\nhealthy: ") != text.npos);
    CHECK(std::ranges::count(text, '\n') <= 7);
  }
}

TEST_CASE("each ailment is found by its check and told with its fix") {
  for (const Ailment& ailment : ailments()) check_found(ailment);
}

TEST_CASE("every check has an ailment, but those that only tell and those of ctdb_ailments_test.cc") {
  for (const CheckRow& row : check_table()) {
    const bool prepared =
        std::ranges::any_of(ailments(), [&](const Ailment& one) { return row.name == one.check; });
    INFO(row.name);
    CHECK((prepared || row.name == "versions" || row.name.starts_with("ctdb-")));
  }
}
