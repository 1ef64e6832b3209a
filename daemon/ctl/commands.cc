// SPDX-License-Identifier: MIT
#include "daemon/ctl/commands.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon {
namespace {

constexpr std::array kWorkerColumns{
    CtlColumn{"SLOT", "slot"},
    CtlColumn{"PID", "pid"},
    CtlColumn{"STATE", "state"},
    CtlColumn{"DRAINED", "drained"},
    CtlColumn{"GENERATION", "generation"},
    CtlColumn{"CONNECTIONS", "open_connections"},
    CtlColumn{"HEARTBEAT_MS", "heartbeat_age_ms"},
    CtlColumn{"REQUESTS", "smb_requests"},
    CtlColumn{"RDMA_READ", "rdma_read_bytes"},
    CtlColumn{"RDMA_WRITE", "rdma_write_bytes"},
};
constexpr std::array kConnectionColumns{
    CtlColumn{"NUMBER", "number"},
    CtlColumn{"WORKER", "worker"},
    CtlColumn{"CLIENT", "client"},
    CtlColumn{"LOCAL", "local"},
    CtlColumn{"PHASE", "phase"},
    CtlColumn{"CLIENT_GUID", "guid"},
    CtlColumn{"AGE_MS", "age_ms"},
    CtlColumn{"REQUESTS", "requests"},
    CtlColumn{"INLINE_IN", "inline_in"},
    CtlColumn{"INLINE_OUT", "inline_out"},
    CtlColumn{"RDMA_READ", "rdma_read"},
    CtlColumn{"RDMA_WRITE", "rdma_write"},
    CtlColumn{"AREA_IN", "area_in"},
    CtlColumn{"AREA_OUT", "area_out"},
    CtlColumn{"AREA", "area", "area_reason"},
    CtlColumn{"DIRECT_IN", "direct_in"},
    CtlColumn{"DIRECT_OUT", "direct_out"},
    CtlColumn{"DIRECT_READS", "direct_reads"},
    CtlColumn{"DIRECT_WRITES", "direct_writes"},
    CtlColumn{"DIRECT_FILES", "direct_files"},
    CtlColumn{"DIRECT", "direct", "direct_reason"},
};
constexpr std::array kClientColumns{
    CtlColumn{"CLIENT_GUID", "guid"},    CtlColumn{"STATE", "state"},
    CtlColumn{"ADDRESSES", "addresses"}, CtlColumn{"CHANNELS", "channels"},
    CtlColumn{"WORKERS", "workers"},     CtlColumn{"SMBD", "smbd"},
    CtlColumn{"INLINE_IN", "inline_in"}, CtlColumn{"INLINE_OUT", "inline_out"},
    CtlColumn{"RDMA_READ", "rdma_read"}, CtlColumn{"RDMA_WRITE", "rdma_write"},
    CtlColumn{"DIRECT_IN", "direct_in"}, CtlColumn{"DIRECT_OUT", "direct_out"},
    CtlColumn{"DIRECT", "direct"},
};

constexpr std::array kChangeColumns{
    CtlColumn{"KEY", "key"},
    CtlColumn{"FROM", "from"},
    CtlColumn{"TO", "to"},
    CtlColumn{"APPLIES", "applies"},
};

constexpr std::array kTable{
    CtlRow{CtlCommand::status, "status", "the daemon and its totals", {}},
    CtlRow{CtlCommand::workers, "workers", "every worker and what it has done", kWorkerColumns},
    CtlRow{CtlCommand::connections, "connections", "every SMB Direct connection", kConnectionColumns},
    CtlRow{CtlCommand::clients, "clients", "every client and the smbd that serves it", kClientColumns},
    CtlRow{.command = CtlCommand::resize,
           .name = "resize",
           .help = "change how many workers there are; the file stays as it is",
           .columns = {},
           .argument = "N",
           .number = true,
           .changes = true},
    CtlRow{.command = CtlCommand::reload,
           .name = "reload",
           .help = "read the pool file again and apply what has changed",
           .columns = kChangeColumns,
           .changes = true,
           .nothing = "nothing has changed"},
    CtlRow{.command = CtlCommand::drain,
           .name = "drain",
           .help = "let a worker, or all, take no more connections",
           .columns = {},
           .argument = "[SLOT]",
           .number = true,
           .changes = true},
    CtlRow{.command = CtlCommand::undrain,
           .name = "undrain",
           .help = "let a worker, or all, take connections again",
           .columns = {},
           .argument = "[SLOT]",
           .number = true,
           .changes = true},
    CtlRow{.command = CtlCommand::kick,
           .name = "kick",
           .help = "end a connection by its number, or all of a ClientGuid or an address",
           .columns = {},
           .argument = "WHOSE",
           .changes = true},
    CtlRow{.command = CtlCommand::leave,
           .name = "leave",
           .help = "end the connections to a local address, and refuse new ones",
           .columns = {},
           .argument = "ADDRESS",
           .changes = true,
           .sentence = "{connections} connections to {address} were ended; new ones are refused until "
                       "smbdirectctl take {address}",
           .patience_s = 15},
    CtlRow{.command = CtlCommand::take,
           .name = "take",
           .help = "let connections to a local address in again",
           .columns = {},
           .argument = "ADDRESS",
           .changes = true,
           .sentence = "connections to {address} are let in"},
    CtlRow{.command = CtlCommand::log_level,
           .name = "log-level",
           .help = "log less or more: error, warning, notice, info or debug",
           .columns = {},
           .argument = "LEVEL",
           .changes = true},
    // The daemon answers in time, whatever becomes of the new one; this is for one that is stopped itself.
    CtlRow{.command = CtlCommand::upgrade,
           .name = "upgrade",
           .help = "let a new daemon take over the listeners, and this one finish what it has",
           .columns = {},
           .changes = true,
           .patience_s = 3 * 3600},
};

constexpr std::array kOwnTable{
    OwnRow{OwnCommand::top, "top", "what each worker and client moves, drawn anew each second", true},
    OwnRow{OwnCommand::metrics, "metrics", "the daemon's figures and its workers', as Prometheus reads them",
           true},
    OwnRow{OwnCommand::doctor, "doctor", "find what makes SMB Direct fail on this host, and say what to do"},
};

std::string names() {
  std::string text;
  for (const CtlRow& row : kTable) text += (text.empty() ? "" : ", ") + std::string(row.name);
  return text;
}

}  // namespace

