// SPDX-License-Identifier: MIT
// The supervisor is killed at any store of any change to its registry. Nobody writes that memory again; what
// the workers that stay find in it is true, and at most the one entry that was being changed is missing.
#include <algorithm>
#include <array>
#include <atomic>
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

constexpr uint64_t kClients = 12;
constexpr uint32_t kSlots = 4;

shm::Peer peer_of(uint64_t number) { return {uint32_t(1000 + number), number * 7919}; }
shm::Host address_of(uint64_t number, uint32_t which) { return host_number(uint32_t(number << 8) + which); }

enum class Kind : uint8_t { claim, failed, up, down, peer_gone, started, gone, count };
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
    case Kind::peer_gone:
      return (void)writer.peer_gone(peer_of(op.number));
    case Kind::started:
      return (void)writer.worker_started(op.worker);
    case Kind::gone:
      return (void)writer.worker_gone(op.worker);
    case Kind::count:
      break;
  }
}

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

/// The kind of store that the child died at, -1: it lived. In memory that both have.
using DiedAt = std::atomic<int>;

struct DieAt {
  uint64_t left;
  DiedAt* died_at;
  static void stored(void* self, shm::RegistryStep step) {
    auto& at = *static_cast<DieAt*>(self);
    if (--at.left != 0) return;
    *at.died_at = int(step);
    raise(SIGKILL);
  }
};

std::optional<shm::Entry> entry_in(const Contents& contents, const shm::Guid& guid) {
  const auto at = contents.find(guid);
  return at == contents.end() ? std::nullopt : std::optional(at->second);
}

class Killer {
 public:
  Killer(DiedAt& died_at, uint32_t seed_number) : died_at_(died_at), random_(seed_number) {}

  /// At least once at each kind of store.
  [[nodiscard]] bool died_everywhere() const { return std::ranges::find(deaths_, 0U) == deaths_.end(); }

  /// A child makes one change to a registry with some clients in it, and dies at a store of it.
  void round() {
    auto writer = *shm::RegistryWriter::create(32);
    auto undisturbed = *shm::RegistryWriter::create(32);
    generations_.fill(0);
    std::vector<Op> ops;
    for (uint32_t slot = 0; slot < kSlots; ++slot) ops.push_back({Kind::started, 1, {slot, 0}, 1});
    for (int i = 0; i < 20; ++i) ops.push_back(random_op());
    for (const Op& op : ops) run(writer, op), run(undisturbed, op);
    const auto reader = *shm::RegistryReader::open(writer.fd());
    const Contents before = contents_of(reader);
    const Op last = random_op();
    died_at_ = -1;
    DieAt die{1 + random_() % 12, &died_at_};
    Child child([&] {
      writer.table().set_faults({&DieAt::stored, &die});
      run(writer, last);
    });
    child.wait();
    if (died_at_ >= 0) ++deaths_[size_t(died_at_)];
    run(undisturbed, last);
    judge(reader, before, contents_of(*shm::RegistryReader::open(undisturbed.fd())));
  }

 private:
  Op random_op() {
    Op op{
        Kind(random_() % uint64_t(Kind::count)), 1 + random_() % kClients, {}, uint32_t(1 + random_() % 12)};
    if (op.kind >= Kind::peer_gone && random_() % 3 != 0)
      op.kind = Kind::up;  // or nothing would ever be there
    const auto slot = uint32_t(random_() % kSlots);
    op.worker = {slot, op.kind == Kind::started ? ++generations_[slot] : generations_[slot]};
    return op;
  }
  /// Each entry is what it was before the last operation or what it is after it, but for the one in whose
  /// change the writer died.
  void judge(const shm::RegistryReader& reader, const Contents& before, const Contents& after) const {
    const Contents left = contents_of(reader);
    size_t missing = 0;
    for (uint64_t n = 1; n <= kClients; ++n) {
      const auto found = entry_in(left, guid_number(n));
      REQUIRE(reader.find(guid_number(n)) == found);
      if (found == entry_in(before, guid_number(n)) || found == entry_in(after, guid_number(n))) continue;
      REQUIRE_FALSE(found);
      ++missing;
    }
    const bool inside =
        died_at_ == int(shm::RegistryStep::sequence_odd) || died_at_ == int(shm::RegistryStep::entry_word);
    REQUIRE(missing <= (inside ? 1 : 0));
    if (died_at_ < 0) REQUIRE(left == after);
  }

  DiedAt& died_at_;
  std::mt19937_64 random_;
  std::array<uint32_t, kSlots> generations_{};
  std::array<uint64_t, size_t(shm::RegistryStep::sequence_even) + 1> deaths_{};
};

}  // namespace

TEST_CASE("a writer killed at any store leaves nothing wrong, and at most one entry that cannot be read") {
  const uint32_t number = seed();
  INFO("SMBDIRECTD_SEED=" << number);
  void* const memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Killer killer(*new (memory) DiedAt(-1), number);
  for (uint64_t done = 0; done < rounds(500); ++done) {
    INFO("round " << done);
    killer.round();
  }
  if (!rounds_asked()) CHECK(killer.died_everywhere());
  munmap(memory, 4096);
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
}
