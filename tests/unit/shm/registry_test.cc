// SPDX-License-Identifier: MIT
// The registry's rules, one by one, seen through both the writer and a reader.
#include <doctest/doctest.h>

#include "registry_support.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;
using shm::Claim;
using shm::Report;

namespace {

constexpr shm::WorkerRef kA{0, 1};
constexpr shm::WorkerRef kB{1, 1};
constexpr shm::WorkerRef kLast{63, 7};
constexpr shm::Peer kSmbd{100, 1000};
constexpr shm::Peer kOther{200, 2000};
const shm::Guid kGuid = guid_number(1);
const shm::Host kHost = host_number(0x0a000001);

struct Registry {
  explicit Registry(size_t entries = 64)
      : writer(*shm::RegistryWriter::create(entries)), reader(*shm::RegistryReader::open(writer.fd())) {
    for (const shm::WorkerRef& worker : {kA, kB, kLast}) writer.worker_started(worker);
  }
  /// What a reader finds, after checking that the writer agrees.
  std::optional<shm::Entry> find(const shm::Guid& guid) const {
    const auto entry = reader.find(guid);
    CHECK(entry == writer.find(guid));
    return entry;
  }
  /// The same, EMPTY when there is none.
  shm::Entry get(const shm::Guid& guid) const { return find(guid).value_or(shm::Entry{}); }

  shm::RegistryWriter writer;
  shm::RegistryReader reader;
};

}  // namespace

TEST_CASE("the first claim is granted, the next waits, and after a channel is up the owner is known") {
  Registry r;
  CHECK_FALSE(r.find(kGuid));
  CHECK(r.writer.claim(kGuid, kHost, kA, 500).outcome == Claim::granted);
  const shm::Entry entry = r.get(kGuid);
  CHECK(entry.state == shm::EntryState::starting);
  CHECK(entry.starter == kA);
  CHECK(entry.since_ms == 500);
  CHECK(entry.workers == 0);
  CHECK(entry.addresses == std::vector{kHost});
  CHECK(r.writer.claim(kGuid, kHost, kB, 501).outcome == Claim::wait);
  CHECK(r.writer.claim(kGuid, kHost, kA, 501).outcome == Claim::wait);  // Windows opens two at once

  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 600) == Report::done);
  const auto answer = r.writer.claim(kGuid, host_number(2), kB, 700);
  CHECK(answer.outcome == Claim::owner);
  const shm::Entry owner = answer.entry.value_or(shm::Entry{});
  CHECK(owner.state == shm::EntryState::live);
  CHECK(owner.peer == kSmbd);
  CHECK(owner.workers == 1);
  CHECK(owner.slots[0] == shm::SlotUse{1, 1});
  CHECK(owner.since_ms == 600);
  CHECK(owner.addresses == std::vector{kHost, host_number(2)});
  CHECK(owner == r.get(kGuid));
  CHECK(r.writer.size() == 1);
}

TEST_CASE("channels are counted by worker, and the entry goes with the last") {
  Registry r;
  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 1) == Report::done);
  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 2) == Report::done);
  CHECK(r.writer.channel_up(kGuid, kLast, kSmbd, kHost, 3) == Report::done);
  CHECK(r.get(kGuid).workers == (uint64_t{1} << 63 | 1));
  CHECK(r.get(kGuid).channels() == 3);
  CHECK(r.get(kGuid).slots[63] == shm::SlotUse{7, 1});
  CHECK(r.writer.channel_down(kGuid, kB) == Report::unknown);
  CHECK(r.writer.channel_down(kGuid, kA) == Report::done);
  CHECK(r.get(kGuid).workers == (uint64_t{1} << 63 | 1));
  CHECK(r.writer.channel_down(kGuid, kA) == Report::done);
  CHECK(r.get(kGuid).workers == uint64_t{1} << 63);
  CHECK(r.writer.channel_down(kGuid, kA) == Report::unknown);
  CHECK(r.writer.channel_down(kGuid, kLast) == Report::done);
  CHECK_FALSE(r.find(kGuid));
  CHECK(r.writer.channel_down(kGuid, kLast) == Report::unknown);
  CHECK(r.writer.size() == 0);
}

