// SPDX-License-Identifier: MIT
// Every interleaving of a search with the writer's stores, on a table of four entries whose GUIDs collide.
//
// The writer never reads what a reader does, so its stores are one fixed sequence. All of them are releases
// and all the reader's loads are acquires: whatever the machine, each load sees the memory as it was after
// some store, and later loads never see an earlier one (seqlock.h). So an execution of the reader is a
// choice, at each load, of how far the writer has come; all are tried. Two reductions lose nothing: where the
// loaded word does not change, staying is tried alone, for it leaves every later choice open; and what
// begins from a state of the reader that was tried before, at the same time, is not tried again.
#include <algorithm>
#include <set>
#include <tuple>

#include <doctest/doctest.h>

#include "registry_support.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;

namespace {

constexpr shm::WorkerRef kA{0, 1};
constexpr shm::WorkerRef kB{1, 1};

/// The stores of one sequence of the writer's operations to what readers look at. Time n: after n stores.
class History {
 public:
  explicit History(shm::RegistryWriter& writer) : writer_(writer), last_(words().begin(), words().end()) {
    for (size_t i = 0; i < last_.size(); ++i) changes_.push_back({{0, last_[i]}});
    look();
    writer.table().set_faults(
        {[](void* self, shm::RegistryStep) { static_cast<History*>(self)->note(); }, this});
  }
  ~History() { writer_.table().set_faults({}); }
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  struct Change {
    size_t time;
    uint64_t value;
  };
  [[nodiscard]] const std::vector<Change>& of_word(size_t index) const { return changes_[index]; }
  [[nodiscard]] size_t end() const { return visible_.size() - 1; }
  /// What whole entries said at this time.
  [[nodiscard]] const Contents& visible(size_t time) const { return visible_[time]; }

 private:
  [[nodiscard]] std::span<const uint64_t> words() const { return writer_.table().map().words(); }
  void look() {
    Contents contents;
    for (size_t i = 0; i < writer_.table().geometry().entry_count; ++i) {
      if (const auto entry = writer_.table().read(i)) contents.emplace(entry->guid, *entry);
    }
    visible_.push_back(std::move(contents));
  }
  void note() {
    for (size_t i = shm::RegistryGeometry::entry_word(0); i < last_.size(); ++i) {
      if (words()[i] == last_[i]) continue;
      last_[i] = words()[i];
      changes_[i].push_back({visible_.size(), last_[i]});
    }
    look();
  }

  shm::RegistryWriter& writer_;
  std::vector<uint64_t> last_;
  std::vector<std::vector<Change>> changes_;
  std::vector<Contents> visible_;
};

/// The reader's view in one execution; the explorer says which.
class ModelWords {
 public:
  struct Choice {
    size_t taken;
    size_t options;
  };
  using State = std::tuple<size_t, int, size_t>;  // the entry being read, failed attempts, time

  static constexpr int kReadAttempts = 3;  // giving up must be right after any number of them

  ModelWords(const History& history, size_t begin, std::vector<Choice>& choices, std::set<State>& tried,
             bool blind)
      : history_(history), now_(begin), choices_(choices), tried_(tried), blind_(blind) {}

  [[nodiscard]] uint64_t load(size_t index) const {
    if (is_sequence(index)) {
      if (index != entry_) {
        entry_ = index;
        attempts_ = 0;
        look_up_state();
      }
      if (tried_before_) return 1;  // a quick way out: no attempt begins any more
      if (blind_) return 0;
    }
    const auto& changes = history_.of_word(index);
    // The last change up to now, and those to come whose value is a new one.
    size_t current = 0;
    while (current + 1 < changes.size() && changes[current + 1].time <= now_) ++current;
    options_.assign(1, {now_, changes[current].value});
    for (size_t i = current + 1; i < changes.size(); ++i) {
      const auto same = [&](const History::Change& option) { return option.value == changes[i].value; };
      if (std::ranges::none_of(options_, same)) options_.push_back(changes[i]);
    }
    const History::Change& taken = options_[options_.size() == 1 ? 0 : choose(options_.size())];
    now_ = taken.time;
    return taken.value;
  }
  void retry() const {
    ++attempts_;
    look_up_state();
  }
  [[nodiscard]] size_t now() const { return now_; }
  /// What the reader found means nothing: the rest of its way was tried in an earlier execution.
  [[nodiscard]] bool tried_before() const { return tried_before_; }

