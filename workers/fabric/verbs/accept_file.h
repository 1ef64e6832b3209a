// SPDX-License-Identifier: MIT
// The worker's own rdma_cm file on its loop, and the links whose ids are on it: reads the file's events and
// gives each to the link that its cookie names. Owned by the fabric object, outlives the links, the loop's
// thread only. When the process dies the kernel rejects and disconnects all ids on the file.
//
// A cookie is an entry's index and its generation: an event for a link that is gone finds no entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <uv.h>

#include "daemon/contract/rdma_ucm.h"
#include "shm/loop/watched.h"

namespace smbdirect::workers::fabric::verbs {

class AcceptFile {
 public:
  class Link {
   public:
    /// From the loop. May remove any link from the file, but not destroy this one.
    virtual void on_event(const daemon::CmEvent& event) = 0;
    /// The file can no longer be read; no event comes any more.
    virtual void on_file_lost(const std::string& why) = 0;

   protected:
    ~Link() = default;
  };

  AcceptFile(uv_loop_t& loop, daemon::RdmaCm cm);
  AcceptFile(const AcceptFile&) = delete;
  AcceptFile& operator=(const AcceptFile&) = delete;

  [[nodiscard]] daemon::RdmaCm& cm() { return cm_.owner(); }
  [[nodiscard]] uv_loop_t& loop() { return loop_; }

  /// The link's cookie, never 0.
  [[nodiscard]] uint64_t add(Link& link);
  void remove(uint64_t cookie);
  [[nodiscard]] size_t links() const { return entries_.size() - free_.size(); }

 private:
  struct Entry {
    Link* link = nullptr;
    uint32_t generation = 0;
  };
  [[nodiscard]] Link* find(uint64_t cookie);
  void read_events(int status);
  void lost(const shm::Error& error);

  uv_loop_t& loop_;
  shm::Watched<daemon::RdmaCm> cm_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
};

}  // namespace smbdirect::workers::fabric::verbs
