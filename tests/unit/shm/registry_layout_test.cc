// SPDX-License-Identifier: MIT
// What is agreed between processes: the layout, and what a reader refuses to map.
#include <bit>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>

#include <doctest/doctest.h>

#include "registry_support.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;

namespace {

/// A memfd sealed as a registry is, with these bytes at its start.
shm::UniqueFd sealed(const void* bytes, size_t length, size_t size, int seals) {
  shm::UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(fd.get(), off_t(size)) == 0);
  REQUIRE(pwrite(fd.get(), bytes, length, 0) == ssize_t(length));
  REQUIRE(fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

std::string refusal(int fd) {
  const auto reader = shm::RegistryReader::open(fd);
  return reader ? "" : reader.error().text();
}

}  // namespace

TEST_CASE("the layout is the one that version 1 has") {
  CHECK(sizeof(shm::EntryWords) == 768);
  CHECK(shm::kRegistryHeaderSize == 64);
  CHECK(shm::registry_bytes(4) == 64 + 4 * 768);

  auto writer = shm::RegistryWriter::create(3, shm::SipKey{0x1111, 0x2222});
  REQUIRE(writer);
  const auto words = writer->table().map().words();
  REQUIRE(words.size() == shm::registry_bytes(4) / 8);
  CHECK(std::memcmp(words.data(), "SMBGUIDR", 8) == 0);
  CHECK(words[1] == (uint64_t{64} << 32 | 1));
  CHECK(words[2] == (uint64_t{768} << 32 | 4));
  CHECK(words[3] == 0x1111);
  CHECK(words[4] == 0x2222);

  writer->worker_started({5, 9});
  const shm::Guid guid = guid_number(0x0102030405060708);
  CHECK(writer->channel_up(guid, {5, 9}, {77, 123456}, host_number(0x0a000001), 1000) == shm::Report::done);
  const size_t at = shm::RegistryGeometry::entry_word(writer->table().geometry().home(guid));
  CHECK(words[at] == 2);  // sequence
  CHECK(words[at + 1] == 0x0102030405060708);
  CHECK(words[at + 2] == uint64_t{0x42} << 56);
  CHECK(words[at + 3] == (2 | 1 << 8));  // LIVE, one address
  CHECK(words[at + 4] == 1u << 5);       // workers
  CHECK(words[at + 5] == 77);            // peer
  CHECK(words[at + 6] == 123456);
  CHECK(words[at + 7] == 1000);                     // since
  CHECK(words[at + 8] == (uint64_t{9} << 32 | 5));  // starter
  CHECK(std::memcmp(&words[at + 9], host_number(0x0a000001).data(), 16) == 0);
  CHECK(words[at + 25 + 5] == (uint64_t{1} << 32 | 9));  // one channel, generation 9
}

TEST_CASE("entries go into words and back") {
  shm::Entry entry;
  entry.guid = guid_number(7);
  entry.state = shm::EntryState::live;
  entry.peer = {4711, 99};
  entry.starter = {63, 4};
  entry.since_ms = 5;
  entry.workers = uint64_t{1} << 63 | 1;
  entry.slots[0] = {1, 2};
  entry.slots[63] = {4, 1};
  for (uint32_t i = 0; i < shm::kClientAddresses; ++i) entry.addresses.push_back(host_number(i + 1));
  CHECK(shm::decode(shm::encode(entry)) == entry);
  CHECK(entry.channels() == 3);
  CHECK(entry.has_worker(63));
  CHECK_FALSE(entry.has_worker(1));
}

TEST_CASE("a record that makes no sense is none") {
  shm::Entry entry;
  entry.guid = guid_number(7);
  entry.state = shm::EntryState::live;
  entry.workers = 4;
  entry.slots[2] = {1, 1};
  const shm::Record good = shm::encode(entry);
  REQUIRE(shm::decode(good));
  const auto wrong = [&](size_t word, uint64_t value) {
    shm::Record bad = good;
    bad[word] = value;
    return !shm::decode(bad);
  };
  CHECK(wrong(shm::record::kStatus, 0));
  CHECK(wrong(shm::record::kStatus, 3));
  CHECK(wrong(shm::record::kStatus, 4));
  CHECK(wrong(shm::record::kStatus, 255));
  CHECK(wrong(shm::record::kStatus, 1));           // STARTING with a worker
  CHECK(wrong(shm::record::kStatus, 2 | 9 << 8));  // nine addresses
  CHECK(wrong(shm::record::kWorkers, 0));          // LIVE without one
  CHECK(wrong(shm::record::kWorkers, 8));          // whose worker has no channel
  CHECK(wrong(shm::record::kPeerPid, uint64_t{1} << 32));
  CHECK(wrong(shm::record::kStarter, 64));
  shm::Record zero = good;
  zero[shm::record::kGuid] = zero[shm::record::kGuid + 1] = 0;
  CHECK_FALSE(shm::decode(zero));
}

TEST_CASE("any words at all can be read") {
  const uint32_t number = seed();
  INFO("SMBDIRECTD_SEED=" << number);
  std::mt19937_64 random(number);
  for (int i = 0; i < 20'000; ++i) {
    shm::Record words;
    for (uint64_t& word : words) word = random() >> random() % 64;
    words[shm::record::kStatus] = random() % 4 | random() % 12 << 8;
    if (const auto entry = shm::decode(words)) {
      CHECK(entry->addresses.size() <= shm::kClientAddresses);
      CHECK(entry->starter.slot < shm::kWorkerSlots);
    }
  }
}

TEST_CASE("only a sealed registry of this version is opened") {
  auto writer = shm::RegistryWriter::create(4);
  REQUIRE(writer);
  CHECK(refusal(writer->fd()).empty());
  shm::RegistryHeader header;
  std::memcpy(&header, writer->table().map().words().data(), sizeof header);
  const size_t size = shm::registry_bytes(4);
  const auto refused = [&](auto change) {
    shm::RegistryHeader other = header;
    change(other);
    return refusal(sealed(&other, sizeof other, size, kSeals).get());
  };
  CHECK(refused([](auto&) {}).empty());
  CHECK(refused([](auto& h) { h.magic = 1; }) == "GUID registry: the shared memory is not a registry");
  CHECK(refused([](auto& h) { h.version = 2; }) ==
        "GUID registry: its version is 2, but this program expects 1");
  CHECK(refused([](auto& h) { h.header_size = 8; }) ==
        "GUID registry: its header size is 8, but this program expects 64");
  CHECK(refused([](auto& h) { h.entry_size = 760; }) ==
        "GUID registry: its entry size is 760, but this program expects 768");
  for (const uint32_t count : {0u, 3u, 8u, 0x80000000u}) {
    CHECK(refused([&](auto& h) { h.entry_count = count; }) ==
          "GUID registry: " + std::to_string(count) + " entries do not fit its size of 3136 bytes");
  }
  CHECK(refusal(sealed(&header, sizeof header, size, F_SEAL_SHRINK | F_SEAL_GROW).get())
            .ends_with("against writers"));
  CHECK(refusal(sealed(&header, sizeof header, size, F_SEAL_FUTURE_WRITE).get())
            .ends_with("size is not sealed"));
  CHECK(refusal(sealed(&header, 8, 8, kSeals).get()).ends_with("its size of 8 bytes is not valid"));
  CHECK(refusal(-1).find("not a memfd") != std::string::npos);
  const shm::UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(refusal(null.get()).find("not a memfd") != std::string::npos);
}

TEST_CASE("nobody but its maker can change or resize a registry") {
  auto writer = shm::RegistryWriter::create(4);
  REQUIRE(writer);
  CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd(), 0) == MAP_FAILED);
  CHECK(pwrite(writer->fd(), "x", 1, 0) < 0);
  CHECK(ftruncate(writer->fd(), 0) < 0);
  CHECK(ftruncate(writer->fd(), 1 << 20) < 0);
  CHECK((fcntl(writer->fd(), F_GETFD) & FD_CLOEXEC) != 0);
  void* const readable = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, writer->fd(), 0);
  REQUIRE(readable != MAP_FAILED);
  CHECK(mprotect(readable, 4096, PROT_READ | PROT_WRITE) < 0);
  munmap(readable, 4096);
  writer->worker_started({0, 1});
  CHECK(writer->claim(guid_number(1), {}, {0, 1}, 0).outcome == shm::Claim::granted);
}

TEST_CASE("sizes that cannot be are refused, others rounded up") {
  CHECK_FALSE(shm::RegistryWriter::create(0));
  CHECK_FALSE(shm::RegistryWriter::create(shm::kMaxEntries + 1));
  for (const auto& [asked, made] : {std::pair{1, 1}, {2, 2}, {5, 8}, {1000, 1024}}) {
    const auto writer = shm::RegistryWriter::create(size_t(asked));
    REQUIRE(writer);
    const auto reader = shm::RegistryReader::open(writer->fd());
    REQUIRE(reader);
    CHECK(reader->geometry().entry_count == size_t(made));
  }
}

TEST_CASE("each registry has a key of its own") {
  const auto a = shm::RegistryWriter::create(4);
  const auto b = shm::RegistryWriter::create(4);
  REQUIRE(a);
  REQUIRE(b);
  CHECK(shm::RegistryReader::open(a->fd())->geometry().hash_key !=
        shm::RegistryReader::open(b->fd())->geometry().hash_key);
}
