// SPDX-License-Identifier: MIT
// Open files that smbd's module grants, honestly and not: which requests may be done on them.
#include <unistd.h>

#include <doctest/doctest.h>

#include "direct_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

TEST_CASE(
    "a file is there for the requests of its session, tree and sequence, as long as the table says so") {
  DirectRig rig;
  rig.attach();
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  rig.grant_file(2, 1);
  const auto file = rig.files.find(DirectRig::request(1));
  REQUIRE(file != nullptr);
  CHECK(test::inode(file->fd.get()) == test::inode(rig.named.fd.get()));
  CHECK(file->read.holds());
  CHECK(rig.files.open_files() == 1);
  CHECK(rig.descriptors.used() == 1);

  auto other = DirectRig::request(1);
  ++other.session_id;
  CHECK(rig.files.find(other) == nullptr);
  other = DirectRig::request(1);
  ++other.tree_id;
  CHECK(rig.files.find(other) == nullptr);
  CHECK(rig.files.find(DirectRig::request(2)) == nullptr);
  CHECK(rig.files.find(DirectRig::request(1)) == file);

  rig.set(2, 0);
  CHECK_FALSE(file->read.holds());
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  rig.set(2, DirectRig::kBoth, 2);  // another grant's
  CHECK_FALSE(file->read.holds());
  rig.set(2, SMBDIRECT_RIGHT_WRITE);
  CHECK_FALSE(file->read.holds());
  CHECK(file->write.holds());
  rig.set(2, DirectRig::kBoth);
  CHECK(rig.files.find(DirectRig::request(1)) == file);
}

TEST_CASE("who counts its channel sequence on shows smbd that, and goes on here") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  const auto file = rig.files.find(DirectRig::request(1));
  REQUIRE(file != nullptr);
  const auto counts_on = [&](uint16_t by, uint8_t id = 1) {
    return rig.files.counts_on(DirectRig::counting(DirectRig::kSequence + by, id));
  };
  CHECK_FALSE(counts_on(0));
  CHECK_FALSE(counts_on(2, 5));  // no file
  CHECK(counts_on(2));
  CHECK_FALSE(counts_on(2));
  CHECK_FALSE(counts_on(1));
  CHECK_FALSE(rig.files.older_under_way());
  CHECK(DirectRig::sequence_in(rig.use.get(), 0) == DirectRig::kSequence + 2);
  auto later = DirectRig::request(1);
  later.channel_sequence += 2;
  CHECK(rig.files.find(later) == file);
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);  // of before that: smbd may have to refuse it
  CHECK_FALSE(file->sequence.is_newest(DirectRig::kSequence));
}

TEST_CASE("who names somebody else's open counts nothing on: its own requests go on here") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  const auto file = rig.files.find(DirectRig::request(1));
  auto other = DirectRig::counting(DirectRig::kSequence + 1, 1);
  SUBCASE("of another session") { ++other.session_id; }
  SUBCASE("of another tree") { ++other.tree_id; }
  CHECK_FALSE(rig.files.counts_on(other));
  CHECK(DirectRig::sequence_in(rig.use.get(), 0) == DirectRig::kSequence);
  CHECK(rig.files.find(DirectRig::request(1)) == file);
  CHECK_FALSE(rig.files.older_under_way());
}

TEST_CASE("of a channel that the client has lost nothing is done any more once another one counts on") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  const auto file = rig.files.find(DirectRig::request(1));
  REQUIRE(file != nullptr);
  DirectRig::set_sequence(rig.use.get(), 0, DirectRig::kSequence + 1);  // another link has
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  CHECK(rig.shown() == shm::DirectState::other_channel);
  CHECK_FALSE(file->sequence.is_newest(DirectRig::kSequence));  // what waits for a thread asks that
  auto later = DirectRig::request(1);
  ++later.channel_sequence;
  CHECK(rig.files.find(later) == nullptr);  // smbd is to see it from this one too
  CHECK(rig.files.counts_on(DirectRig::counting(later.channel_sequence, 1)));
  CHECK(rig.files.find(later) == file);
}

TEST_CASE("who counts on waits for what is under way by other channels with an older sequence") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  rig.grant_file(1, 2);
  const auto under_way = [&](uint16_t count, uint16_t sequence, uint32_t slot = 0) {
    DirectRig::set_mark(rig.use.get(), slot, 5, count, sequence);
    return rig.files.older_under_way();
  };
  CHECK_FALSE(under_way(1, DirectRig::kSequence));  // nobody has counted on
  CHECK(rig.files.counts_on(DirectRig::counting(DirectRig::kSequence + 1, 1)));
  CHECK(rig.files.older_under_way());
  CHECK(under_way(2, DirectRig::kSequence - 1));
  CHECK_FALSE(under_way(1, DirectRig::kSequence + 1));
  CHECK_FALSE(under_way(1, DirectRig::kSequence));  // it has been seen to be over: none can begin
  CHECK(rig.files.counts_on(DirectRig::counting(DirectRig::kSequence + 1, 2)));
  CHECK_FALSE(rig.files.older_under_way());
}

