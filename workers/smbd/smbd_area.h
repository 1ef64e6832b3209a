// SPDX-License-Identifier: MIT
// Memory that a session shares with the smbd process that serves it, through the module in there
// (protocol/proxy/smbdirect_area.h): how it is set up, which tree connects may use it, and which parts of it
// are in use. Owned by the session's exchange with smbd; one thread. Where there is none, or no longer, data
// goes as it always does. When the link to the module (smbd_link.h) ends with requests under way the session
// ends, for their answers are worth nothing then.
//
// It is made at the first request that could use it. It is an object of this session alone, so no memory of
// it is ever another's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <uv.h>

#include "protocol/proxy/module_link.h"
#include "protocol/smb2/area_carrier.h"
#include "shm/area.h"
#include "shm/area_state.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "workers/memory/slab.h"
#include "workers/session/context.h"
#include "workers/smbd/area_room.h"
#include "workers/smbd/said_lines.h"
#include "workers/smbd/smbd_link.h"

namespace smbdirect::workers {

/// What all sessions of a worker have for their areas; outlives them.
struct AreaResources {
  uv_loop_t& loop;
  Budget& budget;      // of all areas
  uint32_t threshold;  // the fewest bytes of a READ or WRITE that use one
  uint32_t bytes;      // of an area
  bool huge_pages;     // where there are any
};

class SmbdArea final : private SmbdLink::User {
 public:
  /// resources: null: there are none.
  SmbdArea(SessionContext& context, SmbdLink& link, const AreaResources* resources)
      : context_(context),
        link_(link),
        resources_(resources),
        state_(resources == nullptr ? State::off : State::none),
        shown_(resources == nullptr ? shm::AreaState::disabled : shm::AreaState::unasked) {
    if (resources != nullptr) link_.serve(*this);
  }

  /// For people.
  [[nodiscard]] shm::AreaState shown() const { return shown_; }

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
  enum class State : uint8_t { off, none, making, attaching, ready };
  using Tree = std::pair<uint64_t, uint32_t>;  // session, tree
  static constexpr size_t kMostTrees = 4096;
  static constexpr uint64_t kPageEveryMs = 1;

  void linked() override;
  void without(SmbdLink::Without how, const std::string& why) override;
  [[nodiscard]] Heard hear(const SmbdLink::Packet& packet) override;
  [[nodiscard]] bool needs_link() const override { return state_ != State::none || !failed_at_; }

  void want();
  void make();
  void make_more();
  void attach(shm::Result<shm::UniqueFd> fd);
  void give_up_area(shm::AreaState why, const std::string& text);
  void say(const char* kind, const std::string& what);

  SessionContext& context_;
  SmbdLink& link_;
  const AreaResources* resources_;
  State state_;
  shm::AreaState shown_;               // follows the link, and then each request that could use it
  bool wanted_ = false;                // there was a request that could use it
  std::optional<uint64_t> failed_at_;  // on this link
  std::map<Tree, bool> trees_;         // those that the module knows; false: it cannot serve this one
  SaidLines lines_{"memory shared with smbd"};
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