std::span<const CtlRow> ctl_table() { return kTable; }
std::span<const OwnRow> own_table() { return kOwnTable; }

std::expected<CtlRequest, std::string> parse_request(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return std::unexpected("the request is not a JSON object on one line");
  CtlRequest request;
  bool named = false;
  for (const auto& [key, value] : json.items()) {
    if (key == "command" && value.is_string()) {
      const auto found = std::ranges::find(kTable, value.get<std::string>(), &CtlRow::name);
      if (found == kTable.end()) return std::unexpected("unknown command; allowed: " + names());
      request.command = found->command;
      named = true;
    } else if (key == "events" && value.is_boolean()) {
      request.events = value.get<bool>();
    } else if (key == "argument" && value.is_string()) {
      request.argument = value.get<std::string>();
    } else {
      return std::unexpected("a member of the request is unknown or has the wrong type");
    }
  }
  if (!named) return std::unexpected("the request has no \"command\"; allowed: " + names());
  if (request.events && request.command != CtlCommand::connections) {
    return std::unexpected("\"events\" is allowed only with the command \"connections\"");
  }
  const CtlRow& row = kTable[size_t(request.command)];
  if (request.argument && row.argument.empty())
    return std::unexpected("the command " + std::string(row.name) + " has no argument");
  if (!request.argument && !row.argument.empty() && !may_be_left_out(row.argument)) {
    return std::unexpected("the command " + std::string(row.name) + " needs an argument, " +
                           std::string(row.argument));
  }
  return request;
}

std::string request_text(const CtlRequest& request) {
  nlohmann::json json{{"command", ctl_table()[size_t(request.command)].name}};
  if (request.events) json["events"] = true;
  if (request.argument) json["argument"] = *request.argument;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace smbdirect::daemon
