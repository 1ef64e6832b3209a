// SPDX-License-Identifier: MIT
// No descriptor is left when the module sends what direct I/O needs: it is switched off, what the module goes
// on to tell of open files is let go of, and the link goes on for memory shared with smbd, or ends.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "direct_rig.h"
#include "smbd_area_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
namespace shm = smbdirect::shm;
namespace test = smbdirect::test;

namespace {

/// This process may have so many more descriptors than it has, while this lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(int more) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    int highest = 0;
    for (int fd = 0; fd < kLook; ++fd)
      if (::fcntl(fd, F_GETFD) >= 0) highest = fd;
    for (;;) {  // the lowest that is free is taken first
      shm::UniqueFd next(::dup(STDERR_FILENO));
      if (!next.valid() || next.get() > highest) break;
      filled_.push_back(std::move(next));
    }
    const rlimit now{.rlim_cur = rlim_t(highest + 1 + more), .rlim_max = before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  static constexpr int kLook = 4096;
  rlimit before_{};
  std::vector<shm::UniqueFd> filled_;
};

/// The module's words for an open file, from its grant to its end.
template <typename Say>
void tell_of_a_file(Say&& say, int file) {
  say(DirectRig::grant(0, 1), {file});
  say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 0, SMBDIRECT_RIGHT_READ), {});
  say(DirectRig::about(SMBDIRECT_LINK_CLOSED, 0), {});
}

/// What cannot be had: what is under way, the link's other descriptor, or the table.
enum class Lacks : uint8_t { use, share, table };

}  // namespace

TEST_CASE("the link goes on for the area, whatever the module tells of open files") {
  auto lacks = Lacks::use;
  SUBCASE("for what is under way") {}
  SUBCASE("to keep the link") { lacks = Lacks::share; }
  SUBCASE("for the table") { lacks = Lacks::table; }
  Area rig(kAreaBytes, true);
  rig.ask();
  REQUIRE(rig.asked == 1);
  rig.link();
  rig.say(1, SMBDIRECT_LINK_VERSION);
  std::optional<std::pair<Bytes, shm::UniqueFd>> area;
  for (int packets = 0; packets < 2; ++packets) {
    Bytes packet(SMBDIRECT_LINK_SIZE);
    auto seen = test::receive_with(rig.module.get(), packet, MSG_DONTWAIT);
    REQUIRE(seen);
    if (!seen->descriptors.empty()) area.emplace(packet, std::move(seen->descriptors[0]));
  }
  REQUIRE(area);
  std::copy_n(area->first.begin() + 16, 16, rig.token.begin());
  rig.memory = static_cast<std::byte*>(
      mmap(nullptr, rig.areas.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, area->second.get(), 0));
  REQUIRE(rig.memory != MAP_FAILED);
  area.reset();
  const auto say = [&](const Bytes& bytes, const std::vector<int>& along) {
    REQUIRE(test::send_with(rig.module.get(), bytes, along) == ssize_t(bytes.size()));
    rig.wait(0);
  };

  const NamedFile named;
  const shm::UniqueFd use = DirectRig::make_use(), table = DirectRig::make_table();
  const size_t before = test::open_descriptors();
  {
    const FewDescriptors few(lacks == Lacks::use ? 0 : lacks == Lacks::share ? 1 : 2);
    say(DirectRig::packet(SMBDIRECT_LINK_USE, 1), {use.get()});
    if (lacks == Lacks::table) {
      const FewDescriptors none(0);
      say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {table.get()});
    }
  }
  CHECK(rig.exchange->direct_state() == shm::DirectState::full);
  CHECK_FALSE(rig.gone());
  CHECK(test::open_descriptors() == before);

  if (lacks != Lacks::table) say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {table.get()});
  tell_of_a_file(say, named.fd.get());
  tell_of_a_file(say, named.fd.get());
  CHECK_FALSE(rig.gone());
  CHECK(test::open_descriptors() == before);
  CHECK(rig.exchange->direct_files() == 0);
  CHECK(rig.exchange->direct_state() == shm::DirectState::full);

  rig.say(6);
  rig.say(2, kTree, kSession);
  CHECK(rig.exchange->area_state() == shm::AreaState::ready);
  Bytes into(kThreshold);
  rig.from_client(read_of(2, kThreshold, {rig.expose(into, Access::remote_write)}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  CHECK(get(rig.smbd.heard[0], 12, 2) == smb2_test::kIoctl);  // by the area
  CHECK(rig.broken.empty());
}

TEST_CASE("a link that nobody else needs ends, and the next one begins anew") {
  DirectRig rig;
  rig.greet();
  const size_t before = test::open_descriptors();
  {
    const FewDescriptors none(0);
    rig.say(DirectRig::packet(SMBDIRECT_LINK_USE, 1), {rig.use.get()});
  }
  CHECK(rig.gone());
  CHECK(rig.shown() == shm::DirectState::full);
  CHECK(test::open_descriptors() == before - 1);  // the link's
  rig.module.reset();
  rig.link.ask_again();
  rig.attach();
  rig.grant_file(0, 1);
  CHECK(rig.files.find(DirectRig::request(1)) != nullptr);
}