TEST_CASE("a claim that failed is free again, and only its owner can fail it") {
  Registry r;
  CHECK(r.writer.claim_failed(kGuid, kA) == Report::unknown);
  CHECK(r.writer.claim(kGuid, kHost, kA, 0).outcome == Claim::granted);
  CHECK(r.writer.claim_failed(kGuid, kB) == Report::unknown);
  CHECK(r.find(kGuid));
  CHECK(r.writer.claim_failed(kGuid, kA) == Report::done);
  CHECK_FALSE(r.find(kGuid));
  CHECK(r.writer.claim(kGuid, kHost, kB, 0).outcome == Claim::granted);
  CHECK(r.writer.channel_up(kGuid, kB, kSmbd, kHost, 0) == Report::done);
  CHECK(r.writer.claim_failed(kGuid, kB) == Report::unknown);  // LIVE is not a claim
  CHECK(r.find(kGuid));
}

TEST_CASE("nobody is identified by a zero GUID") {
  Registry r;
  CHECK(r.writer.claim({}, kHost, kA, 0).outcome == Claim::not_claimable);
  CHECK(r.writer.channel_up({}, kA, kSmbd, kHost, 0) == Report::not_claimable);
  CHECK(r.writer.channel_down({}, kA) == Report::unknown);
  CHECK_FALSE(r.find({}));
}

TEST_CASE("workers that are not their slot's current one are refused") {
  Registry r;
  for (const shm::WorkerRef& stale : {shm::WorkerRef{0, 2}, {0, 0}, {2, 1}, {64, 1}, {UINT32_MAX, 1}}) {
    CHECK(r.writer.claim(kGuid, kHost, stale, 0).outcome == Claim::stale);
    CHECK(r.writer.claim_failed(kGuid, stale) == Report::stale);
    CHECK(r.writer.channel_up(kGuid, stale, kSmbd, kHost, 0) == Report::stale);
    CHECK(r.writer.channel_down(kGuid, stale) == Report::stale);
    CHECK(r.writer.worker_gone(stale).empty());
  }
  CHECK(r.writer.worker_started({64, 1}).empty());
}

TEST_CASE("a dead worker takes its bit away, and entries that have no other worker") {
  Registry r;
  const shm::Guid both = guid_number(2), starting = guid_number(3), others = guid_number(4);
  (void)r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0);
  (void)r.writer.channel_up(both, kA, kSmbd, kHost, 0);
  (void)r.writer.channel_up(both, kB, kSmbd, kHost, 0);
  (void)r.writer.claim(starting, kHost, kA, 0);
  (void)r.writer.claim(others, kHost, kB, 0);
  auto gone = r.writer.worker_gone(kA);
  std::ranges::sort(gone);
  CHECK(gone == std::vector{kGuid, starting});
  CHECK_FALSE(r.find(kGuid));
  CHECK_FALSE(r.find(starting));
  CHECK(r.get(both).workers == 2);
  CHECK(r.find(others));
  CHECK(r.writer.channel_up(both, kA, kSmbd, kHost, 0) == Report::stale);  // a word from the grave
  CHECK(r.writer.worker_gone(kA).empty());
}

TEST_CASE("a slot's next worker inherits nothing") {
  Registry r;
  (void)r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0);
  CHECK(r.writer.worker_started(kA).empty());  // the same one: nothing ends
  CHECK(r.find(kGuid));
  CHECK(r.writer.worker_started({0, 2}) == std::vector{kGuid});
  CHECK_FALSE(r.find(kGuid));
  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0) == Report::stale);
  CHECK(r.writer.channel_up(kGuid, {0, 2}, kSmbd, kHost, 0) == Report::done);
  CHECK(r.get(kGuid).slots[0] == shm::SlotUse{2, 1});
  CHECK(r.writer.worker_gone(kA).empty());
  CHECK(r.find(kGuid));
}

