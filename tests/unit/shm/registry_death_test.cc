// SPDX-License-Identifier: MIT
// A writer is killed at every store it makes, while other processes read. Readers never see nonsense and
// never miss an entry that nobody changes, and after repair() the registry says what one says whose writer
// made the same operations undisturbed.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <new>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "registry_support.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;

namespace {

constexpr uint64_t kChurning = 12;  // GUIDs 1 to 12
constexpr uint64_t kStable = 8;     // GUIDs 101 to 108
constexpr shm::WorkerRef kStableWorker{63, 1};
constexpr uint32_t kSlots = 4;
constexpr shm::SipKey kKey{5, 6};

shm::Peer peer_of(uint64_t number) { return {uint32_t(1000 + number), number * 7919}; }
shm::Host address_of(uint64_t number, uint32_t which) { return host_number(uint32_t(number << 8) + which); }

enum class Kind : uint8_t { claim, failed, up, down, learn, peer_gone, expire, started, gone, count };
struct Op {
  Kind kind;
  uint64_t number;
  shm::WorkerRef worker;
  uint32_t which;
};

void run(shm::RegistryWriter& writer, const Op& op) {
  const shm::Guid guid = guid_number(op.number);
  const shm::Host address = address_of(op.number, op.which);
  switch (op.kind) {
    case Kind::claim:
      return (void)writer.claim(guid, address, op.worker, op.number);
    case Kind::failed:
      return (void)writer.claim_failed(guid, op.worker);
    case Kind::up:
      return (void)writer.channel_up(guid, op.worker, peer_of(op.number), address, op.number);
    case Kind::down:
      return (void)writer.channel_down(guid, op.worker, peer_of(op.number));
    case Kind::learn:
      return (void)writer.learn_address(guid, address);
    case Kind::peer_gone:
      return (void)writer.peer_gone(peer_of(op.number));
    case Kind::expire:
      return (void)writer.expire(op.number + 1000, 1000);  // those whose number is not larger
    case Kind::started:
      return (void)writer.worker_started(op.worker);
    case Kind::gone:
      return (void)writer.worker_gone(op.worker);
    case Kind::count:
      break;
  }
}

void fill(shm::RegistryWriter& writer) {
  writer.worker_started(kStableWorker);
  for (uint32_t slot = 0; slot < kSlots; ++slot) writer.worker_started({slot, 1});
  for (uint64_t n = 101; n <= 100 + kStable; ++n) {
    REQUIRE(writer.channel_up(guid_number(n), kStableWorker, peer_of(n), address_of(n, 0), n) ==
            shm::Report::done);
  }
}

/// What processes tell each other.
struct Board {
  std::atomic<uint64_t> completed;  // operations of the present writer
  std::atomic<int> died_at;         // the kind of store
  std::atomic<bool> stop;
  std::atomic<uint64_t> searches;
  std::atomic<uint64_t> hits;
  std::atomic<uint64_t> wrong;
};

/// A child that is not left behind, whatever becomes of the test.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

bool plausible(const shm::Entry& entry) {
  const uint64_t number = number_of(entry.guid);
  const auto own = [&](const shm::Host& host) { return (uint64_t(host[13]) << 8 | host[14]) == number; };
  if (entry.since_ms != number || !std::ranges::all_of(entry.addresses, own)) return false;
  if (entry.state == shm::EntryState::starting) return !entry.peer.known();
  return entry.peer == peer_of(number) &&
         (entry.workers & ~uint64_t{0xF}) == (number > 100 ? uint64_t{1} << 63 : 0);
}

void read_until_stopped(int fd, Board& board) {
  const auto reader = shm::RegistryReader::open(fd);
  while (reader && !board.stop) {
    uint64_t hits = 0, wrong = 0;
    for (uint64_t n = 1; n <= kChurning; ++n) {
      const auto entry = reader->find(guid_number(n));
      hits += entry.has_value();
      wrong += entry && (entry->guid != guid_number(n) || !plausible(*entry));
    }
    for (uint64_t n = 101; n <= 100 + kStable; ++n) {
      const auto entry = reader->find(guid_number(n));
      wrong += !entry || !plausible(*entry) || entry->workers != uint64_t{1} << 63;
    }
    reader->for_each([&](const shm::Entry& entry) { wrong += !plausible(entry); });
    board.searches += kChurning + kStable;
    board.hits += hits;
    board.wrong += wrong;
  }
  if (!reader) ++board.wrong;
}

struct DieAt {
  uint64_t left;
  Board* board;
  static void stored(void* self, shm::RegistryStep step) {
    auto& at = *static_cast<DieAt*>(self);
    if (--at.left != 0) return;
    at.board->died_at = int(step);
    raise(SIGKILL);
  }
};

/// Entries, and which workers there are.
struct State {
  Contents contents;
  std::array<uint64_t, kSlots> workers{};
  bool operator==(const State&) const = default;
};
State state_of(shm::RegistryWriter& writer) {
  State state{contents_of(*shm::RegistryReader::open(writer.fd())), {}};
  for (uint32_t slot = 0; slot < kSlots; ++slot) state.workers[slot] = writer.table().worker_word(slot);
  return state;
}

class Killer {
 public:
  explicit Killer(Board& board, uint32_t seed_number) : board_(board), random_(seed_number) {
    fill(writer_);
    fill(oracle_);
    generations_.fill(1);
  }

