// SPDX-License-Identifier: MIT
// Open files that a module grants which the test plays, and what the worker has of them. One test, one
// thread.
#pragma once

#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/seqlock.h"
#include "smbd_exchange_rig.h"
#include "workers/smbd/direct_files.h"

namespace smbdirect::workers::session_test {

/// A file of some bytes with a name, for as long as this lives.
struct NamedFile {
  explicit NamedFile(std::string directory = "/tmp") : path(std::move(directory) + "/smbdirect-test-XXXXXX") {
    fd = shm::UniqueFd(::mkostemp(path.data(), O_CLOEXEC));
    REQUIRE(fd.valid());
    REQUIRE(::write(fd.get(), "0123456789", 10) == 10);
  }
  NamedFile(const NamedFile&) = delete;
  NamedFile& operator=(const NamedFile&) = delete;
  ~NamedFile() { ::unlink(path.c_str()); }
  [[nodiscard]] shm::UniqueFd open(int flags) const {
    return shm::UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
  }

  std::string path;
  shm::UniqueFd fd;
};

class DirectRig : public SmbdExchangeRig {
 public:
  static constexpr uint32_t kSlots = 8, kBoth = SMBDIRECT_RIGHT_READ | SMBDIRECT_RIGHT_WRITE;
  static constexpr uint64_t kSession = 0x1122334455;
  static constexpr uint32_t kTree = 7;
  static constexpr uint16_t kSequence = 3;

