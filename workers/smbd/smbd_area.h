// SPDX-License-Identifier: MIT
// Memory that a session shares with the smbd process that serves it, through the module in there
// (protocol/proxy/smbdirect_area.h): how it is set up, which tree connects may use it, and which parts of it
// are in use. Owned by the session's exchange with smbd; one thread. Where there is none, or no longer, data
// goes as it always does. When the link to the module ends with requests under way the session ends, for
// their answers are worth nothing then.
//
// It is asked for at the first request that could use it, and again after a tree connect or a session setup:
// the module may be there now, or the stream may have gone to another process of smbd's (a client's further
// connections do). And again after a while: what was in the way may be gone, and a supervisor that has died
// answers nothing. It is an object of this session alone, so no memory of it is ever another's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <uv.h>

#include "protocol/proxy/module_link.h"
#include "protocol/smb2/area_carrier.h"
#include "shm/area.h"
#include "shm/area_state.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/memory/slab.h"
#include "workers/session/context.h"
#include "workers/smbd/area_room.h"

namespace smbdirect::workers {

namespace proxy = protocol::proxy;
/// What all sessions of a worker have for their areas; outlives them.
struct AreaResources {
  uv_loop_t& loop;
  Budget& budget;              // of all areas
  uint32_t threshold;          // the fewest bytes of a READ or WRITE that use one
  uint32_t bytes;              // of an area
  bool huge_pages;             // where there are any
  uint64_t again_ms = 30'000;  // until it is asked again what was answered no, or not at all
  /// For the link to the module at the other end of this stream: SmbdArea::answered() follows.
  std::function<void(shm::ConnectionId connection, int stream)> ask;
};

class SmbdArea {
 public:
  /// resources: null: there are none.
  SmbdArea(SessionContext& context, const AreaResources* resources)
      : context_(context),
        resources_(resources),
        state_(resources == nullptr ? State::off : State::none),
        shown_(resources == nullptr ? shm::AreaState::disabled : shm::AreaState::unasked) {}

  /// For people.
  [[nodiscard]] shm::AreaState shown() const { return shown_; }

  // --- what the session hears ---
  void of(shm::ConnectionId connection) { connection_ = connection; }
  /// The stream to smbd is this one.
  void stream(int fd) { stream_ = fd; }
  /// smbd has let a session or a tree connect in.
  void ask_again() { ask_ = true; }
  /// The link to the module, or why there is none.
  void answered(shm::Result<shm::UniqueFd> link);

  // --- requests ---
  /// A place for its data; nothing: it goes as it always does.
  [[nodiscard]] std::optional<smb2::AreaPlace> place_for(const smb2::AreaIo& io);
  /// A request that no area can serve, whatever there is: why. It is shown until one comes that could.
  void passed_by(shm::AreaState why) {
    if (shown_ == shm::AreaState::unasked) shown_ = why;
  }
  /// The same of a signed READ or WRITE, of which the small ones say nothing.
  void signed_io(uint32_t length) {
    if (resources_ != nullptr && length >= resources_->threshold) passed_by(shm::AreaState::is_signed);
  }
  /// smbd has given the final answer, or was not asked after all.
  void settled() { --at_smbd_; }
  /// Nobody moves data of this place any more.
  void give_back(uint64_t offset, uint32_t length) {
    room_.give_back(offset, length);
    --places_out_;
  }
  /// Somebody may still do so, for as long as this area is there: the place is not used again.
  void give_up() { --places_out_; }
  [[nodiscard]] std::span<std::byte> bytes(uint64_t offset, uint32_t length) const {
    return area_.bytes().subspan(offset, length);
  }
  [[nodiscard]] const SlabRef& memory() const { return area_; }

 private:
  enum class State : uint8_t { off, none, asked, greeting, making, attaching, ready };
  using Tree = std::pair<uint64_t, uint32_t>;  // session, tree
  static constexpr size_t kMostTrees = 4096;
  static constexpr int kPacketsPerWake = 64;
  static constexpr uint64_t kPageEveryMs = 1;

  void on_link();
  /// False: the link is over.
  [[nodiscard]] bool hear(std::span<const std::byte> packet);
  [[nodiscard]] bool hear(const proxy::LinkMessage& message);
  [[nodiscard]] bool greeted(uint32_t version);
  [[nodiscard]] bool make();
  void make_more();
  [[nodiscard]] bool attach(shm::Result<shm::UniqueFd> fd);
  [[nodiscard]] bool may_ask() const;
  void lose(const std::string& why, shm::AreaState as = shm::AreaState::lost);
  void none(shm::AreaState why, const std::string& detail);
  void say(const char* kind, const std::string& what);

  SessionContext& context_;
  const AreaResources* resources_;
  State state_;
  shm::AreaState shown_;  // follows the link, and then each request that could use it
  shm::ConnectionId connection_{};
  bool ask_ = true;
  uint64_t asked_at_ = 0;
  int stream_ = -1;
  shm::Watched<shm::UniqueFd> link_;
  std::map<Tree, bool> trees_;            // those that the module knows; false: it cannot serve this one
  std::string said_;                      // the last line about it in the log: the same is not said twice
  shm::log::RateLimit lines_{10'000, 8};  // of each kind
  smb2::AreaToken token_{};
  SlabRef area_;
  std::optional<shm::HugeArea> making_;
  std::optional<shm::Timer> next_page_;
  bool huge_ = false;  // its pages
  AreaRoom room_;
  size_t at_smbd_ = 0;     // requests without a final answer
  size_t places_out_ = 0;  // taken, and to be given back or up
};

}  // namespace smbdirect::workers
