// SPDX-License-Identifier: MIT
#include "daemon/ctl/top/frame.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <utility>

namespace smbdirect::daemon::top {
namespace {

/// How wide the columns are; more of a client is told where there is room.
struct Columns {
  size_t name = 22;       // of a worker, or of a client and its workers
  size_t guid = 0;        // 0: ClientGuids are not shown
  size_t of_workers = 7;  // the part of name that says which workers a client has
};
constexpr size_t kFigures = 57;
constexpr size_t kLongName = 24;  // more: an IPv6 address in full
constexpr size_t kGuid = 38;

Columns columns_for(size_t width) {
  Columns columns;
  if (width >= columns.name + kLongName + kFigures) columns.name += kLongName;
  if (width >= columns.name + kGuid + kFigures) columns.guid = kGuid;
  return columns;
}

std::string left(std::string text, size_t width) {
  text.resize(width, ' ');
  return text;
}

std::string right(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

std::string number(uint64_t value) { return std::to_string(value); }

std::string count_text(uint64_t count, const char* what) {
  return number(count) + " " + what + (count == 1 ? "" : "s");
}

constexpr std::array<size_t, kFlows> kWidths{9, 10, 11, 11, 11};

std::string figures(const std::string& connections, const Rates* rates) {
  std::string text = right(connections, 5);
  for (size_t i = 0; i < kFlows; ++i)
    text += right(rates == nullptr ? "-" : short_number((*rates)[i]), kWidths[i]);
  return text;
}

std::string titles() {
  constexpr std::array<const char*, kFlows> kTitles{"REQUESTS", "INLINE_IN", "INLINE_OUT", "RDMA_READ",
                                                    "RDMA_WRITE"};
  std::string text = right("CONN", 5);
  for (size_t i = 0; i < kFlows; ++i) text += right(kTitles[i], kWidths[i]);
  return text;
}

std::vector<Line> heading(const Reading& now, const PoolRates& rates) {
  const double read = rates.all[size_t(Flow::inline_out)] + rates.all[size_t(Flow::rdma_write)];
  const double written = rates.all[size_t(Flow::inline_in)] + rates.all[size_t(Flow::rdma_read)];
  const bool well = now.phase == "serving" && now.workers_ready >= now.workers_wanted;
  return {
      {.text = "smbdirectd " + now.version + ": " + now.phase + " for " + duration_text(now.uptime_ms) +
               ", " + number(now.workers_ready) + " of " + count_text(now.workers_wanted, "worker") +
               " ready",
       .emphasis = well ? Emphasis::none : Emphasis::alarm},
      {.text = count_text(now.connections.size(), "connection") + " of " + count_text(now.clients, "client") +
               "; to clients " + short_number(read) + "B/s, from clients " + short_number(written) + "B/s"},
      {.text = "listening on " + now.listeners},
      {},
      {.text = "Per second. RDMA_READ is what clients write, RDMA_WRITE what they read."}};
}

std::string state_text(const WorkerRates& worker) {
  return worker.drained && worker.state == "ready" ? "drained" : worker.state;
}

std::vector<Line> worker_lines(const PoolRates& rates, const Columns& columns) {
  std::vector<Line> lines;
  uint64_t connections = 0;
  for (const WorkerRates& worker : rates.workers) {
    const bool well = worker.state == "ready" || worker.state == "draining";
    connections += worker.connections;
    lines.push_back(
        {.text = left(left(number(worker.slot), 8) + state_text(worker), columns.name + columns.guid) +
                 figures(number(worker.connections), worker.rates ? &*worker.rates : nullptr),
         .emphasis = well ? Emphasis::none : Emphasis::alarm});
  }
  if (rates.workers.size() > 1)
    lines.push_back(
        {.text = left("all", columns.name + columns.guid) + figures(number(connections), &rates.all)});
  return lines;
}

/// One of its addresses, cut to the width, and how many more it has.
std::string client_name(const ClientRates& client, size_t width) {
  const std::string more =
      client.addresses.size() > 1 ? "+" + number(client.addresses.size() - 1) : std::string();
  std::string name = client.addresses.empty() ? "-" : *client.addresses.begin();
  name.resize(std::min(name.size(), width - std::min(width, more.size())));
  return left(name + more, width);
}

std::string workers_text(const ClientRates& client, size_t width) {
  std::string text;
  for (const uint64_t slot : client.workers) text += (text.empty() ? "" : ",") + number(slot);
  return text.size() < width ? text : "many";
}

std::vector<Line> client_lines(const PoolRates& rates, const Columns& columns) {
  std::vector<Line> lines;
  const size_t address = columns.name - columns.of_workers;
  for (const ClientRates& client : rates.clients) {
    std::string text = client_name(client, address - 1) + " " +
                       left(workers_text(client, columns.of_workers), columns.of_workers);
    if (columns.guid > 0) text += left(client.guid.empty() ? " -" : " " + client.guid, columns.guid);
    lines.push_back({.text = text + figures(number(client.connections), &client.rates)});
  }
  return lines;
}

/// Keeps as many as there is room for; a line says how many are left out.
void append(std::vector<Line>& lines, std::vector<Line> more, size_t room, const char* what) {
  const size_t all = more.size();
  if (all > room) {
    more.resize(room == 0 ? 0 : room - 1);
    if (room > 0) more.push_back({.text = "... and " + count_text(all - more.size(), what) + " more"});
  }
  std::ranges::move(more, std::back_inserter(lines));
}

}  // namespace

std::string short_number(double value) {
  constexpr std::array<const char*, 7> kUnits{"", "k", "M", "G", "T", "P", "E"};
  size_t unit = 0;
  // 999.5 is written as 1.00 of the next unit.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  const int digits = unit == 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f%s", digits, value, kUnits[unit]);
  return text.data();
}

std::string duration_text(uint64_t milliseconds) {
  const uint64_t seconds = milliseconds / 1000;
  std::array<char, 48> text{};
  const auto two = [&](const char* format, uint64_t major, uint64_t minor) {
    std::snprintf(text.data(), text.size(), format, static_cast<unsigned long long>(major),
                  static_cast<unsigned long long>(minor));
    return std::string(text.data());
  };
  if (seconds < 60) return number(seconds) + "s";
  if (seconds < 3600) return two("%llum %02llus", seconds / 60, seconds % 60);
  if (seconds < 86400) return two("%lluh %02llum", seconds / 3600, seconds / 60 % 60);
  return two("%llud %lluh", seconds / 86400, seconds / 3600 % 24);
}

std::vector<Line> frame(const Reading& now, const PoolRates& rates, FrameSize size) {
  const Columns columns = columns_for(size.width);
  std::vector<Line> lines = heading(now, rates);
  lines.push_back(
      {.text = left("WORKER  STATE", columns.name + columns.guid) + titles(), .emphasis = Emphasis::heading});
  std::vector<Line> workers = worker_lines(rates, columns);
  std::vector<Line> clients = client_lines(rates, columns);
  if (clients.empty()) clients.push_back({.text = "no client is connected"});
  // Between the two tables are two lines; the clients have three at least.
  const size_t fixed = lines.size() + 2;
  const size_t room =
      size.height == 0 ? workers.size() + clients.size() : size.height - std::min(size.height, fixed);
  const size_t for_clients = std::min({clients.size(), size_t{3}, room / 2});
  append(lines, std::move(workers), room - for_clients, "worker");
  lines.push_back({});
  lines.push_back({.text = left(left("CLIENT", columns.name - columns.of_workers) + "WORKERS", columns.name) +
                           left(columns.guid == 0 ? "" : " CLIENT_GUID", columns.guid) + titles(),
                   .emphasis = Emphasis::heading});
  const size_t rest = size.height == 0 ? clients.size() : size.height - std::min(size.height, lines.size());
  append(lines, std::move(clients), rest, "client");
  if (size.height != 0 && lines.size() > size.height) lines.resize(size.height);
  for (Line& line : lines) line.text.resize(std::min(line.text.size(), size.width));
  return lines;
}

}  // namespace smbdirect::daemon::top
