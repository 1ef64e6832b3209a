// SPDX-License-Identifier: MIT
// What the links to one smbd process have to know of each other (protocol/proxy/smbdirect_area.h, "USE"): the
// newest ChannelSequence of each open, and which WRITEs are under way on it. A client that has lost a channel
// sends by another one what it was not answered, with a new ChannelSequence; what the lost one has brought
// must not be done after that. smbd sees to it where it does the WRITEs itself, as it waits for what is under
// way on a file that it closes, and may give to others.
//
// Shared by a link's open files, and by what threads do on them; any thread. It keeps the link's socket open,
// so that the module does not take for over what is not. Memory that other processes write as well, and the
// module is not trusted: what is wrong in it makes this client wait, or has smbd do its requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/shared_map.h"

namespace smbdirect::workers {

class DirectUse {
 public:
  /// memory: borrowed, a memfd of SMBDIRECT_USE_SIZE(SMBDIRECT_SLOTS_MAX) whose size is sealed. row: less
  /// than SMBDIRECT_USE_ROWS. link: ours alone.
  [[nodiscard]] static shm::Result<std::unique_ptr<DirectUse>> open(int memory, uint32_t row,
                                                                    shm::UniqueFd link);
  /// map: as open() has looked at.
  DirectUse(shm::SharedMap map, uint32_t row, shm::UniqueFd link)
      : map_(std::move(map)), words_(map_.writable()), row_(row), link_(std::move(link)) {}

  /// Of the open in that slot with that generation: whether no link has seen a newer one. False also when
  /// another open is there, or this one is being closed. slot, here and below: less than SMBDIRECT_SLOTS_MAX.
  [[nodiscard]] bool is_newest(uint32_t slot, uint32_t generation, uint16_t sequence) const;
  void raise(uint32_t slot, uint32_t generation, uint16_t sequence);
  /// Whether a WRITE with an older one is under way anywhere. After raise(): none begins any more.
  [[nodiscard]] bool older_under_way(uint32_t slot, uint16_t sequence) const;

  /// That open is about to be closed: no WRITE of it begins any more, on any link.
  void close(uint32_t slot, uint32_t generation);
  /// Whether a WRITE is under way anywhere, with whatever sequence.
  [[nodiscard]] bool under_way(uint32_t slot) const;

  /// A WRITE is under way, for as long as this lives.
  class Mark {
   public:
    Mark(DirectUse& use, uint32_t slot, uint16_t sequence) : mark_(&use.begin(slot, sequence)) {}
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;
    ~Mark();

   private:
    uint32_t* mark_;
  };

 private:
  [[nodiscard]] std::span<uint32_t> marks(uint32_t slot) const;
  [[nodiscard]] uint32_t& begin(uint32_t slot, uint16_t sequence);

  shm::SharedMap map_;
  std::span<uint64_t> words_;
  uint32_t row_;
  shm::UniqueFd link_;
};

}  // namespace smbdirect::workers
