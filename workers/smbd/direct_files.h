// SPDX-License-Identifier: MIT
// The open files that smbd's module has granted this session (protocol/proxy/smbdirect_area.h, "Direct I/O"):
// their descriptors, and whether READs and WRITEs may be done on them at this moment, which the table says
// that the module shares with all links of its process. Owned by the session's exchange with smbd; one
// thread, but for Right, which any may ask. When smbd or its module dies the link ends and all of it goes:
// the table then says nothing any more.
//
// The module is not believed: a descriptor that is no regular file is closed, one that is open for less than
// the grant says is used for less; what no module would say, such as a second grant of a slot, ends the link.
// Beyond the limits of descriptors a grant is dropped. All of this costs speed alone: smbd does what is not
// done here.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "protocol/smb2/direct_request.h"
#include "shm/base/unique_fd.h"
#include "shm/direct_state.h"
#include "shm/loop/busy_poll.h"
#include "shm/shared_map.h"
#include "workers/memory/slab.h"
#include "workers/session/context.h"
#include "workers/smbd/file_threads.h"
#include "workers/smbd/file_views.h"
#include "workers/smbd/said_lines.h"
#include "workers/smbd/smbd_link.h"

namespace smbdirect::workers {

namespace smb2 = protocol::smb2;

/// The module's table, mapped.
struct DirectTable {
  shm::SharedMap map;
  uint32_t slots = 0;
  std::atomic<bool> over = false;  // its link has ended: it is not kept up to date any more

  /// The process that keeps it up to date lives: the kernel tells here before it tells anybody else, and long
  /// before the link ends in the eyes of a loop that is busy.
  [[nodiscard]] bool has_keeper() const;
};

/// One right of one grant; keeps the mapping. One that was made of nothing never holds.
class Right {
 public:
  Right() = default;
  Right(std::shared_ptr<const DirectTable> table, uint32_t slot, uint32_t generation, uint32_t bit)
      : table_(std::move(table)), slot_(slot), generation_(generation), bit_(bit) {}
  /// Whether the module still lets it be done; asked directly before each system call, in any thread.
  [[nodiscard]] bool holds() const;
  /// smbd's process has died: what was done may be somebody else's already, and nobody is to be told that it
  /// was done.
  [[nodiscard]] bool keeper_died() const { return table_ == nullptr || !table_->has_keeper(); }

 private:
  std::shared_ptr<const DirectTable> table_;
  uint32_t slot_ = 0, generation_ = 0, bit_ = 0;
};

/// One of the worker's descriptors, of which there are so many.
class DescriptorPlace {
 public:
  /// charged already.
  explicit DescriptorPlace(Budget& budget) : budget_(&budget) {}
  DescriptorPlace(DescriptorPlace&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)) {}
  DescriptorPlace& operator=(DescriptorPlace&&) = delete;
  ~DescriptorPlace() {
    if (budget_ != nullptr) budget_->refund(1);
  }

 private:
  Budget* budget_;
};

/// An open file. Shared with what runs in a thread: a CLOSED in between does not close the descriptor under
/// it. Let go of on the loop.
struct DirectFile {
  DescriptorPlace place;
  shm::UniqueFd fd;
  Right read, write;
  bool never_blocks = false;  // its file system is memory: reads and writes need no thread
  uint64_t session_id = 0;
  uint32_t tree_id = 0;
  uint16_t channel_sequence = 0;  // of its requests that may be done here
  bool counted = false;           // a request with it may have been done here
  bool left = false;              // of use no more: the client has counted its channel sequence on since
  bool written = false;           // smbd has done a WRITE of it for this connection
  // Its file system cannot say what would wait: all reads, or writes, are for a thread.
  bool reads_wait = false, writes_wait = false;
  FileViews views{};
  uint64_t smbd_at_ms = 0;  // when smbd was last to see something of it; 0: when it was opened

  [[nodiscard]] const Right& right(smb2::Command command) const {
    return command == smb2::Command::write ? write : read;
  }
};

