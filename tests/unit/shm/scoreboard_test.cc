// SPDX-License-Identifier: MIT
#include "shm/scoreboard.h"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <set>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "shm/scoreboard_layout.h"

namespace shm = smbdirect::shm;

namespace {

constexpr shm::ScoreboardIdentity kWorker{3, 7, 4711};

shm::ConnectionRow row_number(uint64_t number) {
  shm::ConnectionRow row;
  row.connection = shm::ConnectionId{number};
  row.phase = shm::ConnectionPhase(number % shm::kConnectionPhases.size());
  row.peer.fill(uint8_t(number));
  row.peer_port = uint16_t(number + 1);
  row.upstream_local_port = uint16_t(number + 2);
  row.upstream_remote_port = 445;
  row.guid.bytes.fill(std::byte(number + 3));
  row.since_ms = number + 4;
  row.receive_credits = uint32_t(number + 5);
  row.send_credits = uint32_t(number + 6);
  row.requests = number + 7;
  row.area = shm::AreaState(number % shm::kAreaStates.size());
  row.direct = shm::DirectState(number % shm::kDirectStates.size());
  row.direct_files = uint32_t(number + 14);
  row.direct_reads = number + 15;
  row.direct_writes = number + 16;
  for (size_t i = 0; i < row.bytes.size(); ++i) row.bytes[i] = number + 20 + i;
  return row;
}

/// What opening this header says, with room for two rows.
std::string refusal(const shm::ScoreboardHeader& header) {
  const shm::UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(fd.get(), off_t(shm::scoreboard_bytes(2))) == 0);
  REQUIRE(pwrite(fd.get(), &header, sizeof header, 0) == ssize_t(sizeof header));
  REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
  const auto reader = shm::ScoreboardReader::open(fd.get());
  return reader ? "" : reader.error().text();
}

}  // namespace

TEST_CASE("what a worker shows is what others see") {
  auto writer = shm::ScoreboardWriter::create(kWorker);
  REQUIRE(writer);
  const auto reader = shm::ScoreboardReader::open(writer->fd());
  REQUIRE(reader);
  CHECK(reader->identity() == kWorker);
  CHECK(reader->rows() == 1024);
  CHECK(reader->summary() == shm::WorkerSummary{});
  shm::WorkerSummary summary;
  summary.phase = shm::WorkerPhase::draining;
  for (size_t i = 0; i < summary.connections.size(); ++i) summary.connections[i] = 10 + i;
  for (size_t i = 0; i < summary.counters.size(); ++i) summary.counters[i] = 100 + i;
  for (size_t i = 0; i < summary.latencies.size(); ++i) {
    for (uint64_t us = 1; us < 100'000'000; us *= 3) summary.latencies[i].record(us + i);
  }
  writer->publish(summary);
  writer->beat(12345);
  CHECK(reader->summary() == summary);
  CHECK(reader->heartbeat_ms() == 12345);
}

TEST_CASE("a duration is counted in the first bucket whose bound it does not exceed") {
  CHECK(shm::latency_bound_us(0) == 16);
  CHECK(shm::latency_bound_us(shm::kLatencyBounds - 1) == 16'777'216);
  for (size_t bucket = 0; bucket < shm::kLatencyBounds; ++bucket) {
    const uint64_t bound = shm::latency_bound_us(bucket);
    CHECK(shm::latency_bucket(bound) == bucket);
    CHECK(shm::latency_bucket(bound + 1) == bucket + 1);
  }
  CHECK(shm::latency_bucket(0) == 0);
  CHECK(shm::latency_bucket(UINT64_MAX) == shm::kLatencyBounds);
  shm::LatencyHistogram histogram;
  for (const uint64_t us : {0, 17, 17, 32}) histogram.record(us);
  CHECK(histogram.sum_us == 66);
  CHECK(histogram.counts[0] == 1);
  CHECK(histogram.counts[1] == 3);
}

TEST_CASE("connections have rows while there are any") {
  auto writer = shm::ScoreboardWriter::create(kWorker, 3);
  const auto reader = shm::ScoreboardReader::open(writer->fd());
  REQUIRE(reader);
  for (uint64_t i = 0; i < 3; ++i) CHECK(writer->open_row(row_number(i)) == i);
  CHECK_FALSE(writer->open_row(row_number(9)));
  for (uint64_t i = 0; i < 3; ++i) CHECK(reader->row(i) == row_number(i));
  writer->update_row(1, row_number(8));
  CHECK(reader->row(1) == row_number(8));
  writer->close_row(1);
  CHECK_FALSE(reader->row(1));
  writer->close_row(1);
  writer->update_row(1, row_number(5));  // not theirs any more
  writer->close_row(3);
  CHECK_FALSE(reader->row(1));
  CHECK_FALSE(reader->row(3));
  CHECK(reader->row(2) == row_number(2));
  CHECK(writer->open_row(row_number(6)) == 1);
  CHECK_FALSE(writer->open_row(row_number(7)));
  CHECK(reader->row(1) == row_number(6));
}