TEST_CASE("a link that ends waits for nobody") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  DirectRig::set_mark(rig.use.get(), 0, 5, 1, DirectRig::kSequence);
  CHECK(rig.files.counts_on(DirectRig::counting(DirectRig::kSequence + 1, 1)));
  CHECK(rig.files.older_under_way());
  rig.module.reset();
  rig.wait(0);
  CHECK_FALSE(rig.files.older_under_way());
}

TEST_CASE("the module does not see a link end that has something under way") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  auto file = rig.files.find(DirectRig::request(1));
  REQUIRE(file != nullptr);
  rig.link.end("of the test");
  CHECK_FALSE(rig.gone());
  file.reset();
  CHECK(rig.gone());
}

TEST_CASE("the first WRITE of a file is smbd's") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  rig.grant_file(1, 2);
  const auto write = [](uint8_t file) { return DirectRig::request(file, smb2::Command::write); };
  CHECK(rig.files.find(write(1)) == nullptr);
  CHECK(rig.files.find(write(1)) == nullptr);  // smbd has not answered
  rig.files.smbd_wrote(DirectRig::id(1));
  rig.files.smbd_wrote(DirectRig::id(9));
  CHECK(rig.files.find(write(1)) != nullptr);
  CHECK(rig.files.find(write(2)) == nullptr);
}

TEST_CASE("what is closed is forgotten, but not under an operation, and its slot is free") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  auto under_way = rig.files.find(DirectRig::request(1));
  REQUIRE(under_way != nullptr);
  rig.set(0, 0, 2);
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0));
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  CHECK(rig.files.open_files() == 0);
  char byte = 0;
  CHECK(::pread(under_way->fd.get(), &byte, 1, 3) == 1);
  CHECK(byte == '3');
  CHECK(rig.descriptors.used() == 1);
  under_way.reset();
  CHECK(rig.descriptors.used() == 0);
  rig.grant_file(0, 1, 2);
  CHECK(rig.files.find(DirectRig::request(1)) != nullptr);
}

TEST_CASE("the end of the link is the end of all files, also of what is under way") {
  DirectRig rig;
  rig.attach();
  rig.grant_file(0, 1);
  const auto under_way = rig.files.find(DirectRig::request(1));
  REQUIRE(under_way != nullptr);
  rig.module.reset();
  rig.wait(0);
  CHECK_FALSE(under_way->read.holds());
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  CHECK(rig.shown() == shm::DirectState::lost);
  CHECK(rig.broken.empty());
}

TEST_CASE("a descriptor limits its grant, and the grant the descriptor") {
  DirectRig rig;
  rig.attach();
  const auto rights = [&](uint8_t file, int flags, uint32_t granted) {
    const shm::UniqueFd fd = rig.named.open(flags);
    rig.set(file, DirectRig::kBoth);
    rig.say(DirectRig::grant(file, file, granted), {fd.get()});
    rig.files.smbd_wrote(DirectRig::id(file));
    return std::pair{rig.files.find(DirectRig::request(file)) != nullptr,
                     rig.files.find(DirectRig::request(file, smb2::Command::write)) != nullptr};
  };
  CHECK(rights(1, O_RDONLY, DirectRig::kBoth) == std::pair{true, false});
  CHECK(rights(2, O_WRONLY, DirectRig::kBoth) == std::pair{false, true});
  CHECK(rights(3, O_RDWR, SMBDIRECT_RIGHT_READ) == std::pair{true, false});
  CHECK(rights(4, O_RDWR, SMBDIRECT_RIGHT_WRITE) == std::pair{false, true});
  CHECK(rights(5, O_RDWR, DirectRig::kBoth) == std::pair{true, true});
}

TEST_CASE("beyond the limits a grant is dropped and its descriptor closed, and those before it stay") {
  DirectRig rig;
  bool worker = false;
  SUBCASE("of the session") { rig.directs.files = 2; }
  SUBCASE("of the worker") {
    rig.descriptors.set_limit(2);
    worker = true;
  }
  rig.attach();
  const size_t before = test::open_descriptors();
  for (uint8_t file = 0; file < 4; ++file) rig.grant_file(file, file);
  CHECK(test::open_descriptors() == before + 2);
  CHECK(rig.files.open_files() == 2);
  CHECK(rig.files.find(DirectRig::request(1)) != nullptr);
  CHECK(rig.files.find(DirectRig::request(3)) == nullptr);
  CHECK(rig.shown() == shm::DirectState::full);
  rig.say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 3, 0));  // it is known, if not used
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 3));
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0));
  rig.grant_file(0, 7, 2);
  CHECK(rig.files.find(DirectRig::request(7)) != nullptr);
  CHECK(rig.descriptors.used() == 2);
  CHECK_FALSE(rig.gone());
  CHECK((worker || rig.server->counters().direct_grants == 3));
}

