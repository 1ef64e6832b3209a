// SPDX-License-Identifier: MIT
#include "workers/connect/stats.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace smbdirect::workers::connect {

namespace {

std::string padded(std::string_view text, size_t width, bool right = false) {
  std::string out(text);
  if (out.size() < width) out.insert(right ? 0 : out.size(), width - out.size(), ' ');
  return out;
}

uint64_t rate(uint64_t before, uint64_t after, uint64_t interval_ms) {
  return (after - std::min(before, after)) * 1000 / std::max<uint64_t>(1, interval_ms);
}

}  // namespace

std::string bytes_text(uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text.data();
}

std::string stats_text(const Counters& counters) {
  std::string out = "to the server:   " + bytes_text(counters.rdma_read_bytes) + " by RDMA READ, " +
                    bytes_text(counters.bytes_inline_sent) + " inside messages\n" +
                    "from the server: " + bytes_text(counters.rdma_write_bytes) + " by RDMA WRITE, " +
                    bytes_text(counters.bytes_inline_received) + " inside messages\n";
  for (const auto& row : Counters::table()) {
    out += "  " + padded(row.name, 22) + padded(std::to_string(counters.*row.field), 16, true) + "  " +
           std::string(row.help) + "\n";
  }
  return out;
}

std::string stats_json(const Counters& counters) {
  std::string out = "{";
  for (const auto& row : Counters::table()) {
    if (out.size() > 1) out += ", ";
    out += "\"" + std::string(row.name) + "\": " + std::to_string(counters.*row.field);
  }
  return out + "}";
}

std::string progress_line(const Counters& before, const Counters& after, uint64_t interval_ms,
                          size_t connections) {
  const auto moved = [&](uint64_t Counters::* field) {
    return rate(before.*field, after.*field, interval_ms);
  };
  const uint64_t up_rdma = moved(&Counters::rdma_read_bytes);
  const uint64_t up_inline = moved(&Counters::bytes_inline_sent);
  const uint64_t down_rdma = moved(&Counters::rdma_write_bytes);
  const uint64_t down_inline = moved(&Counters::bytes_inline_received);
  if (up_rdma + up_inline + down_rdma + down_inline == 0) return {};
  return "to the server " + bytes_text(up_rdma + up_inline) + "/s (" + bytes_text(up_rdma) +
         "/s by RDMA), from it " + bytes_text(down_rdma + down_inline) + "/s (" + bytes_text(down_rdma) +
         "/s by RDMA), " + std::to_string(connections) + (connections == 1 ? " connection" : " connections");
}

}  // namespace smbdirect::workers::connect