TEST_CASE("only a scoreboard of this version is opened") {
  auto writer = shm::ScoreboardWriter::create(kWorker, 2);
  CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd(), 0) == MAP_FAILED);
  shm::ScoreboardHeader header;
  const int fd = writer->fd();
  REQUIRE(pread(fd, &header, sizeof header, 0) == ssize_t(sizeof header));
  CHECK(refusal(header).empty());
  const auto refused = [&](auto change) {
    shm::ScoreboardHeader other = header;
    change(other);
    return refusal(other);
  };
  CHECK(refused([](auto& h) { ++h.magic; }) == "scoreboard: the shared memory is not a scoreboard");
  CHECK(refused([](auto& h) { h.version = 3; }) ==
        "scoreboard: its version is 3, but this program expects 4");
  CHECK(refused([](auto& h) { h.header_size = 1; }).find("header size is 1,") != std::string::npos);
  CHECK(refused([](auto& h) { h.row_size = 1; }).find("row size is 1,") != std::string::npos);
  CHECK(refused([](auto& h) { h.counter_count = 1; }).find("counters is 1,") != std::string::npos);
  CHECK(refused([](auto& h) { ++h.counter_digest; }) == "scoreboard: it has other counters");
  CHECK(refused([](auto& h) { h.row_count = 3; }) == "scoreboard: 3 rows do not fit its size of 4480 bytes");
  CHECK_FALSE(shm::ScoreboardReader::open(-1));
}

TEST_CASE("what makes no sense is not shown") {
  // As an untrue worker may write it: the header is a true one, what follows it is not.
  auto writer = shm::ScoreboardWriter::create(kWorker, 4);
  shm::ScoreboardHeader header;
  REQUIRE(pread(writer->fd(), &header, sizeof header, 0) == ssize_t(sizeof header));
  header.summary[shm::summary_word::kPhase] = shm::kWorkerPhases.size();
  const shm::UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(fd.get(), off_t(shm::scoreboard_bytes(4))) == 0);
  REQUIRE(pwrite(fd.get(), &header, sizeof header, 0) == ssize_t(sizeof header));
  shm::RowWords row{};
  row.words[0] = 1 | 200 << 8;
  REQUIRE(pwrite(fd.get(), &row, sizeof row, off_t(shm::row_index(0) * 8)) == ssize_t(sizeof row));
  row.words[0] = 1 | shm::kAreaStates.size() << 1;
  REQUIRE(pwrite(fd.get(), &row, sizeof row, off_t(shm::row_index(2) * 8)) == ssize_t(sizeof row));
  row.words[0] = 1;
  row.words[shm::row_word::kDirect] = shm::kDirectStates.size();
  REQUIRE(pwrite(fd.get(), &row, sizeof row, off_t(shm::row_index(3) * 8)) == ssize_t(sizeof row));
  row.words[shm::row_word::kDirect] = 0;
  row.sequence = 7;  // for ever
  REQUIRE(pwrite(fd.get(), &row, sizeof row, off_t(shm::row_index(1) * 8)) == ssize_t(sizeof row));
  REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
  const auto reader = shm::ScoreboardReader::open(fd.get());
  REQUIRE(reader);
  CHECK_FALSE(reader->summary());
  CHECK_FALSE(reader->row(0));
  CHECK_FALSE(reader->row(1));
  CHECK_FALSE(reader->row(2));
  CHECK_FALSE(reader->row(3));
}

TEST_CASE("the states of an area and of direct I/O have a name each, which fit a row, and a text") {
  const auto check = [](const auto& rows) {
    std::set<std::string_view> names;
    for (const auto& row : rows) {
      CHECK_FALSE(row.text.empty());
      CHECK_MESSAGE(names.insert(row.name).second, row.name);
    }
  };
  check(shm::kAreaStates);
  check(shm::kDirectStates);
  CHECK(shm::direct_state_row(shm::DirectState::none).name.empty());
  CHECK(shm::area_state_row(shm::AreaState::none).name.empty());
  CHECK(shm::kAreaStates.size() <= 128);
}

TEST_CASE("a dead worker's last state stays readable") {
  auto writer = shm::ScoreboardWriter::create(kWorker);
  const pid_t child = fork();
  if (child == 0) {
    (void)writer->open_row(row_number(4));
    writer->beat(99);
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  const auto reader = shm::ScoreboardReader::open(writer->fd());
  REQUIRE(reader);
  CHECK(reader->row(0) == row_number(4));
  CHECK(reader->heartbeat_ms() == 99);
}

TEST_CASE("the table of counters names each once, in the field's form") {
  std::set<std::string> names;
  for (const shm::CounterRow& row : shm::kCounterTable) {
    CHECK(names.insert(shm::metric_name(row)).second);
    CHECK(row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos);
    CHECK_FALSE(row.help.empty());
  }
  CHECK(shm::metric_name(shm::kCounterTable[size_t(shm::Counter::rdma_reads)]) ==
        "smbdirect_rdma_reads_total");
  CHECK(shm::metric_name({"open", shm::CounterKind::gauge, ""}) == "smbdirect_open");
}

TEST_CASE("a board of more rows than any worker has is none: reading it would take too long") {
  CHECK_FALSE(shm::ScoreboardWriter::create(kWorker, shm::kScoreboardRows + 1));
  const auto board_of = [](size_t rows) {
    const shm::UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    auto honest = shm::ScoreboardWriter::create(kWorker, 1);
    REQUIRE(honest);
    shm::ScoreboardHeader header{};
    REQUIRE(pread(honest->fd(), &header, sizeof header, 0) == ssize_t(sizeof header));
    header.row_count = uint32_t(rows);
    REQUIRE(ftruncate(fd.get(), off_t(shm::scoreboard_bytes(rows))) == 0);
    REQUIRE(pwrite(fd.get(), &header, sizeof header, 0) == ssize_t(sizeof header));
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
    return shm::ScoreboardReader::open(fd.get()).has_value();
  };
  CHECK(board_of(shm::kScoreboardRows));
  CHECK_FALSE(board_of(shm::kScoreboardRows + 1));
  CHECK_FALSE(board_of(1u << 20));
}
