// SPDX-License-Identifier: MIT
#include "daemon/ctl/metrics/metric_table.h"

#include "shm/counter_table.h"

namespace smbdirect::daemon::metrics {
namespace {

using std::string_view;
using enum Kind;

constexpr double kMilliseconds = 0.001;

MetricRow of_daemon(const char* name, Kind kind, string_view help, string_view member) {
  return {.name = name, .kind = kind, .help = help, .source = Source::status, .member = member};
}
/// A word of the daemon's or a worker's, as the label of a metric that is 1.
MetricRow word(MetricRow row, string_view label) {
  row.label = label;
  return row;
}
MetricRow labelled(MetricRow row, string_view label, string_view value) {
  row.label = label;
  row.label_value = value;
  return row;
}
MetricRow seconds(MetricRow row) {
  row.scale = kMilliseconds;
  return row;
}
MetricRow of_worker(MetricRow row) {
  row.source = Source::worker;
  return row;
}
MetricRow refused(string_view reason, string_view member) {
  return labelled(of_daemon("smbdirect_connections_refused_total", counter,
                            "Connections that were refused before a worker was asked, by the reason", member),
                  "reason", reason);
}

}  // namespace

std::vector<MetricRow> metric_table() {
  std::vector<MetricRow> rows{
      {.name = "smbdirect_up",
       .kind = gauge,
       .help = "Whether smbdirectd answered",
       .source = Source::asking},
      word(of_daemon("smbdirect_build_info", gauge, "The version of smbdirectd", "version"), "version"),
      word(of_daemon("smbdirect_upstream_info", gauge, "How smbd is reached (/upstream/mode)", "upstream"),
           "mode"),
      word(of_daemon("smbdirect_phase", gauge,
                     "What the daemon is doing: starting, serving, draining or stopping", "phase"),
           "phase"),
      seconds(
          of_daemon("smbdirect_uptime_seconds", gauge, "How long the daemon has been running", "uptime_ms")),
      of_daemon("smbdirect_workers_wanted", gauge, "Workers that there are to be (/workers, or resize)",
                "workers"),
      of_daemon("smbdirect_workers_ready", gauge, "Workers that take connections", "workers_ready"),
      of_daemon("smbdirect_workers_started_total", counter, "Worker processes that were started",
                "workers_started"),
      of_daemon("smbdirect_workers_lost_total", counter,
                "Worker processes that ended though nobody had asked them to, or badly", "workers_lost"),

      of_daemon("smbdirect_connections_open", gauge, "Connections of clients that are open", "connections"),
      of_daemon("smbdirect_connections_pending", gauge,
                "Connections that are offered to workers and not taken yet", "pending"),
      of_daemon("smbdirect_connections_without_session", gauge,
                "Open connections whose client has not set up an SMB2 session yet", "without_session"),
      of_daemon("smbdirect_connections_accepted_total", counter, "Connections that clients opened",
                "accepted"),
      of_daemon("smbdirect_connections_granted_total", counter, "Connections that a worker was given",
                "granted"),
      refused("access", "refused_access"),
      refused("pool_limit", "refused_pool_limit"),
      refused("client_limit", "refused_client_limit"),
      refused("client_rate", "refused_client_rate"),
      refused("no_worker", "refused_no_worker"),
      refused("leaving", "refused_leaving"),
      of_daemon("smbdirect_connections_dropped_for_room_total", counter,
                "Connections without a session that were ended so that others have room", "made_room"),
      of_daemon("smbdirect_affinity_hits_total", counter,
                "Connections that went to the worker that had served their client before", "affinity_hits"),
      of_daemon("smbdirect_affinity_misses_total", counter,
                "Connections that could not go to the worker that had served their client before",
                "affinity_misses"),

      of_daemon("smbdirect_clients", gauge, "Clients, known by their ClientGuid, that are connected",
                "clients"),
      of_daemon("smbdirect_client_addresses_learned_total", counter,
                "Further addresses that known clients came from", "addresses_learned"),
      of_daemon("smbdirect_smbd_asked_total", counter,
                "Connections to smbd that workers asked the daemon for", "smbd_asked"),
      of_daemon("smbdirect_smbd_opened_total", counter,
                "Connections to smbd that the daemon opened for workers", "smbd_opened"),
      of_daemon("smbdirect_smbd_failed_total", counter, "Connections to smbd that the daemon could not open",
                "smbd_failed"),
      of_daemon("smbdirect_modules_asked_total", counter,
                "Links to smbds' modules that workers asked the daemon for", "modules_asked"),
      of_daemon("smbdirect_modules_linked_total", counter,
                "Links to smbds' modules that the daemon gave to workers", "modules_linked"),
      of_daemon("smbdirect_processes_asked_total", counter,
                "Mode channel: processes that the server's main process was asked for", "processes_asked"),
      of_daemon("smbdirect_channels_passed_total", counter,
                "Mode channel: connections that were passed to the process of their client",
                "channels_passed"),

      word(of_worker(of_daemon("smbdirect_worker_state", gauge, "The state of each worker", "state")),
           "state"),
      of_worker(of_daemon("smbdirect_worker_drained", gauge, "Whether the worker was drained by command",
                          "drained")),
      of_worker(of_daemon("smbdirect_worker_connections_open", gauge, "Connections that the worker has",
                          "open_connections")),
      seconds(
          of_worker(of_daemon("smbdirect_worker_heartbeat_age_seconds", gauge,
                              "How long ago the worker last showed that its loop runs", "heartbeat_age_ms"))),
      {.name = "smbdirect_operation_duration_seconds",
       .kind = histogram,
       .help = "How long operations take: those of smbd, without requests that it says it keeps waiting, and "
               "those "
               "of RDMA",
       .source = Source::worker,
       .member = "latency",
       .label = "operation"},
  };
  for (const shm::CounterRow& row : shm::kCounterTable) {
    rows.push_back({.name = shm::metric_name(row),
                    .kind = row.kind == shm::CounterKind::counter ? counter : gauge,
                    .help = row.help,
                    .source = Source::worker,
                    .member = row.name});
  }
  return rows;
}

}  // namespace smbdirect::daemon::metrics
