// SPDX-License-Identifier: MIT
#include "daemon/config/pool_keys.h"

#include <array>
#include <limits>

#include "protocol/proxy/smbdirect_area.h"

namespace smbdirect::daemon {
namespace {

using std::string_view;

constexpr std::array<string_view, 2> kAffinities{"client", "spread"};
constexpr std::array<string_view, 4> kModes{"transparent", "handoff", "connect", "channel"};
constexpr std::array<string_view, 2> kFabrics{"iwarp", "verbs"};
constexpr std::array<string_view, 5> kLevels{"error", "warning", "notice", "info", "debug"};

constexpr uint64_t kHour = 3'600'000;
constexpr uint64_t kMostStreamBytes = 0xFFFFFF;  // the length word of smbd's stream has 24 bits
constexpr uint64_t kU32 = std::numeric_limits<uint32_t>::max();

constexpr Key object(string_view pointer, string_view help, bool required = false) {
  return {.pointer = pointer, .type = KeyType::object, .help = help, .required = required};
}

/// Where a key's value lives, and so when a change of it applies.
struct Place {
  Slot (*slot)(PoolConfig&, size_t);
  Applies applies;
};
constexpr Key integer(string_view pointer, uint64_t min, uint64_t max, Place place, string_view help) {
  return {.pointer = pointer,
          .type = KeyType::integer,
          .help = help,
          .min = min,
          .max = max,
          .slot = place.slot,
          .applies = place.applies};
}
constexpr Key automatic(Key key) {
  key.automatic = true;
  return key;
}
constexpr Key other(string_view pointer, KeyType type, Place place, string_view help, bool required = false) {
  return {.pointer = pointer,
          .type = type,
          .help = help,
          .required = required,
          .slot = place.slot,
          .applies = place.applies};
}
constexpr Key choice(string_view pointer, std::span<const string_view> choices, Place place,
                     string_view help) {
  return {.pointer = pointer,
          .type = KeyType::choice,
          .help = help,
          .choices = choices,
          .slot = place.slot,
          .applies = place.applies};
}

// The row's member, written once: IN_POOL(workers) is a function from a configuration to its slot. What the
// supervisor reads where it uses it changes at once (IN_POOL); what workers are started with, with new
// workers (IN_WORKERS, and IN_POOL_FOR_WORKERS for what they are not told); what something was made from when
// the daemon started, not before it starts again (FIXED).
#define SLOT_OF(member) [](PoolConfig& config, size_t) -> Slot { return &config.member; }
#define IN_POOL(member) \
  Place { SLOT_OF(member), Applies::now }
#define IN_WORKERS(member) \
  Place { SLOT_OF(worker.member), Applies::to_workers }
#define IN_POOL_FOR_WORKERS(member) \
  Place { SLOT_OF(member), Applies::to_workers }
#define FIXED(member) \
  Place { SLOT_OF(member), Applies::at_restart }
#define IN_LISTENER(member)                                                                   \
  Place {                                                                                     \
    [](PoolConfig& config, size_t index) -> Slot { return &config.listeners[index].member; }, \
        Applies::at_restart                                                                   \
  }

const std::array kKeys{
    automatic(
        integer("/workers", 1, 64, IN_POOL(workers),
                "How many worker processes are started before the first connection. \"auto\": one for each "
                "processor that the daemon may use when it reads the file.")),
    other("/placement", KeyType::processors, IN_POOL_FOR_WORKERS(placement),
          "Which processors workers run on. \"none\": the system decides, and may move them. \"auto\": each "
          "on one "
          "of those near the network devices of the listeners' addresses (on their NUMA node), in turn. A "
          "list: each on "
          "one of these, in turn."),
    other("/user", KeyType::text, IN_WORKERS(user),
          "The user that workers run as when the daemon is started as root; empty: the user \"smbdirect\" if "
          "this system has it, otherwise the daemon's own."),
    other("/run_directory", KeyType::text, FIXED(run_directory),
          "The directory for the control socket and other files that exist only while the daemon runs; "
          "created if missing. It must belong to root or to the daemon's own user, and must not be writable "
          "by others. Several daemons may share it, but then smbdirectctl reaches only the first."),
    choice("/affinity", kAffinities, IN_POOL(affinity),
           "How a worker is chosen for a connection. \"client\": the worker that already serves the client's "
           "address, otherwise the one with the fewest connections; \"spread\": always the one with the "
           "fewest."),

    Key{.pointer = "/listeners",
        .type = KeyType::objects,
        .help = "The addresses and ports to listen on.",
        .required = true},
    other("/listeners/*/address", KeyType::address, IN_LISTENER(address),
          "The local address. \"0.0.0.0\" is every IPv4 address, \"::\" every IPv6 address (but no IPv4 "
          "one). An "
          "address that this host does not have now is served once it comes, as in a cluster.",
          true),
    integer("/listeners/*/port", 0, 65535, IN_LISTENER(port),
            "The port. SMB Direct uses 5445 over iWARP and 445 over RoCE and InfiniBand; if \"fabric\" is "
            "\"verbs\" and no port is given, it is 445. 0: the system chooses one, and the log names it."),
    choice("/listeners/*/fabric", kFabrics, IN_LISTENER(fabric),
           "How RDMA is done. \"iwarp\": iWARP in userspace over ordinary TCP; \"verbs\": an RDMA device "
           "(RoCE, InfiniBand, iWARP) through rdma-core, to which the address must belong."),

    object("/upstream", "The smbd that connections are carried to.", true),
    choice(
        "/upstream/mode", kModes, FIXED(upstream_mode),
        "How smbd is reached. \"transparent\": a connection to the listening smbd on this host that "
        "carries the client's own address, so that \"hosts allow\", logs and smbstatus are right; needs "
        "CAP_NET_ADMIN, adds a rule and a table to the host's routing, and sets a sysctl. \"handoff\": the "
        "same through an \"smbd -i\" for each connection, with no change to the routing, but without "
        "durable handles; needs root. \"connect\": an ordinary TCP connection, also to another host; smbd "
        "sees the worker's address, and the lists below replace \"hosts allow\". \"channel\": no "
        "smbd, but a server that uses smbdirect_peer(3) and whose main process registers at the control "
        "socket."),
    other("/upstream/address", KeyType::address, IN_WORKERS(upstream_address),
          "smbd's address. Required with \"connect\"; otherwise the default is the address that the client "
          "connected to."),
    integer("/upstream/port", 1, 65535, IN_WORKERS(upstream_port), "smbd's port."),
    integer("/upstream/connect_timeout_ms", 10, 60'000, IN_WORKERS(upstream_connect_timeout_ms),
            "How long smbd may take to accept a connection; after that the client is disconnected."),
    other("/upstream/allow", KeyType::networks, IN_POOL(access.allow),
          "Networks whose clients may connect. Empty: all clients, and smbd decides; with mode \"connect\": "
          "loopback only, so the key is required there when a listener is not on loopback."),
    other("/upstream/deny", KeyType::networks, IN_POOL(access.deny),
          "Networks whose clients are refused, even if \"allow\" includes them."),

    object("/upstream/transparent",
           "What mode \"transparent\" adds to the host's routing, and removes when the daemon ends."),
    integer("/upstream/transparent/mark", 1, kU32, FIXED(transparent.mark),
            "The mark (SO_MARK) of the daemon's connections to smbd; nothing else may use it."),
    integer("/upstream/transparent/table", 1, kU32, FIXED(transparent.table),
            "The routing table that makes every address local for that mark; nothing else may use it."),
    integer("/upstream/transparent/priority", 1, 32765, FIXED(transparent.priority),
            "The priority of the routing rule that selects the table. A lower one comes first; no rule "
            "that takes smbd's packets, such as \"from\" one of its addresses, may come before it. CTDB's "
            "13.per_ip_routing has 100."),

    object("/upstream/handoff", "How mode \"handoff\" starts smbd."),
    other("/upstream/handoff/smbd", KeyType::text, FIXED(handoff.smbd), "The smbd program."),
    other("/upstream/handoff/testparm", KeyType::text, FIXED(handoff.testparm),
          "The testparm program, by which the settings in smb.conf are read."),
    other("/upstream/handoff/configfile", KeyType::text, FIXED(handoff.configfile),
          "The smb.conf of the listening smbd; empty: Samba's default."),
    other("/upstream/handoff/pid_directory", KeyType::text, FIXED(handoff.pid_directory),
          "The directory of the listening smbd's pid file; empty: testparm is asked for it."),
    integer("/upstream/handoff/processes", 1, 65536, FIXED(handoff.processes),
            "The most \"smbd -i\" processes at one time."),
    integer("/upstream/handoff/rate_per_client", 0, 65536, IN_POOL(handoff.rate_per_client),
            "How many \"smbd -i\" processes per second one client may cause on average; the most at once is "
            "the larger of /limits/connections_per_client and ten seconds' worth. Connections that reach a "
            "session do not count. 0: no limit."),

    object("/upstream/area",
           "Large READs and WRITEs of clients whose smbd has vfs_smbdirect(8) on this host: smbd reads and "
           "writes the files' bytes in memory shared with the worker, and they do not pass through the "
           "connection to smbd. Not in mode \"channel\"."),
    other("/upstream/area/enabled", KeyType::boolean, IN_WORKERS(module_area),
          "Whether that is done, on shares that have the module."),
    integer("/upstream/area/threshold", 1, kMostStreamBytes, IN_WORKERS(module_area_threshold),
            "A READ or WRITE of at least this many bytes goes that way."),
    integer("/upstream/area/bytes", 1 << 20, SMBDIRECT_AREA_LIMIT, IN_WORKERS(module_area_bytes),
            "Size of the shared memory of each connection. RDMA devices lock all of it in memory; with the "
            "iwarp fabric only what is used of it takes memory."),
    integer("/upstream/area/bytes_per_worker", 1 << 20, 1ull << 50, IN_WORKERS(module_area_bytes_per_worker),
            "The most bytes of shared memory per worker; what a connection beyond that transfers passes "
            "through its connection to smbd."),
    other("/upstream/area/huge_pages", KeyType::boolean, IN_WORKERS(module_area_huge_pages),
          "Whether it is made of huge pages while the system has enough of them set aside "
          "(vm.nr_hugepages): devices and processors then need few entries for it. Without, or with "
          "\"bytes\" that is not a multiple of their size, it is made of ordinary pages."),
    other("/upstream/area/directory", KeyType::text, FIXED(module_directory),
          "Where the modules listen: smbdirect:directory of smb.conf. Nobody but root and the daemon's own "
          "user may write there. Made by the daemon if it lies in /run_directory."),

    object(
        "/upstream/direct",
        "READs and WRITEs of clients whose smbd has vfs_smbdirect(8) on this host, of files that smbd has "
        "opened for them with a lease or oplock on which it would check and break nothing: smbd passes the "
        "open file on, and the worker reads and writes it. Not in mode \"channel\"."),
    other("/upstream/direct/enabled", KeyType::boolean, IN_WORKERS(direct),
          "Whether that is done, on shares that have the module."),
    integer("/upstream/direct/files", 1, SMBDIRECT_SLOTS_MAX, IN_WORKERS(direct_files),
            "The most open files of one connection that its worker has. READs and WRITEs of a file beyond "
            "that, or beyond the limit of open files of the process (LimitNOFILE of the unit), go to smbd."),
    integer(
        "/upstream/direct/busy_poll_us", 0, 10'000, IN_WORKERS(direct_busy_poll_us),
        "How long a worker that has done a READ or WRITE itself looks for what its client does next before "
        "it sleeps, at most, in microseconds. It learns how long is worth it: nothing where clients take "
        "longer than this. Higher values reduce latency and cost CPU time; 0: it sleeps at once."),

    object("/upstream/channel", "The channels of mode \"channel\" between workers and a server's processes."),
    integer(
        "/upstream/channel/area_bytes", 1 << 20, 1 << 30, IN_WORKERS(native_area_bytes),
        "Size of the data area of each connection: memory shared with the server, which RDMA reads and "
        "writes. RDMA devices lock all of it in memory; with the iwarp fabric only what is used of it takes "
        "memory."),
    integer("/upstream/channel/area_bytes_per_worker", 1 << 20, 1ull << 50,
            IN_WORKERS(native_area_bytes_per_worker),
            "The most bytes of data areas per worker; a connection beyond that is refused."),
    integer("/upstream/channel/operations", 1, 4096, IN_WORKERS(native_operations),
            "RDMA operations that the server may have in flight on one connection."),

    object("/smbdirect", "Limits of the SMB Direct protocol (MS-SMBD 3.1.1.1)."),
    integer("/smbdirect/receive_credit_initial", 1, 65535, IN_WORKERS(receive_credit_initial),
            "Receive credits granted at the start of a connection."),
    integer("/smbdirect/receive_credit_max", 1, 65535, IN_WORKERS(receive_credit_max),
            "The most receive credits that a connection is granted; they grow with use. Each costs "
            "max_receive_size bytes."),
    integer("/smbdirect/send_credit_target", 1, 65535, IN_WORKERS(send_credit_target),
            "Credits requested from the client (CreditsRequested)."),
    integer("/smbdirect/max_send_size", 128, 1 << 20, IN_WORKERS(max_send_size),
            "Largest SMB Direct message sent, in bytes (PreferredSendSize)."),
    integer("/smbdirect/max_receive_size", 128, 1 << 20, IN_WORKERS(max_receive_size),
            "Largest SMB Direct message received, in bytes (MaxReceiveSize)."),
    integer("/smbdirect/max_fragmented_size", 131072, kMostStreamBytes, IN_WORKERS(max_fragmented_size),
            "Largest SMB2 message received in fragments, in bytes (MaxFragmentedSize)."),
    integer("/smbdirect/max_read_write_size", 65536, kMostStreamBytes, IN_WORKERS(max_read_write_size),
            "Largest RDMA transfer, in bytes (MaxReadWriteSize)."),
    integer("/smbdirect/negotiate_timeout_ms", 100, kHour, IN_WORKERS(negotiate_timeout_ms),
            "How long the SMB Direct negotiate request may take."),
    integer("/smbdirect/idle_timeout_ms", 100, 24 * kHour, IN_WORKERS(idle_timeout_ms),
            "After how long without a message from the client a keepalive is sent."),
    integer("/smbdirect/keepalive_timeout_ms", 100, kHour, IN_WORKERS(keepalive_timeout_ms),
            "How long the client may take to answer a keepalive. Over iWARP, TCP ends a connection whose "
            "client acknowledges nothing for the sum of both times."),
    integer("/smbdirect/send_credit_timeout_ms", 100, kHour, IN_WORKERS(send_credit_timeout_ms),
            "How long a client may grant no credit while data waits for it and no byte moves (MS-SMBD's Send "
            "Credit Grant Timer; the 5000 ms of MS-SMBD would disconnect clients that are suspended for a "
            "moment)."),

    object("/iwarp", "iWARP (RFC 5040 to 5044, RFC 6581)."),
    other("/iwarp/crc", KeyType::boolean, IN_WORKERS(iwarp_crc),
          "Ask for CRC32C in every FPDU. It is used when either side asks for it. Set it to false for signed "
          "or sealed sessions from Linux's siw, which computes a CRC wrongly when TCP delivers it in two "
          "pieces, and then ends the connection."),
    integer("/iwarp/max_inbound_reads", 1, 16383, IN_WORKERS(iwarp_max_inbound_reads),
            "The client's RDMA Reads that are served at once (IRD)."),
    integer("/iwarp/max_outbound_reads", 1, 16383, IN_WORKERS(iwarp_max_outbound_reads),
            "RDMA Reads to the client outstanding at once (ORD)."),

    object("/verbs", "RDMA devices (listeners whose fabric is \"verbs\")."),
    integer("/verbs/max_outbound_reads", 1, 255, IN_WORKERS(verbs_max_outbound_reads),
            "RDMA Reads to the client outstanding at once, if the device and the client allow that many."),
    integer("/verbs/busy_poll_us", 0, 10'000, IN_WORKERS(verbs_busy_poll_us),
            "How long a worker polls for further completions, in microseconds, before it sleeps. Higher "
            "values reduce latency and cost CPU time."),
    integer("/verbs/device_idle_ms", 0, kHour, IN_WORKERS(verbs_device_idle_ms),
            "A worker closes a device that has had no connections for this long. Some devices cannot be "
            "removed while they are open."),

    object("/limits", "Limits on clients."),
    integer("/limits/connections", 1, 65536, FIXED(worker.connections), "Connections of the whole pool."),
    integer("/limits/connections_per_client", 1, 65536, IN_POOL(connections_per_client),
            "Connections of one client: of an IPv4 address, or of an IPv6 network (ipv6_prefix_length)."),
    integer(
        "/limits/connections_without_session", 0, 65536, IN_POOL(connections_without_session),
        "Connections of the whole pool that have no SMB2 session yet; 0: half of connections, but at "
        "least 32. When all these places are taken, a new connection takes the place of the oldest one of "
        "the client that holds the most; if no client holds many more than the others, only once that "
        "one is a second old."),
    integer("/limits/connection_rate_per_client", 0, 65536, IN_POOL(connection_rate_per_client),
            "How many connections per second one client may open on average; the most at once is the larger "
            "of connections_per_client and ten seconds' worth. Connections that reach a session do not "
            "count. 0: no limit."),
    integer("/limits/ipv6_prefix_length", 1, 128, FIXED(worker.ipv6_prefix_length),
            "How many bits of an IPv6 address identify a client, for the limits per client and for "
            "affinity: a host that has one address usually has a whole /64 of them. Use 128 to tell apart "
            "clients that share a network, if none of them is hostile."),
    integer("/limits/handshake_timeout_ms", 100, kHour, IN_WORKERS(handshake_timeout_ms),
            "How long each step of setting up a connection may take: the set-up of the fabric, then the "
            "client's first SMB2 message, then, in the upstream mode \"channel\", finding the server process "
            "of that client. At least 3000 leaves time for a new process when those that serve the client do "
            "not answer."),
    integer(
        "/limits/progress_timeout_ms", 100, 24 * kHour, IN_WORKERS(progress_timeout_ms),
        "How long a client may make no progress while it has to send the data of an RDMA Read, to receive "
        "what is sent to it, or to complete a message that it has begun. Any byte is progress, so slow "
        "clients are not disconnected."),
    integer("/limits/upstream_progress_timeout_ms", 1000, 24 * kHour,
            IN_WORKERS(upstream_progress_timeout_ms),
            "How long smbd may read nothing of what waits to be sent to it. Any byte restarts the time."),
    integer("/limits/session_timeout_ms", 100, kHour, IN_WORKERS(session_timeout_ms),
            "How long a client may take to set up its first SMB2 session, counted from its connecting."),
    integer("/limits/buffered_bytes_per_connection", 1 << 20, uint64_t{1} << 40,
            IN_WORKERS(buffered_bytes_per_connection),
            "The most bytes buffered for one connection. Before the client has a session it is 1 MiB."),
    integer("/limits/buffered_bytes_per_worker", 1 << 20, uint64_t{1} << 44,
            IN_WORKERS(buffered_bytes_per_worker),
            "The most bytes buffered by one worker for all its connections. The connections of one client "
            "(/limits/ipv6_prefix_length) may have a quarter of what is free. When others wait for memory, "
            "the connection whose buffered bytes have not moved for the longest time is ended."),

    object("/restart", "What happens when a worker ends or does not answer."),
    integer("/restart/backoff_increment_s", 0, 86400, IN_POOL(restart.backoff_increment_s),
            "The first restart is immediate; each further one waits this much longer (smb.conf's \"prefork "
            "backoff increment\")."),
    integer("/restart/maximum_backoff_s", 0, 86400, IN_POOL(restart.maximum_backoff_s),
            "The longest wait before a restart (smb.conf's \"prefork maximum backoff\")."),
    integer("/restart/healthy_s", 0, 86400, IN_POOL(restart.healthy_s),
            "A worker that was ready for this long is restarted without a wait."),
    integer("/restart/ready_timeout_ms", 100, kHour, IN_POOL(restart.ready_timeout_ms),
            "How long a worker may take to become ready."),
    integer("/restart/ping_interval_ms", 10, kHour, IN_POOL(restart.ping_interval_ms),
            "How often workers are pinged."),
    integer("/restart/ping_timeout_ms", 10, kHour, IN_POOL(restart.ping_timeout_ms),
            "A worker that does not answer pings for this long is killed and restarted."),

    object("/shutdown", "How the daemon ends."),
    integer("/shutdown/stop_deadline_ms", 0, kHour, IN_POOL(stop_deadline_ms),
            "On SIGTERM: how long workers may take to close their connections."),
    integer("/shutdown/drain_deadline_ms", 0, kU32, IN_POOL(drain_deadline_ms),
            "On SIGQUIT: how long workers wait for clients to leave; 0: without limit."),

    object("/control",
           "The control socket, at which smbdirectctl asks: the file \"control\" in /run_directory."),
    other("/control/group", KeyType::text, IN_POOL(control_group),
          "The group whose members may ask what smbdirectctl shows (status, workers, connections, clients, "
          "metrics, top) without being root; what changes the pool stays for root and the daemon's own user. "
          "Empty: the group \"smbdirect-status\" if this system has it, otherwise none."),

    object("/log", "The log, on standard error."),
    choice("/log/level", kLevels, IN_POOL(worker.log_level), "The least severe messages that are written."),
};
#undef SLOT_OF
#undef IN_POOL
#undef IN_WORKERS
#undef IN_POOL_FOR_WORKERS
#undef FIXED
#undef IN_LISTENER

}  // namespace

std::span<const Key> pool_keys() { return kKeys; }

}  // namespace smbdirect::daemon
