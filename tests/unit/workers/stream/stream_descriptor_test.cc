// SPDX-License-Identifier: MIT
// Streams that are UNIX sockets: descriptors that travel with bytes, who wrote the bytes, and memory that is
// shared by descriptor.
#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "shm/area.h"
#include "shm/base/unique_fd.h"
#include "tests/unit/unix_sockets.h"
#include "workers/memory/slab.h"
#include "workers/stream/outbox.h"
#include "workers/stream/reader.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::test;     // NOLINT: of the helpers
using smbdirect::shm::UniqueFd;

namespace {

/// A descriptor of its own file, by which it is known again.
UniqueFd marked() {
  UniqueFd fd(::memfd_create("marked", MFD_CLOEXEC));
  REQUIRE(fd.valid());
  return fd;
}
/// Bytes, and the descriptor that came with them: never two together.
struct Received {
  size_t bytes = 0;
  UniqueFd descriptor;
};
std::optional<Received> receive(int fd, std::span<std::byte> into) {
  auto seen = receive_with(fd, into);
  if (!seen) return std::nullopt;
  CHECK_FALSE(seen->truncated);
  CHECK(seen->descriptors.size() <= 1);
  return Received{seen->bytes, seen->descriptors.empty() ? UniqueFd() : std::move(seen->descriptors[0])};
}

constexpr std::array<std::byte, 10> kTen{std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

TEST_CASE("a descriptor comes with the first byte pushed after it, and with no other") {
  const size_t before = open_descriptors();
  {
    auto [left, right] = socket_pair();
    Outbox out;
    UniqueFd first = marked(), second = marked(), third = marked();
    const ino_t one = inode(first.get()), two = inode(second.get()), three = inode(third.get());
    out.push_copy(kTen);
    out.push_descriptor(std::move(first));
    out.push_copy(kTen);
    out.push({}, kTen);
    out.push_descriptor(std::move(second));
    out.push({}, kTen);
    out.push_descriptor(std::move(third));
    out.push_copy(kTen);
    CHECK(out.bytes() == 50);
    CHECK(*out.flush(left.get()) == Outbox::Flush::done);
    CHECK(out.empty());
    CHECK(out.bytes() == 0);
    // Byte by byte: each descriptor is seen where it was pushed.
    for (size_t at = 0; at < 50; ++at) {
      std::array<std::byte, 1> byte{};
      const auto seen = receive(right.get(), byte);
      REQUIRE(seen);
      CHECK(byte[0] == kTen[at % 10]);
      const ino_t due = at == 10 ? one : at == 30 ? two : at == 40 ? three : 0;
      CHECK_MESSAGE(seen->descriptor.valid() == (due != 0), "at byte " << at);
      if (due != 0 && seen->descriptor.valid()) CHECK(inode(seen->descriptor.get()) == due);
    }
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("through a socket that takes little at a time every descriptor keeps its place") {
  const size_t before = open_descriptors();
  {
    auto [left, right] = socket_pair();
    const int small = 4096;
    REQUIRE(::setsockopt(left.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    constexpr size_t kFrame = 50'000;
    constexpr size_t kFrames = 12;
    std::vector<std::byte> sent;
    for (size_t i = 0; i < kFrames * kFrame; ++i) sent.push_back(std::byte(i * 7 % 251));
    Outbox out;
    std::vector<ino_t> marks;
    for (size_t i = 0; i < kFrames; ++i) {
      UniqueFd mark = marked();
      marks.push_back(inode(mark.get()));
      out.push_descriptor(std::move(mark));
      out.push({}, std::span(sent).subspan(i * kFrame, kFrame));
    }
    std::vector<std::byte> received;
    std::vector<ino_t> found;
    bool blocked = false;
    while (received.size() < sent.size()) {
      const auto flushed = out.flush(left.get());
      REQUIRE(flushed);
      blocked = blocked || *flushed == Outbox::Flush::blocked;
      std::array<std::byte, 1000> some{};
      while (received.size() < sent.size()) {
        // Not past a frame's end, so that what comes is this frame's.
        const size_t left_here = kFrame - received.size() % kFrame;
        const auto seen = receive(right.get(), std::span(some).first(std::min(some.size(), left_here)));
        if (!seen) break;
        CHECK(seen->descriptor.valid() == (received.size() % kFrame == 0));
        if (seen->descriptor.valid()) found.push_back(inode(seen->descriptor.get()));
        received.insert(received.end(), some.begin(), some.begin() + ptrdiff_t(seen->bytes));
      }
    }
    CHECK(blocked);
    CHECK(out.empty());
    CHECK(received == sent);
    CHECK(found == marks);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("a descriptor that goes nowhere is closed: with the outbox, by clear, by a later one") {
  const size_t before = open_descriptors();
  {
    Outbox out;
    out.push_descriptor(marked());
    out.push_copy(kTen);
    out.push_descriptor(marked());
    CHECK(open_descriptors() == before + 2);
    out.clear();
    CHECK(open_descriptors() == before);
    out.push_copy(kTen);  // without what was cleared
    out.push_descriptor(marked());
    out.push_descriptor(marked());
    CHECK(open_descriptors() == before + 1);
    auto [left, right] = socket_pair();
    REQUIRE(out.flush(left.get()));
    std::array<std::byte, 10> bytes{};
    CHECK_FALSE(receive(right.get(), bytes)->descriptor.valid());
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("an outbox to somebody who has gone fails, and still holds what it could not send") {
  auto [left, right] = socket_pair();
  right.reset();
  Outbox out;
  out.push_descriptor(marked());
  out.push_copy(kTen);
  const auto flushed = out.flush(left.get());
  REQUIRE_FALSE(flushed);
  CHECK(flushed.error().system_errno == EPIPE);
}

TEST_CASE("a reader learns who wrote the bytes, also when several have") {
  Arena arena;
  SlabPool pool(arena, 4096);
  Budget budget(1u << 20);
  StreamReader in(pool, budget);
  auto [left, right] = socket_pair();
  const int one = 1;
  REQUIRE(::setsockopt(right.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
  REQUIRE(::write(left.get(), "ours", 4) == 4);
  const pid_t child = ::fork();
  if (child == 0) _exit(::write(left.get(), "theirs", 6) == 6 ? 0 : 1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  REQUIRE(::write(left.get(), "again", 5) == 5);
  pid_t sender = 0;
  std::array<std::byte, 16> scratch{};
  const auto text = [&](size_t count) {
    const auto bytes = in.peek(count, scratch);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  REQUIRE(in.fill(right.get(), 4096, &sender));
  CHECK(sender == ::getpid());
  CHECK(in.available() == 4);  // one writer at a time
  CHECK(text(4) == "ours");
  in.skip(4);
  REQUIRE(in.fill(right.get(), 4096, &sender));
  CHECK(sender == child);
  CHECK(text(in.available()) == "theirs");
  in.skip(in.available());
  REQUIRE(in.fill(right.get(), 4096, &sender));
  CHECK(sender == ::getpid());
  CHECK(text(in.available()) == "again");
  in.skip(in.available());
  CHECK(*in.fill(right.get(), 4096, &sender) == StreamReader::Fill::drained);
  left.reset();
  CHECK(*in.fill(right.get(), 4096, &sender) == StreamReader::Fill::end);
  CHECK(sender == ::getpid());  // the end is nobody's
}

TEST_CASE("descriptors that come with what is read are closed, however many") {
  Arena arena;
  SlabPool pool(arena, 4096);
  Budget budget(1u << 20);
  StreamReader in(pool, budget);
  auto [left, right] = socket_pair();
  const int one = 1;
  REQUIRE(::setsockopt(right.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
  const UniqueFd mark = marked();
  const size_t before = open_descriptors();
  for (const size_t count : {size_t(1), size_t(2), size_t(100)}) {
    REQUIRE(send_with(left.get(), kTen, std::vector<int>(count, mark.get())) == 10);
    pid_t sender = 0;
    REQUIRE(in.fill(right.get(), 4096, &sender));
    CHECK(in.available() == 10);
    in.skip(10);
    CHECK(open_descriptors() == before);
  }
}

TEST_CASE("shared memory is charged, is the descriptor's, lies in the arena, and is given back") {
  Arena arena;
  Budget budget(10u << 20);
  constexpr uint32_t kBytes = 4u << 20;
  const auto area = smbdirect::shm::make_area(kBytes);
  REQUIRE(area);
  uint32_t key = 0;
  {
    SlabRef block = acquire_shared(arena, area->get(), kBytes, budget);
    REQUIRE(block);
    CHECK(budget.used() == kBytes);
    CHECK(block.bytes().size() == kBytes);
    key = block.key();
    CHECK(arena.block(key).data() == block.bytes().data());
    block.bytes().back() = std::byte{7};
    std::array<std::byte, 1> seen{};
    REQUIRE(::pread(area->get(), seen.data(), 1, kBytes - 1) == 1);
    CHECK(seen[0] == std::byte{7});
    const SlabRef second = acquire_shared(arena, area->get(), kBytes, budget);
    REQUIRE(second);
    CHECK(second.bytes().back() == std::byte{7});
    CHECK_FALSE(acquire_shared(arena, area->get(), kBytes, budget));  // over the limit
    CHECK(budget.used() == 2 * kBytes);
  }
  CHECK(budget.used() == 0);
  CHECK(arena.block(key).empty());
}

TEST_CASE("what cannot be mapped costs nothing") {
  Arena arena;
  Budget budget(10u << 20);
  CHECK_FALSE(acquire_shared(arena, -1, 4096, budget));
  auto [left, right] = socket_pair();
  CHECK_FALSE(acquire_shared(arena, left.get(), 4096, budget));
  CHECK(budget.used() == 0);
}