TEST_CASE("what is no file is not used, and closed; the link goes on") {
  DirectRig rig;
  rig.attach();
  const size_t before = test::open_descriptors();
  {
    const auto [a, b] = test::socket_pair();
    rig.say(DirectRig::grant(0, 1), {a.get()});
  }
  CHECK(test::open_descriptors() == before);
  rig.set(0, DirectRig::kBoth);
  CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
  CHECK(rig.shown() == shm::DirectState::unusable);
  rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0));
  rig.grant_file(0, 1, 2);
  CHECK(rig.files.find(DirectRig::request(1)) != nullptr);
}

TEST_CASE("a module that lies loses its link, and all descriptors are closed") {
  constexpr int kLies = 23;
  for (int lie = 0; lie < kLies; ++lie) {
    INFO("lie " << lie);
    DirectRig rig;
    const size_t before = test::open_descriptors();
    const int file = rig.named.fd.get();
    if (lie < 11) {
      rig.greet();
      switch (lie) {
        case 0:  // a grant without a table
          rig.say(DirectRig::grant(0, 1), {file});
          break;
        case 1:  // a table that is a file
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {rig.use.get()});
          rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {file});
          break;
        case 2: {  // of another size
          const auto fd = DirectRig::make_table(DirectRig::kTableBytes - 8);
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {rig.use.get()});
          rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {fd.get()});
          break;
        }
        case 3: {  // that could be cut off
          const auto fd = DirectRig::make_table(DirectRig::kTableBytes, F_SEAL_GROW);
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {rig.use.get()});
          rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {fd.get()});
          break;
        }
        case 4:
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {rig.use.get()});
          rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots));
          break;
        case 5: {  // without what is under way
          const auto fd = DirectRig::make_table();
          rig.say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {fd.get()});
          break;
        }
        case 6:  // what is under way in a file
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {file});
          break;
        case 7: {  // of another size
          const auto fd = DirectRig::make_use(DirectRig::kUseBytes - 8);
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {fd.get()});
          break;
        }
        case 8: {  // that could be cut off
          const auto fd = DirectRig::make_use(DirectRig::kUseBytes, F_SEAL_GROW);
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE), {fd.get()});
          break;
        }
        case 9:
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE));
          break;
        case 10:  // twice
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE, 0), {rig.use.get()});
          rig.say(DirectRig::packet(SMBDIRECT_LINK_USE, 1), {rig.use.get()});
          break;
      }
    } else {
      rig.attach();
      rig.grant_file(0, 1);
      REQUIRE(rig.files.open_files() == 1);
      switch (lie) {
        case 11:  // the slot is taken
          rig.say(DirectRig::grant(0, 2), {file});
          break;
        case 12:  // the file is
          rig.say(DirectRig::grant(1, 1), {file});
          break;
        case 13:  // beyond the table
          rig.say(DirectRig::grant(DirectRig::kSlots, 2), {file});
          break;
        case 14:
          rig.say(DirectRig::grant(1, 2));
          break;
        case 15:
          rig.say(DirectRig::grant(1, 2), {file, file});
          break;
        case 16:  // nothing was granted there
          rig.say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 1));
          break;
        case 17:
          rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 1));
          break;
        case 18:  // an older grant
          rig.say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 0, 0, 9));
          break;
        case 19:
          rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0, 0, 9));
          break;
        case 20:  // a descriptor with what has none
          rig.say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0), {file});
          break;
        case 21:  // refused, after all
          rig.say(DirectRig::packet(SMBDIRECT_LINK_DIRECT_NOT, 0, "no"));
          break;
        case 22:  // truncated
          rig.say(Bytes(100), {file});
          break;
      }
    }
    CHECK(rig.gone());
    CHECK(rig.shown() == shm::DirectState::lost);
    CHECK(rig.files.open_files() == 0);
    CHECK(rig.files.find(DirectRig::request(1)) == nullptr);
    CHECK(rig.descriptors.used() == 0);
    rig.module.reset();
    CHECK(test::open_descriptors() <= before);
    CHECK(rig.broken.empty());
  }
}

TEST_CASE("descriptors that come before DIRECT was said are never received") {
  DirectRig rig;
  rig.files.opened();
  shm::UniqueFd ours;
  std::tie(rig.module, ours) = test::socket_pair(SOCK_SEQPACKET);
  const size_t before = test::open_descriptors();
  rig.link.answered(std::move(ours));
  rig.say(DirectRig::packet(SMBDIRECT_LINK_HELLO, SMBDIRECT_LINK_VERSION), {rig.named.fd.get()});
  CHECK(test::open_descriptors() == before);
}
