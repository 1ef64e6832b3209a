// SPDX-License-Identifier: MIT
#include "shm/scoreboard.h"

#include <cstring>
#include <string>

#include "shm/scoreboard_layout.h"
#include "shm/siphash.h"

namespace smbdirect::shm {
namespace {

constexpr size_t kHeartbeat = offsetof(ScoreboardHeader, heartbeat_ms) / 8;
constexpr size_t kSummary = offsetof(ScoreboardHeader, sequence) / 8;

std::array<uint64_t, row_word::kWords> encode(const ConnectionRow& row) {
  std::array<uint64_t, row_word::kWords> words{};
  words[row_word::kStatus] = 1 | uint64_t(row.area) << 1 | uint64_t(row.phase) << 8 |
                             uint64_t(row.peer_port) << 16 | uint64_t(row.upstream_local_port) << 32 |
                             uint64_t(row.upstream_remote_port) << 48;
  words[row_word::kNumber] = std::to_underlying(row.connection);
  std::memcpy(&words[row_word::kPeer], row.peer.data(), row.peer.size());
  std::memcpy(&words[row_word::kGuid], row.guid.bytes.data(), row.guid.bytes.size());
  words[row_word::kSince] = row.since_ms;
  words[row_word::kCredits] = row.receive_credits | uint64_t(row.send_credits) << 32;
  words[row_word::kRequests] = row.requests;
  words[row_word::kDirect] = uint64_t(row.direct) | uint64_t(row.direct_files) << 32;
  words[row_word::kDirectReads] = row.direct_reads;
  words[row_word::kDirectWrites] = row.direct_writes;
  std::memcpy(&words[row_word::kBytes], row.bytes.data(), sizeof row.bytes);
  return words;
}

std::optional<ConnectionRow> decode(const std::array<uint64_t, row_word::kWords>& words) {
  const uint64_t status = words[row_word::kStatus];
  const uint64_t phase = status >> 8 & 0xff;
  const auto area = area_state_from(status >> 1 & 0x7f);
  const auto direct = direct_state_from(words[row_word::kDirect] & 0xffff'ffff);
  if ((status & 1) != 1 || phase >= kConnectionPhases.size() || !area || !direct) return std::nullopt;
  ConnectionRow row;
  row.connection = ConnectionId{words[row_word::kNumber]};
  row.phase = ConnectionPhase(phase);
  row.area = *area;
  row.direct = *direct;
  row.peer_port = uint16_t(status >> 16);
  row.upstream_local_port = uint16_t(status >> 32);
  row.upstream_remote_port = uint16_t(status >> 48);
  std::memcpy(row.peer.data(), &words[row_word::kPeer], row.peer.size());
  std::memcpy(row.guid.bytes.data(), &words[row_word::kGuid], row.guid.bytes.size());
  row.since_ms = words[row_word::kSince];
  row.receive_credits = uint32_t(words[row_word::kCredits]);
  row.send_credits = uint32_t(words[row_word::kCredits] >> 32);
  row.requests = words[row_word::kRequests];
  row.direct_files = uint32_t(words[row_word::kDirect] >> 32);
  row.direct_reads = words[row_word::kDirectReads];
  row.direct_writes = words[row_word::kDirectWrites];
  std::memcpy(row.bytes.data(), &words[row_word::kBytes], sizeof row.bytes);
  return row;
}

std::string expected(const char* field, uint64_t found, uint64_t wanted) {
  return std::string("scoreboard: its ") + field + " is " + std::to_string(found) +
         ", but this program expects " + std::to_string(wanted);
}

/// A copy of the guarded words, if one could be had.
template <size_t N>
std::optional<std::array<uint64_t, N>> read_words(const SharedMap& map, size_t sequence_index) {
  const MappedWords memory(map.words());
  std::array<uint64_t, N> words;
  const bool stable = read_stable(memory, sequence_index, [&] {
    for (size_t i = 0; i < N; ++i) words[i] = memory.load(sequence_index + 1 + i);
  });
  if (!stable) return std::nullopt;
  return words;
}

}  // namespace

uint64_t counter_digest() {
  std::string names;
  for (const CounterRow& row : kCounterTable) names.append(row.name).append("\n");
  for (const OperationRow& row : kOperationTable) names.append(row.name).append("\n");
  return siphash({}, std::as_bytes(std::span(names)));
}

Result<ScoreboardWriter> ScoreboardWriter::create(const ScoreboardIdentity& identity, size_t rows) {
  if (rows > kMaxScoreboardRows) return fail("scoreboard: too many rows");
  Result<SharedMap> map = SharedMap::create("smbdirect-scoreboard", scoreboard_bytes(rows));
  if (!map) return std::unexpected(map.error());
  ScoreboardHeader header{};
  header.magic = ScoreboardHeader::kMagic;
  header.version = ScoreboardHeader::kVersion;
  header.header_size = kScoreboardHeaderSize;
  header.row_count = uint32_t(rows);
  header.row_size = sizeof(RowWords);
  header.counter_count = kCounters;
  header.slot = identity.slot;
  header.generation = identity.generation;
  header.pid = identity.pid;
  header.counter_digest = counter_digest();
  std::memcpy(map->writable().data(), &header, sizeof header);  // nobody else has the descriptor yet
  return ScoreboardWriter(std::move(*map), rows);
}

ScoreboardWriter::ScoreboardWriter(SharedMap map, size_t rows) : map_(std::move(map)), taken_(rows) {
  for (size_t i = rows; i > 0; --i) free_.push_back(uint32_t(i - 1));  // the first is taken first
}

void ScoreboardWriter::write(size_t sequence_index, std::span<const uint64_t> words) {
  const std::span<uint64_t> memory = map_.writable();
  const uint64_t sequence = load_word(memory[sequence_index]);
  store_word(memory[sequence_index], sequence + 1);
  for (size_t i = 0; i < words.size(); ++i) store_word(memory[sequence_index + 1 + i], words[i]);
  store_word(memory[sequence_index], sequence + 2);
}

void ScoreboardWriter::beat(uint64_t now_ms) { store_word(map_.writable()[kHeartbeat], now_ms); }

void ScoreboardWriter::publish(const WorkerSummary& summary) {
  std::array<uint64_t, summary_word::kWords> words{};
  words[summary_word::kPhase] = uint64_t(summary.phase);
  std::memcpy(&words[summary_word::kConnections], summary.connections.data(), sizeof summary.connections);
  std::memcpy(&words[summary_word::kCounterValues], summary.counters.data(), sizeof summary.counters);
  std::memcpy(&words[summary_word::kLatencies], summary.latencies.data(), sizeof summary.latencies);
  write(kSummary, words);
}

std::optional<size_t> ScoreboardWriter::open_row(const ConnectionRow& row) {
  if (free_.empty()) return std::nullopt;
  const size_t index = free_.back();
  free_.pop_back();
  taken_[index] = true;
  update_row(index, row);
  return index;
}

void ScoreboardWriter::update_row(size_t index, const ConnectionRow& row) {
  if (index < taken_.size() && taken_[index]) write(row_index(index), encode(row));
}

void ScoreboardWriter::close_row(size_t index) {
  if (index >= taken_.size() || !taken_[index]) return;
  taken_[index] = false;
  free_.push_back(uint32_t(index));
  write(row_index(index), std::array<uint64_t, row_word::kWords>{});
}

Result<ScoreboardReader> ScoreboardReader::open(int fd) {
  Result<SharedMap> map = SharedMap::open(fd, scoreboard_bytes(0), scoreboard_bytes(kMaxScoreboardRows));
  if (!map) return std::unexpected(map.error());
  ScoreboardHeader header;  // a copy: what is checked is what is used
  std::memcpy(&header, map->words().data(), offsetof(ScoreboardHeader, heartbeat_ms));
  if (header.magic != ScoreboardHeader::kMagic)
    return fail("scoreboard: the shared memory is not a scoreboard");
  if (header.version != ScoreboardHeader::kVersion) {
    return fail(expected("version", header.version, ScoreboardHeader::kVersion));
  }
  if (header.header_size != kScoreboardHeaderSize) {
    return fail(expected("header size", header.header_size, kScoreboardHeaderSize));
  }
  if (header.row_size != sizeof(RowWords)) {
    return fail(expected("row size", header.row_size, sizeof(RowWords)));
  }
  if (header.counter_count != kCounters) {
    return fail(expected("number of counters", header.counter_count, kCounters));
  }
  if (header.counter_digest != counter_digest()) return fail("scoreboard: it has other counters");
  if (scoreboard_bytes(header.row_count) != map->bytes()) {
    return fail("scoreboard: " + std::to_string(header.row_count) + " rows do not fit its size of " +
                std::to_string(map->bytes()) + " bytes");
  }
  return ScoreboardReader(std::move(*map), {header.slot, header.generation, header.pid}, header.row_count);
}

uint64_t ScoreboardReader::heartbeat_ms() const { return load_word(map_.words()[kHeartbeat]); }

std::optional<WorkerSummary> ScoreboardReader::summary() const {
  const auto words = read_words<summary_word::kWords>(map_, kSummary);
  if (!words || (*words)[summary_word::kPhase] >= kWorkerPhases.size()) return std::nullopt;
  WorkerSummary summary;
  summary.phase = WorkerPhase((*words)[summary_word::kPhase]);
  std::memcpy(summary.connections.data(), &(*words)[summary_word::kConnections], sizeof summary.connections);
  std::memcpy(summary.counters.data(), &(*words)[summary_word::kCounterValues], sizeof summary.counters);
  std::memcpy(static_cast<void*>(summary.latencies.data()), &(*words)[summary_word::kLatencies],
              sizeof summary.latencies);
  return summary;
}

std::optional<ConnectionRow> ScoreboardReader::row(size_t index) const {
  if (index >= rows_) return std::nullopt;
  const auto words = read_words<row_word::kWords>(map_, row_index(index));
  if (!words) return std::nullopt;
  return decode(*words);
}

}  // namespace smbdirect::shm
