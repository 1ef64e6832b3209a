// SPDX-License-Identifier: MIT
#include "workers/connect/stats.h"

#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace smbdirect::workers::connect {

namespace {

/// A different number in every counter.
Counters distinct() {
  Counters counters;
  uint64_t value = 1000;
  for (const auto& row : Counters::table()) counters.*row.field = ++value;
  return counters;
}

}  // namespace

TEST_CASE("the JSON statistics are one object with every counter") {
  const Counters counters = distinct();
  const auto json = nlohmann::json::parse(stats_json(counters));
  CHECK(json.size() == Counters::table().size());
  for (const auto& row : Counters::table()) {
    CHECK(json.at(std::string(row.name)).get<uint64_t>() == counters.*row.field);
  }
}

TEST_CASE("the table of statistics has every counter and its meaning") {
  const Counters counters = distinct();
  const std::string text = stats_text(counters);
  for (const auto& row : Counters::table()) {
    CHECK(text.find(std::string(row.name)) != std::string::npos);
    CHECK(text.find(std::string(row.help)) != std::string::npos);
    CHECK(text.find(" " + std::to_string(counters.*row.field) + " ") != std::string::npos);
  }
}

TEST_CASE("sizes for people") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.0 KiB");
  CHECK(bytes_text(150 * 1024) == "150 KiB");
  CHECK(bytes_text(uint64_t{3} << 30) == "3.0 GiB");
}

TEST_CASE("progress: rates while data moves, nothing while it does not") {
  Counters before = distinct();
  Counters after = before;
  after.credits_granted += 10;
  CHECK(progress_line(before, after, 1000, 1).empty());
  after.rdma_read_bytes += 2u << 20;
  after.bytes_inline_sent += 1u << 20;
  after.rdma_write_bytes += 512u << 10;
  CHECK(progress_line(before, after, 500, 2) ==
        "to the server 6.0 MiB/s (4.0 MiB/s by RDMA), from it 1.0 MiB/s (1.0 MiB/s by RDMA), 2 connections");
}

}  // namespace smbdirect::workers::connect