  DirectRig() {
    smb2_test::ask(
        context().translator, smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1}, 24),
        smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1, .flags = smb2_test::kResponse}, 8));
    link.stream(0);
  }
  ~DirectRig() override {
    if (table != nullptr) munmap(table, kTableBytes);
  }

  static Bytes packet(uint32_t type, uint32_t number = 0, const std::string& text = "") {
    Bytes bytes(SMBDIRECT_LINK_SIZE);
    smb2_test::put(bytes, SMBDIRECT_LINK_AT_TYPE, type, 4);
    smb2_test::put(bytes, SMBDIRECT_LINK_AT_NUMBER, number, 4);
    for (size_t i = 0; i < text.size(); ++i) bytes[SMBDIRECT_LINK_AT_TEXT + i] = std::byte(text[i]);
    return bytes;
  }
  static smb2::FileId id(uint8_t number) {
    smb2::FileId file;
    file.bytes.fill(std::byte{number});
    return file;
  }
  static Bytes grant(uint32_t slot, uint8_t file, uint32_t rights = kBoth, uint32_t generation = 1) {
    Bytes bytes = packet(SMBDIRECT_LINK_GRANT, slot);
    smb2_test::put(bytes, SMBDIRECT_LINK_AT_SESSION, kSession, 8);
    std::ranges::copy(id(file).bytes, bytes.begin() + SMBDIRECT_LINK_AT_TOKEN);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_TREE, kTree, 4);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_GENERATION, generation, 4);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_RIGHTS, rights, 4);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_CHANNEL_SEQUENCE, kSequence, 2);
    return bytes;
  }
  /// Of a grant that was made.
  static Bytes about(uint32_t type, uint32_t slot, uint32_t rights = 0, uint32_t generation = 1) {
    Bytes bytes = packet(type, slot);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_GENERATION, generation, 4);
    smb2_test::put(bytes, SMBDIRECT_GRANT_AT_RIGHTS, rights, 4);
    return bytes;
  }
  static smb2::DirectRequest request(uint8_t file, smb2::Command command = smb2::Command::read) {
    return {.command = command,
            .session_id = kSession,
            .tree_id = kTree,
            .file_id = id(file),
            .channel_sequence = kSequence,
            .length = 10};
  }

  /// One with that sequence.
  static smb2::RequestInfo counting(uint16_t sequence, uint8_t file) {
    return {.session_id = kSession, .tree_id = kTree, .channel_sequence = sequence, .file_id = id(file)};
  }

  void say(const Bytes& bytes, const std::vector<int>& sent = {}) {
    REQUIRE(test::send_with(module.get(), bytes, sent) == ssize_t(bytes.size()));
    wait(0);
  }
  /// Up to DIRECT.
  void greet() {
    files.opened();
    shm::UniqueFd ours;
    std::tie(module, ours) = test::socket_pair(SOCK_SEQPACKET);
    link.answered(std::move(ours));
    say(packet(SMBDIRECT_LINK_HELLO, SMBDIRECT_LINK_VERSION));
    Bytes heard(SMBDIRECT_LINK_SIZE);
    const auto seen = test::receive_with(module.get(), heard, MSG_DONTWAIT);
    REQUIRE(seen);
    REQUIRE(seen->descriptors.empty());
    REQUIRE(smb2_test::get(heard, 0, 4) == SMBDIRECT_LINK_DIRECT);
  }
  static constexpr size_t kTableBytes = SMBDIRECT_TABLE_SIZE(kSlots);
  static shm::UniqueFd make_table(size_t bytes = kTableBytes, int seals = F_SEAL_SHRINK | F_SEAL_GROW) {
    shm::UniqueFd fd(memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(fd.get(), off_t(bytes)) == 0);
    const uint32_t keeper = 1;  // a thread of smbd's
    if (bytes == kTableBytes)
      REQUIRE(::pwrite(fd.get(), &keeper, sizeof keeper, kSlots * 8) == sizeof keeper);
    REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
  }
  static constexpr size_t kUseBytes = SMBDIRECT_USE_SIZE(size_t{SMBDIRECT_SLOTS_MAX});
  /// Of all its links; each slot has the sequence of the grants here.
  static shm::UniqueFd make_use(size_t bytes = kUseBytes, int seals = F_SEAL_SHRINK | F_SEAL_GROW) {
    shm::UniqueFd fd(memfd_create("use", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(fd.get(), off_t(bytes)) == 0);
    for (uint32_t slot = 0; slot < kSlots; ++slot) set_sequence(fd.get(), slot, kSequence);
    REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
  }
  static void set_sequence(int fd, uint32_t slot, uint16_t sequence, uint32_t generation = 1) {
    const uint64_t word = uint64_t{generation} << 32 | sequence;
    REQUIRE(::pwrite(fd, &word, sizeof word, off_t{slot} * 8) == sizeof word);
  }
  static uint16_t sequence_in(int fd, uint32_t slot) {
    uint64_t word = 0;
    REQUIRE(::pread(fd, &word, sizeof word, off_t{slot} * 8) == sizeof word);
    return uint16_t(SMBDIRECT_USE_SEQUENCE(word));
  }
  /// What another link has under way.
  static void set_mark(int fd, uint32_t slot, uint32_t row, uint16_t count, uint16_t sequence) {
    const uint32_t mark = uint32_t{sequence} << 16 | count;
    const auto at = off_t{SMBDIRECT_SLOTS_MAX} * 8 + (off_t{slot} * SMBDIRECT_USE_ROWS + row) * 4;
    REQUIRE(::pwrite(fd, &mark, sizeof mark, at) == sizeof mark);
  }
  void give_table() {
    const shm::UniqueFd fd = make_table();
    table =
        static_cast<uint64_t*>(mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    REQUIRE(table != MAP_FAILED);
    say(packet(SMBDIRECT_LINK_USE, 1), {use.get()});
    say(packet(SMBDIRECT_LINK_TABLE, kSlots), {fd.get()});
  }
  void attach() {
    greet();
    give_table();
    REQUIRE(shown() == shm::DirectState::ready);
  }
  void set(uint32_t slot, uint32_t rights, uint32_t generation = 1) {
    shm::store_word(table[slot], uint64_t{generation} << 32 | rights);
  }
  /// One that is there to be read and written.
  void grant_file(uint32_t slot, uint8_t file, uint32_t generation = 1) {
    set_sequence(use.get(), slot, kSequence, generation);
    set(slot, kBoth, generation);
    say(grant(slot, file, kBoth, generation), {named.fd.get()});
  }
  [[nodiscard]] shm::DirectState shown() const { return files.shown(); }
  [[nodiscard]] bool gone() {
    std::byte byte{};
    ssize_t got = 0;
    while ((got = ::recv(module.get(), &byte, 1, MSG_DONTWAIT)) > 0) {
    }
    return got == 0;
  }

  NamedFile named;
  uint64_t* table = nullptr;
  shm::UniqueFd use = make_use();
  shm::UniqueFd module;
  SmbdLink link{context(), &links};
  DirectFiles files{context(), link, &directs};
};

}  // namespace smbdirect::workers::session_test