TEST_CASE("the owner is the peer") {
  Registry r;
  (void)r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0);
  CHECK(r.writer.channel_up(kGuid, kB, kOther, kHost, 0) == Report::other_owner);
  CHECK(r.writer.channel_up(kGuid, kB, {kSmbd.pid, 1001}, kHost, 0) == Report::other_owner);  // the pid again
  CHECK(r.get(kGuid).workers == 1);
  CHECK(r.writer.channel_up(kGuid, kB, {}, kHost, 0) == Report::done);  // whoever it is
  CHECK(r.get(kGuid).peer == kSmbd);
  (void)r.writer.channel_up(guid_number(2), kA, kOther, kHost, 0);
  CHECK(r.writer.peer_gone({kSmbd.pid, 1001}).empty());
  CHECK(r.writer.peer_gone({}).empty());
  CHECK(r.writer.peer_gone(kSmbd) == std::vector{kGuid});
  CHECK_FALSE(r.find(kGuid));
  CHECK(r.find(guid_number(2)));
}

TEST_CASE("a peer that was not known becomes known") {
  Registry r;
  (void)r.writer.channel_up(kGuid, kA, {}, kHost, 0);
  CHECK_FALSE(r.get(kGuid).peer.known());
  (void)r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0);
  CHECK(r.get(kGuid).peer == kSmbd);
}

TEST_CASE("a late word about a peer that has gone does not end a channel with its successor") {
  Registry r;
  (void)r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0);
  (void)r.writer.peer_gone(kSmbd);
  (void)r.writer.channel_up(kGuid, kA, kOther, kHost, 0);
  CHECK(r.writer.channel_down(kGuid, kA, kSmbd) == Report::other_owner);
  CHECK(r.find(kGuid));
  CHECK(r.writer.channel_down(kGuid, kA, kOther) == Report::done);
  CHECK_FALSE(r.find(kGuid));
}

TEST_CASE("the channel of a claim that was ended is still a fact") {
  Registry r;
  (void)r.writer.claim(kGuid, kHost, kA, 1000);
  CHECK(r.writer.claim_failed(kGuid, kA) == Report::done);
  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 0) == Report::done);
  CHECK(r.get(kGuid).workers == 1);
}

TEST_CASE("a channel that comes up elsewhere decides a claim too") {
  Registry r;
  (void)r.writer.claim(kGuid, kHost, kA, 0);
  CHECK(r.writer.channel_up(kGuid, kB, kSmbd, kHost, 5) == Report::done);
  CHECK(r.get(kGuid).workers == 2);
  CHECK(r.writer.claim_failed(kGuid, kA) == Report::unknown);
  CHECK(r.writer.channel_up(kGuid, kA, kSmbd, kHost, 6) == Report::done);
  CHECK(r.get(kGuid).workers == 3);
  CHECK(r.get(kGuid).since_ms == 5);
}

TEST_CASE("eight addresses are remembered, the oldest forgotten") {
  Registry r;
  (void)r.writer.claim(kGuid, {}, kA, 0);
  CHECK(r.get(kGuid).addresses.empty());  // no address is not an address
  for (uint32_t i = 1; i <= 9; ++i) {
    (void)r.writer.claim(kGuid, host_number(i), kB, 0);
    (void)r.writer.claim(kGuid, host_number(i), kB, 0);
  }
  const auto addresses = r.get(kGuid).addresses;
  REQUIRE(addresses.size() == 8);
  CHECK(addresses.front() == host_number(2));
  CHECK(addresses.back() == host_number(9));
  CHECK(r.writer.workers_at(host_number(1)) == 0);
  CHECK(r.writer.workers_at(host_number(9)) == 1);
}

