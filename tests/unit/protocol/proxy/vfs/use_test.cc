// SPDX-License-Identifier: MIT
// What the module does with the memory that its links share (use.c), without smbd: its rule for a
// ChannelSequence is ours, and it waits for what is under way, for a while, and not for the dead.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/smb2/channel_sequence.h"

// The module's, which nobody else includes.
struct smbdirect_link {
  bool dead;
};
extern "C" {
int smbdirect_use_memory(const char** why);
int smbdirect_use_row_take(const smbdirect_link* link);
void smbdirect_use_row_leave(int row, bool gone);
void smbdirect_use_begin(unsigned slot, uint32_t generation, uint16_t sequence);
void smbdirect_use_end(unsigned slot);
void smbdirect_use_raise(unsigned slot, uint32_t generation, uint16_t sequence);
bool smbdirect_use_any();

bool smbdirect_link_dead(const smbdirect_link* link);
void use_test_warned(const char* format, ...);
}

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

int warnings = 0;
constexpr unsigned kSlot = 77;

/// The memory, as a worker has it.
struct Use {
  Use() {
    const char* why = "";
    const int fd = smbdirect_use_memory(&why);
    REQUIRE_MESSAGE(fd >= 0, why);
    memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(memory != MAP_FAILED);
    warnings = 0;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() { ::munmap(memory, kBytes); }

  [[nodiscard]] uint64_t& word(unsigned slot) const { return static_cast<uint64_t*>(memory)[slot]; }
  [[nodiscard]] uint32_t& mark(unsigned slot, int row) const {
    auto* const marks = reinterpret_cast<uint32_t*>(static_cast<uint64_t*>(memory) + SMBDIRECT_SLOTS_MAX);
    return marks[size_t{slot} * SMBDIRECT_USE_ROWS + size_t(row)];
  }
  void set_mark(int row, uint16_t count, uint16_t sequence) const {
    __atomic_store_n(&mark(kSlot, row), uint32_t{sequence} << 16 | count, __ATOMIC_SEQ_CST);
  }

  static constexpr size_t kBytes = SMBDIRECT_USE_SIZE(size_t{SMBDIRECT_SLOTS_MAX});
  void* memory = nullptr;
};

/// A link's row, for as long as this lives.
struct Row {
  Row() : number(smbdirect_use_row_take(&link)) { REQUIRE(number >= 0); }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;
  ~Row() { smbdirect_use_row_leave(number, true); }

  smbdirect_link link{};
  int number;
};

milliseconds raising(uint16_t to) {
  const auto began = Clock::now();
  smbdirect_use_raise(kSlot, 1, to);
  return std::chrono::duration_cast<milliseconds>(Clock::now() - began);
}
milliseconds ending() {
  const auto began = Clock::now();
  smbdirect_use_end(kSlot);
  return std::chrono::duration_cast<milliseconds>(Clock::now() - began);
}

constexpr milliseconds kAWhile{1000};

}  // namespace

bool smbdirect_link_dead(const smbdirect_link* link) { return link->dead; }
void use_test_warned(const char* /*format*/, ...) { ++warnings; }

TEST_CASE("the module's rule for what is older is ours") {
  const Use use;
  constexpr std::array<uint16_t, 12> kEdges{0,      1,      2,      0x7FFE, 0x7FFF, 0x8000,
                                            0x8001, 0x8002, 0xFFFD, 0xFFFE, 0xFFFF, 0x1234};
  for (const uint16_t from : kEdges) {
    for (const uint16_t to : kEdges) {
      INFO(from << " to " << to);
      smbdirect_use_begin(kSlot, 9, from);
      smbdirect_use_raise(kSlot, 9, to);
      const bool newer = smbdirect::protocol::smb2::older_sequence(from, to);
      CHECK(SMBDIRECT_USE_SEQUENCE(use.word(kSlot)) == (newer ? to : from));
      CHECK(SMBDIRECT_USE_GENERATION(use.word(kSlot)) == 9);
    }
  }
}