/// What all sessions of a worker have for it; outlives them.
struct DirectResources {
  Budget& descriptors;  // of all sessions
  uint32_t files;       // the most of one session
  FileThreads& threads;
  Budget& mapped;       // bytes of files in views, of all sessions
  shm::BusyPoll& busy;  // told when a client is likely to go on at once
};

class DirectFiles final : private SmbdLink::User {
 public:
  /// resources: null: there is no direct I/O.
  DirectFiles(SessionContext& context, SmbdLink& link, const DirectResources* resources);
  ~DirectFiles();

  // --- requests ---
  /// Whether it may find one; where it finds none it notes why, for people.
  [[nodiscard]] bool ready() const { return state_ == State::ready; }
  /// The file, if this request may be done on it now. nullptr: it is for smbd. The first WRITE of each file
  /// is, which sets the archive bit and the write time and tells who watches the folder.
  [[nodiscard]] std::shared_ptr<DirectFile> find(const smb2::DirectRequest& request);
  /// smbd has answered a WRITE of it with success: the next ones may be done here.
  void smbd_wrote(const smb2::FileId& file);
  /// Counts what was done: bytes read or written.
  void did(const smb2::DirectRequest& request, uint32_t bytes);
  /// Gives back what was not needed since the last call.
  void tidy();

  // --- what the session hears ---
  /// smbd has answered a CREATE with success, neither signed nor encrypted: it may be granted.
  void opened();
  /// A request that can never be done here: why. It is shown until there is a file.
  void passed_by(shm::DirectState why) {
    if (shown_ == shm::DirectState::unasked) shown_ = why;
  }

  // --- for people ---
  [[nodiscard]] shm::DirectState shown() const { return shown_; }
  [[nodiscard]] uint32_t open_files() const { return open_; }

 private:
  enum class State : uint8_t { off, none, asked, refused, ready };
  struct Slot {
    uint32_t generation = 0;
    uint32_t rights = 0;  // as last told
    smb2::FileId file_id{};
  };
  struct Known {
    std::shared_ptr<DirectFile> file;  // null: granted, and not used
    shm::DirectState why{};            // then
  };
  static constexpr size_t kMostTrees = 4096, kMostShares = 256;

  void linked() override;
  void without(SmbdLink::Without how, const std::string& why) override;
  [[nodiscard]] Heard hear(const SmbdLink::Packet& packet) override;
  [[nodiscard]] bool needs_link() const override { return state_ != State::refused; }

  [[nodiscard]] Heard map_table(const SmbdLink::Packet& packet);
  [[nodiscard]] Heard take(const SmbdLink::Packet& packet);
  [[nodiscard]] Known known_of(const SmbdLink::Packet& packet);
  [[nodiscard]] Heard change(const proxy::LinkMessage& message);
  [[nodiscard]] Heard drop(const proxy::LinkMessage& message);
  [[nodiscard]] Heard lie(const char* what);
  void refuse_share(const std::string& text);
  [[nodiscard]] static bool follow_sequence(DirectFile& file, uint16_t sequence);
  [[nodiscard]] std::shared_ptr<DirectFile> for_smbd(shm::DirectState why);
  [[nodiscard]] shm::DirectState why_unknown(const smb2::DirectRequest& request) const;
  void forget();
  void say(const char* kind, const std::string& what);

  SessionContext& context_;
  SmbdLink& link_;
  const DirectResources* resources_;
  State state_;
  shm::DirectState shown_;
  std::shared_ptr<DirectTable> table_;
  std::map<uint32_t, Slot> slots_;
  std::map<smb2::FileId, Known> files_;
  uint32_t open_ = 0;
  std::map<std::pair<uint64_t, uint32_t>, std::string> trees_;  // session, tree: the share
  std::set<std::string> refused_shares_;
  SaidLines lines_{"direct I/O"};
};

}  // namespace smbdirect::workers