TEST_CASE("an address leads to the workers that serve it") {
  Registry r;
  CHECK(r.writer.workers_at(kHost) == 0);
  (void)r.writer.claim(kGuid, kHost, kB, 0);
  CHECK(r.writer.workers_at(kHost) == 2);  // its second connection should go there already
  (void)r.writer.channel_up(kGuid, kB, kSmbd, host_number(2), 0);
  (void)r.writer.channel_up(guid_number(2), kA, kOther, kHost, 0);  // two clients behind one address
  CHECK(r.writer.workers_at(kHost) == 3);
  CHECK(r.writer.workers_at(host_number(2)) == 2);
  (void)r.writer.worker_gone(kB);
  CHECK(r.writer.workers_at(kHost) == 1);
  CHECK(r.writer.workers_at(host_number(2)) == 0);
}

TEST_CASE("a full table is an answer") {
  Registry r(4);
  for (uint64_t i = 1; i <= 4; ++i)
    CHECK(r.writer.claim(guid_number(i), kHost, kA, 0).outcome == Claim::granted);
  CHECK(r.writer.claim(guid_number(5), kHost, kA, 0).outcome == Claim::full);
  CHECK(r.writer.channel_up(guid_number(5), kA, kSmbd, kHost, 0) == Report::full);
  CHECK_FALSE(r.find(guid_number(5)));
  for (uint64_t i = 1; i <= 4; ++i) CHECK(r.find(guid_number(i)));
  CHECK(r.writer.claim(guid_number(2), kHost, kB, 0).outcome == Claim::wait);
  CHECK(r.writer.claim_failed(guid_number(2), kA) == Report::done);
  CHECK(r.writer.claim(guid_number(5), kHost, kA, 0).outcome == Claim::granted);
  CHECK(contents_of(r.reader).size() == 4);
}

TEST_CASE("so is a run of colliding GUIDs as long as the probe limit") {
  Registry r(256);
  const auto guids = colliding_guids(r.writer.table().geometry(), shm::kProbeLimit + 1);
  for (size_t i = 0; i < shm::kProbeLimit; ++i) {
    CHECK(r.writer.claim(guids[i], kHost, kA, 0).outcome == Claim::granted);
  }
  CHECK(r.writer.claim(guids.back(), kHost, kA, 0).outcome == Claim::full);
  for (size_t i = 0; i < shm::kProbeLimit; ++i) CHECK(r.find(guids[i]));
}

TEST_CASE("entries behind one that ended are still found, and its place is used again") {
  Registry r(16);
  const auto guids = colliding_guids(r.writer.table().geometry(), 5);
  for (size_t i = 0; i < 4; ++i) CHECK(r.writer.claim(guids[i], kHost, kA, i).outcome == Claim::granted);
  CHECK(r.writer.claim_failed(guids[1], kA) == Report::done);
  CHECK(r.writer.claim_failed(guids[2], kA) == Report::done);
  CHECK(r.find(guids[0]));
  CHECK_FALSE(r.find(guids[1]));
  CHECK(r.find(guids[3]));
  CHECK(r.writer.claim(guids[4], kHost, kA, 0).outcome == Claim::granted);
  CHECK(r.find(guids[4]));
  CHECK(r.find(guids[3]));
  const auto home = r.writer.table().geometry().home(guids[0]);
  CHECK(r.writer.table().read((home + 1) % 16).value_or(shm::Entry{}).guid == guids[4]);
  // When nothing is left no search walks past anything.
  for (const size_t i : {3u, 0u, 4u}) CHECK(r.writer.claim_failed(guids[i], kA) == Report::done);
  for (size_t i = 0; i < 16; ++i) {
    const auto word = shm::RegistryGeometry::entry_word(i) + 1 + shm::record::kStatus;
    CHECK(r.writer.table().map().words()[word] == uint64_t(shm::EntryState::empty));
  }
}