TEST_CASE("who raises waits for what is older, for a while") {
  const Use use;
  const Row row;
  smbdirect_use_begin(kSlot, 1, 5);
  use.set_mark(row.number, 1, 6);
  (void)raising(6);
  CHECK(warnings == 0);          // as new
  CHECK(raising(8) >= kAWhile);  // it does not end
  CHECK(warnings == 1);
  CHECK(SMBDIRECT_USE_SEQUENCE(use.word(kSlot)) == 8);
  (void)raising(8);
  CHECK(warnings == 1);  // it has waited for that
  std::thread writer([&] {
    std::this_thread::sleep_for(milliseconds(100));
    use.set_mark(row.number, 0, 6);
  });
  const auto waited = raising(9);
  writer.join();
  CHECK(waited >= milliseconds(50));
  CHECK(use.mark(kSlot, row.number) == uint32_t{6} << 16);
  CHECK(warnings == 1);
}

TEST_CASE("a slot whose open is closed is nobody's, and what is under way is waited for, however new") {
  const Use use;
  const Row row, other;
  smbdirect_use_begin(kSlot, 1, 5);
  use.set_mark(other.number, 2, 5);
  CHECK(ending() >= kAWhile);
  CHECK(warnings == 1);
  CHECK(use.word(kSlot) == 0);
  use.set_mark(other.number, 0, 5);
  smbdirect_use_begin(kSlot, 2, 5);
  (void)ending();
  CHECK(warnings == 1);
}

TEST_CASE("an open that a link is closing stays so, whatever smbd sees of it") {
  const Use use;
  smbdirect_use_begin(kSlot, 1, 5);
  use.word(kSlot) |= SMBDIRECT_USE_CLOSING;
  (void)raising(6);
  CHECK(use.word(kSlot) == (uint64_t{1} << 32 | SMBDIRECT_USE_CLOSING | 6));
  (void)ending();
  smbdirect_use_begin(kSlot, 2, 0);
  CHECK(use.word(kSlot) == uint64_t{2} << 32);
}

TEST_CASE("whatever is under way anywhere is seen, but that of the dead") {
  const Use use;
  Row row;
  smbdirect_use_begin(kSlot, 1, 5);
  CHECK_FALSE(smbdirect_use_any());
  use.set_mark(row.number, 1, 9);
  CHECK(smbdirect_use_any());
  row.link.dead = true;
  CHECK_FALSE(smbdirect_use_any());
}

TEST_CASE("nobody waits for the dead, whose end is not heard of yet") {
  const Use use;
  Row row;
  smbdirect_use_begin(kSlot, 1, 5);
  use.set_mark(row.number, 1, 5);
  row.link.dead = true;
  (void)raising(6);
  (void)ending();
  CHECK(warnings == 0);
}

TEST_CASE("the row of a link that was given up is nobody's again, and its marks count") {
  const Use use;
  smbdirect_link given_up{};
  const int row = smbdirect_use_row_take(&given_up);
  REQUIRE(row >= 0);
  smbdirect_use_begin(kSlot, 1, 5);
  use.set_mark(row, 1, 5);
  smbdirect_use_row_leave(row, false);
  CHECK(SMBDIRECT_USE_MARK_COUNT(use.mark(kSlot, row)) == 1);
  (void)ending();
  CHECK(warnings == 1);
  {
    const Row next;
    CHECK(next.number != row);
  }
  use.set_mark(row, 0, 5);  // the other side ends what it was at
  (void)ending();
  CHECK(warnings == 1);
}

TEST_CASE("a row that is left is taken again, and its marks have gone") {
  const Use use;
  smbdirect_link link{};
  const int row = smbdirect_use_row_take(&link);
  REQUIRE(row >= 0);
  smbdirect_use_begin(kSlot, 1, 5);
  use.set_mark(row, 3, 5);
  smbdirect_use_row_leave(row, true);
  CHECK(use.mark(kSlot, row) == 0);
  const Row again;
  CHECK(again.number == row);
}
