// SPDX-License-Identifier: MIT
// Which requests let go of open files, and of which: alone, and in compounds.
#include "protocol/smb2/ends.h"

#include <vector>

#include <doctest/doctest.h>

#include "build_pdu.h"

using namespace smbdirect::protocol::smb2;  // NOLINT: a test speaks of one thing
using namespace smb2_test;

namespace {

constexpr uint64_t kSession = 0x1122334455;  // build_pdu.h's
constexpr uint32_t kTree = 7;
constexpr uint16_t kLogoff = 2, kTreeDisconnect = 4, kFlush = 7;

FileId file(uint8_t number) {
  FileId id;
  id.bytes.fill(std::byte{number});
  return id;
}

Bytes on(uint16_t command, uint8_t number, uint32_t flags = 0) {
  Bytes bytes = plain(command, {.message_id = 1, .flags = flags}, 24);
  for (size_t i = 0; i < 16; ++i) bytes[72 + i] = std::byte{number};
  return bytes;
}

std::vector<End> ends(std::span<const std::byte> request) {
  std::vector<End> found;
  for_each_end(request, [&](const End& end) { found.push_back(end); });
  return found;
}

bool covers(const End& end, uint64_t session, uint32_t tree, const FileId& id) {
  if (session != end.session_id || (end.of != End::Of::session && tree != end.tree_id)) return false;
  return end.of != End::Of::file || id == end.file_id;
}

}  // namespace

TEST_CASE("a CLOSE ends a file, a TREE_DISCONNECT those of its tree, a LOGOFF those of its session") {
  const auto close = ends(on(kClose, 9));
  REQUIRE(close.size() == 1);
  CHECK(covers(close[0], kSession, kTree, file(9)));
  CHECK_FALSE(covers(close[0], kSession, kTree, file(8)));
  CHECK_FALSE(covers(close[0], kSession, kTree + 1, file(9)));
  CHECK_FALSE(covers(close[0], kSession + 1, kTree, file(9)));
  const auto tree = ends(plain(kTreeDisconnect, {.message_id = 1}));
  REQUIRE(tree.size() == 1);
  CHECK(covers(tree[0], kSession, kTree, file(8)));
  CHECK_FALSE(covers(tree[0], kSession, kTree + 1, file(8)));
  const auto logoff = ends(plain(kLogoff, {.message_id = 1}));
  REQUIRE(logoff.size() == 1);
  CHECK(covers(logoff[0], kSession, kTree + 1, file(8)));
  CHECK_FALSE(covers(logoff[0], kSession + 1, kTree, file(8)));
}

TEST_CASE("nothing else ends a file, nor do answers, what is encrypted, and what is no SMB2") {
  for (const uint16_t command : {kNegotiate, kSessionSetup, kCreate, kFlush, kRead, kWrite, kEcho})
    CHECK(ends(on(command, 9)).empty());
  CHECK(ends(on(kClose, 9, kResponse)).empty());
  Bytes encrypted = on(kClose, 9);
  encrypted[0] = std::byte{0xFD};
  CHECK(ends(encrypted).empty());
  CHECK(ends(std::span(encrypted).first(20)).empty());
  CHECK(ends({}).empty());
}

TEST_CASE("a compound ends what each of its elements does, on its own file or on that of the one before") {
  const auto own = ends(chain({on(kFlush, 3), on(kClose, 9), on(kClose, 4)}));
  REQUIRE(own.size() == 2);
  CHECK(own[0].file_id == file(9));
  CHECK(own[1].file_id == file(4));
  const auto related = ends(chain({on(kFlush, 3), on(kClose, 0xFF, kRelated)}));
  REQUIRE(related.size() == 1);
  CHECK(covers(related[0], kSession, kTree, file(3)));
  Bytes later = on(kClose, 0xFF, kRelated);
  put(later, 36, 0xFFFFFFFF, 4);
  put(later, 40, 0xFFFFFFFFFFFFFFFF, 8);
  const auto inherited = ends(chain({on(kFlush, 3), later}));
  REQUIRE(inherited.size() == 1);
  CHECK(covers(inherited[0], kSession, kTree, file(3)));
  // Of a file that is not there yet.
  const auto created = ends(chain({plain(kCreate, {.message_id = 1}, 57), on(kClose, 9, kRelated)}));
  REQUIRE(created.size() == 2);
  CHECK_FALSE(covers(created[0], kSession, kTree, file(9)));
  CHECK(covers(created[1], kSession, kTree, file(9)));
  // smbd takes it at its word when the one before is on no file, or fails.
  const auto none = ends(chain({on(kEcho, 0), on(kClose, 9, kRelated)}));
  REQUIRE(none.size() == 2);
  CHECK(covers(none[1], kSession, kTree, file(9)));
}

TEST_CASE("what is shorter than it says, or longer, is read as far as it is there") {
  const Bytes close = on(kClose, 9);
  for (size_t size = 0; size <= close.size(); ++size) {
    const Bytes part(close.begin(), close.begin() + ptrdiff_t(size));  // its end is an allocation's
    const auto found = ends(part);
    CHECK(found.size() == (size < 64 ? 0 : 1));
    if (!found.empty()) CHECK((found[0].file_id == file(9)) == (size == close.size()));
  }
  Bytes beyond = close;
  put(beyond, 20, 64, 4);
  CHECK(ends(beyond).empty());
}