 private:
  static bool is_sequence(size_t index) {
    const size_t first = shm::RegistryGeometry::entry_word(0);
    return (index - first) % (sizeof(shm::EntryWords) / 8) == 0;
  }
  [[nodiscard]] size_t choose(size_t options) const {
    if (depth_ == choices_.size()) choices_.push_back({0, options});
    return choices_[depth_++].taken;
  }
  /// Between attempts and between entries the reader remembers nothing else.
  void look_up_state() const {
    const bool replaying = depth_ < choices_.size();
    const bool fresh = tried_.insert({entry_, attempts_, now_}).second;
    if (!fresh && !replaying && !first_) tried_before_ = true;
    first_ = false;
  }

  const History& history_;
  mutable size_t now_;
  std::vector<Choice>& choices_;
  std::set<State>& tried_;
  bool blind_;
  mutable size_t depth_ = 0;
  mutable size_t entry_ = 0;
  mutable int attempts_ = 0;
  mutable bool first_ = true;
  mutable bool tried_before_ = false;
  mutable std::vector<History::Change> options_;
};

struct Found {
  uint64_t executions = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t torn = 0;         // a hit that was never true
  uint64_t unjustified = 0;  // a miss although the entry was there all the time
};

/// Was the answer of a search between these times true at one of them?
void judge(const History& history, const shm::Guid& guid, size_t begin, size_t end,
           const std::optional<shm::Entry>& entry, Found& found) {
  bool justified = false;
  for (size_t time = begin; time <= end && !justified; ++time) {
    const auto there = history.visible(time).find(guid);
    const bool present = there != history.visible(time).end();
    justified = entry ? present && there->second == *entry : !present;
  }
  ++(entry ? found.hits : found.misses);
  if (!justified) ++(entry ? found.torn : found.unjustified);
}

/// Every execution of one search that begins at this time.
void explore(const History& history, const shm::RegistryGeometry& geometry, const shm::Guid& guid,
             size_t begin, bool blind, Found& found) {
  std::vector<ModelWords::Choice> choices;
  std::set<ModelWords::State> tried;
  while (true) {
    const ModelWords memory(history, begin, choices, tried, blind);
    ++found.executions;
    const auto entry = find_entry(memory, geometry, guid);
    if (!memory.tried_before()) judge(history, guid, begin, memory.now(), entry, found);
    while (!choices.empty() && choices.back().taken + 1 == choices.back().options) choices.pop_back();
    if (choices.empty()) return;
    ++choices.back().taken;
  }
}

enum class Op : uint8_t { claim, up, end };
constexpr size_t kGuids = 3;
constexpr size_t kOps = 3 * kGuids;
using Sequence = std::vector<size_t>;

void run(shm::RegistryWriter& writer, const std::vector<shm::Guid>& guids, size_t op) {
  const size_t which = op % kGuids;
  const shm::Guid& guid = guids[which];
  const auto number = uint32_t(which + 1);
  switch (Op(op / kGuids)) {
    case Op::claim:
      (void)writer.claim(guid, {}, kA, 0);
      return;
    case Op::up:  // a second one adds a worker
      (void)writer.channel_up(guid, writer.find(guid) ? kB : kA, {number, number}, host_number(number + 8),
                              number);
      return;
    case Op::end:
      if (writer.claim_failed(guid, kA) != shm::Report::done) (void)writer.peer_gone({number, 0});
      return;
  }
}

std::vector<Sequence> sequences(size_t length) {
  std::vector<Sequence> all{{}};
  for (size_t i = 0; i < length; ++i) {
    std::vector<Sequence> longer;
    for (const Sequence& one : all) {
      for (size_t op = 0; op < kOps; ++op) {
        longer.push_back(one);
        longer.back().push_back(op);
      }
    }
    all = std::move(longer);
  }
  return all;
}

constexpr shm::SipKey kKey{11, 22};

/// As few words that differ as can be: each doubles the executions.
std::vector<shm::Guid> small_guids(const shm::RegistryGeometry& geometry) {
  std::vector<shm::Guid> found;
  for (uint8_t number = 1; found.size() < kGuids; ++number) {
    const shm::Guid guid{std::byte{number}};
    if (geometry.home(guid) == 3) found.push_back(guid);  // the last entry: searches go round the end
  }
  return found;
}

/// Writes `before` quietly, then `during` while searches for each GUID go on.
void check(const Sequence& before, const Sequence& during, bool blind, Found& found) {
  auto writer = shm::RegistryWriter::create(4, kKey);
  REQUIRE(writer);
  const auto guids = small_guids(writer->table().geometry());
  writer->worker_started(kA);
  writer->worker_started(kB);
  for (const size_t op : before) run(*writer, guids, op);
  History history(*writer);
  for (const size_t op : during) run(*writer, guids, op);
  for (const shm::Guid& guid : guids) {
    for (size_t begin = 0; begin <= history.end(); ++begin) {
      explore(history, writer->table().geometry(), guid, begin, blind, found);
    }
  }
}

std::vector<uint64_t> state_after(const Sequence& way) {
  auto writer = shm::RegistryWriter::create(4, kKey);
  const auto guids = small_guids(writer->table().geometry());
  writer->worker_started(kA);
  writer->worker_started(kB);
  for (const size_t op : way) run(*writer, guids, op);
  std::vector<uint64_t> state;
  for (size_t i = 0; i < 4; ++i) {  // sequence numbers do not matter
    const auto entry =
        writer->table().map().words().subspan(shm::RegistryGeometry::entry_word(i) + 1, shm::record::kWords);
    state.insert(state.end(), entry.begin(), entry.end());
  }
  return state;
}

/// A shortest sequence to each state of the table that can be reached in so many operations.
std::vector<Sequence> ways_to_states(size_t length) {
  std::vector<Sequence> ways{{}};
  std::set<std::vector<uint64_t>> states{state_after({})};
  for (size_t i = 0; i < ways.size(); ++i) {
    if (ways[i].size() == length) continue;
    for (size_t op = 0; op < kOps; ++op) {
      Sequence longer = ways[i];
      longer.push_back(op);
      if (states.insert(state_after(longer)).second) ways.push_back(std::move(longer));
    }
  }
  return ways;
}

}  // namespace

TEST_CASE("a search finds what was true at one moment of it, and misses nothing that nobody changes") {
  Found found;
  const auto ways = ways_to_states(4);
  for (const Sequence& before : ways) {
    for (size_t op = 0; op < kOps; ++op) check(before, {op}, false, found);
  }
  const size_t single = found.executions;
  for (const Sequence& before : ways_to_states(2)) {
    for (const Sequence& during : sequences(2)) check(before, during, false, found);
  }
  MESSAGE(ways.size() << " states, " << found.executions << " executions (" << single
                      << " of single operations): " << found.hits << " hits, " << found.misses << " misses");
  CHECK(found.torn == 0);
  CHECK(found.unjustified == 0);
  CHECK(found.hits > 0);
  CHECK(found.misses > 0);
}

TEST_CASE("the same exploration catches a reader that does not look at sequence words") {
  Found found;
  for (const Sequence& before : ways_to_states(2)) {
    for (size_t op = 0; op < kOps; ++op) check(before, {op}, true, found);
  }
  CHECK(found.torn > 0);
}