  [[nodiscard]] int fd() const { return writer_.fd(); }
  /// At least once at each kind of store.
  [[nodiscard]] bool died_everywhere() const { return std::ranges::find(deaths_, 0u) == deaths_.end(); }

  /// A child makes some operations and dies at a store of theirs; the oracle makes them too.
  void round() {
    std::array<Op, 4> ops;
    for (Op& op : ops) op = random_op();
    board_.completed = 0;
    board_.died_at = -1;
    DieAt die{1 + random_() % 120, &board_};
    Child child([&] {
      writer_.table().set_faults({&DieAt::stored, &die});
      for (const Op& op : ops) {
        run(writer_, op);
        ++board_.completed;
      }
    });
    child.wait();
    if (board_.died_at >= 0) ++deaths_[size_t(board_.died_at)];
    const size_t completed = board_.completed;
    writer_.repair();
    for (size_t i = 0; i < completed; ++i) run(oracle_, ops[i]);
    if (completed < ops.size()) finish(ops[completed]);
    for (size_t i = completed + 1; i < ops.size(); ++i) {
      run(oracle_, ops[i]);
      run(writer_, ops[i]);
    }
    REQUIRE(state_of(writer_) == state_of(oracle_));
    REQUIRE(writer_.size() == oracle_.size());
    for (uint64_t n = 1; n <= kChurning; ++n) {
      REQUIRE(writer_.workers_at(address_of(n, 1)) == oracle_.workers_at(address_of(n, 1)));
    }
    REQUIRE_FALSE(writer_.repair());
  }

 private:
  Op random_op() {
    Op op{
        Kind(random_() % uint64_t(Kind::count)), 1 + random_() % kChurning, {}, uint32_t(1 + random_() % 12)};
    if (op.kind >= Kind::peer_gone && random_() % 3 != 0)
      op.kind = Kind::up;  // or nothing would ever be there
    const auto slot = uint32_t(random_() % kSlots);
    op.worker = {slot, op.kind == Kind::started ? ++generations_[slot] : generations_[slot]};
    return op;
  }

  /// The operation in which the writer died has happened, or not; a sweep over entries perhaps in part.
  void finish(const Op& op) {
    const State now = state_of(writer_);
    const State before = state_of(oracle_);
    run(oracle_, op);
    if (now == state_of(oracle_)) return;
    if (op.kind < Kind::peer_gone) REQUIRE(now == before);
    run(writer_, op);
  }

  Board& board_;
  std::mt19937_64 random_;
  shm::RegistryWriter writer_ = *shm::RegistryWriter::create(32, kKey);
  shm::RegistryWriter oracle_ = *shm::RegistryWriter::create(32, kKey);
  std::array<uint32_t, kSlots> generations_{};
  std::array<uint64_t, size_t(shm::RegistryStep::worker_slot) + 1> deaths_{};
};

Board& make_board() {
  void* const memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  return *new (memory) Board{};
}

}  // namespace

TEST_CASE("a writer killed at any store leaves what the next one can mend, and readers nothing wrong") {
  const uint32_t number = seed();
  INFO("SMBDIRECTD_SEED=" << number);
  Board& board = make_board();
  Killer killer(board, number);
  const int fd = killer.fd();
  uint64_t done = 0;
  {
    Child first([&] { read_until_stopped(fd, board); });
    Child second([&] { read_until_stopped(fd, board); });
    // Unless a number was asked for, a few seconds are enough once it died everywhere.
    const auto begin = std::chrono::steady_clock::now();
    for (; done < rounds(3000); ++done) {
      INFO("round " << done);
      killer.round();
      const bool late = std::chrono::steady_clock::now() - begin > std::chrono::seconds(5);
      if (late && !rounds_asked() && killer.died_everywhere()) break;
    }
    board.stop = true;
    first.wait();
    second.wait();
  }
  MESSAGE(done << " rounds, " << board.searches.load() << " searches by other processes, "
               << board.hits.load() << " of changing entries found");
  CHECK(board.wrong == 0);
  CHECK(board.hits > 0);
  if (!rounds_asked()) CHECK(killer.died_everywhere());
  munmap(&board, 4096);
}

TEST_CASE("an entry that a dead writer left half changed is a miss, and those behind it are found") {
  auto writer = *shm::RegistryWriter::create(8);
  const auto reader = *shm::RegistryReader::open(writer.fd());
  const auto guids = colliding_guids(reader.geometry(), 3);
  writer.worker_started({0, 1});
  for (const shm::Guid& guid : guids)
    REQUIRE(writer.channel_up(guid, {0, 1}, {}, {}, 0) == shm::Report::done);
  struct Until {
    static void odd(void*, shm::RegistryStep step) {
      if (step == shm::RegistryStep::sequence_odd) raise(SIGKILL);
    }
  };
  Child child([&] {
    writer.table().set_faults({&Until::odd, nullptr});
    (void)writer.channel_up(guids[1], {0, 1}, {}, {}, 0);
  });
  CHECK(WTERMSIG(child.wait()) == SIGKILL);
  CHECK(reader.find(guids[0]));
  CHECK_FALSE(reader.find(guids[1]));
  CHECK(reader.find(guids[2]));
  CHECK(writer.repair());
  CHECK(reader.find(guids[1]).value_or(shm::Entry{}).channels() == 2);  // what had been decided is done
  CHECK(writer.size() == 3);
}
