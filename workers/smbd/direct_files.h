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
// done here. Whatever comes of the module's is closed by FileCloser, taken or not: smbd may have closed it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "protocol/smb2/classify.h"
#include "protocol/smb2/direct_request.h"
#include "shm/base/unique_fd.h"
#include "shm/direct_state.h"
#include "shm/loop/busy_poll.h"
#include "shm/shared_map.h"
#include "workers/memory/file_closer.h"
#include "workers/memory/slab.h"
#include "workers/session/context.h"
#include "workers/smbd/direct_use.h"
#include "workers/smbd/ending_sessions.h"
#include "workers/smbd/file_threads.h"
#include "workers/smbd/file_views.h"
#include "workers/smbd/said_lines.h"
#include "workers/smbd/smbd_link.h"

namespace smbdirect::workers {

namespace smb2 = protocol::smb2;

/// The module's table, mapped, and what goes with it.
struct DirectTable {
  shm::SharedMap map;
  uint32_t slots = 0;
  std::unique_ptr<DirectUse> use;
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

/// The ChannelSequence of an open, as this link has it; and what it shares of that with the others.
class OpenSequence {
 public:
  OpenSequence() = default;
  OpenSequence(std::shared_ptr<const DirectTable> table, uint32_t slot, uint32_t generation, uint16_t now)
      : table_(std::move(table)), slot_(slot), generation_(generation), now_(now) {}

  /// Of the requests that may be done here. smbd has seen one of this link with it, or the module has said
  /// so.
  [[nodiscard]] uint16_t now() const { return now_; }
  /// No channel of the client's has gone on to a newer one than that; any thread.
  [[nodiscard]] bool is_newest(uint16_t sequence) const {
    return table_->use->is_newest(slot_, generation_, sequence);
  }
  /// From here on no WRITE with an older one begins, on any channel.
  void raise(uint16_t to) {
    now_ = to;
    table_->use->raise(slot_, generation_, to);
  }
  /// ... but one may have begun.
  [[nodiscard]] bool older_under_way() const { return table_->use->older_under_way(slot_, now_); }
  /// The open is about to be closed: no WRITE of it begins from here on, on any channel...
  void close() { table_->use->close(slot_, generation_); }
  /// ... but some may have begun.
  [[nodiscard]] bool under_way() const { return table_->use->under_way(slot_); }
  /// smbd has not begun to close it; the kernel may have begun to end smbd.
  [[nodiscard]] bool is_open() const;
  /// Of a WRITE with that one, before it looks if it is the newest; any thread.
  [[nodiscard]] DirectUse::Mark mark(uint16_t sequence) const { return {*table_->use, slot_, sequence}; }

 private:
  std::shared_ptr<const DirectTable> table_;
  uint32_t slot_ = 0, generation_ = 0;
  uint16_t now_ = 0;
};

/// An open file. Shared with what runs in a thread: a CLOSED in between does not close the descriptor under
/// it. Let go of on the loop, and closed elsewhere.
struct DirectFile {
  OpenFile fd;
  Right read, write;
  dev_t device = 0;
  bool never_blocks = false;    // its file system is memory: reads and writes need no thread
  bool closes_at_once = false;  // see GrantedFile
  uint64_t session_id = 0;
  uint32_t tree_id = 0;
  OpenSequence sequence{};
  bool written = false;  // smbd has done a WRITE of it for this connection
  // Its file system cannot say what would block: any read, or write, might.
  bool reads_wait = false, writes_wait = false;
  FileViews views{};
  uint64_t closing_at_ms = 0;  // when it was first to be closed; 0: it is not
  uint64_t smbd_at_ms = 0;     // when smbd was last to see something of it; 0: when it was opened

  [[nodiscard]] bool is_of(uint64_t session, uint32_t tree) const {
    return session == session_id && tree == tree_id;
  }
  [[nodiscard]] const Right& right(smb2::Command command) const {
    return command == smb2::Command::write ? write : read;
  }
  /// Nothing is done on it any more. When the client is told that it is closed, it is open nowhere: whoever
  /// runs a program that was just written is told that it is busy else.
  void let_go();
};

/// What all sessions of a worker have for it; outlives them.
struct DirectResources {
  Budget& descriptors;  // of all sessions
  uint32_t files;       // the most of one session
  FileThreads& threads;
  FileCloser& closer;
  Budget& mapped;  // bytes of files in views, of all sessions
  uv_loop_t& loop;
  shm::BusyPoll& busy;  // told when a client is likely to go on at once
  std::unique_ptr<EndingSessions> ending = std::make_unique<EndingSessions>();
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
  /// A request for smbd or to be done here, as it arrives. True: with it the client counts the
  /// ChannelSequence of that file on. It is smbd's, and the file's others wait for its answer, or go to smbd
  /// as well.
  [[nodiscard]] bool counts_on(const smb2::RequestInfo& info);
  /// WRITEs by other channels are under way still that came before what has counted on. Such a request waits.
  [[nodiscard]] bool older_under_way();
  /// A request that is to go to smbd next. True: it closes files, and on one of these a WRITE is under way on
  /// some channel of the client's. Such a request waits, for a while; none begins meanwhile, nor afterwards:
  /// also of a file that smbd does not close after all, the rest is smbd's.
  [[nodiscard]] bool closing_under_way(std::span<const std::byte> request);
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
  static constexpr uint64_t kMostClosingMs = 30'000;  // a WRITE that has not returned by then hangs

  void linked() override;
  void without(SmbdLink::Without how, const std::string& why) override;
  [[nodiscard]] Heard hear(const SmbdLink::Packet& packet) override;
  [[nodiscard]] bool needs_link() const override { return state_ != State::refused; }

  [[nodiscard]] Heard map_use(const SmbdLink::Packet& packet);
  [[nodiscard]] Heard map_table(const SmbdLink::Packet& packet);
  [[nodiscard]] Heard no_room(const char* what);
  [[nodiscard]] Heard take(const SmbdLink::Packet& packet);
  [[nodiscard]] Known known_of(const SmbdLink::Packet& packet);
  [[nodiscard]] Heard change(const proxy::LinkMessage& message);
  [[nodiscard]] Heard drop(const proxy::LinkMessage& message);
  [[nodiscard]] Heard lie(const char* what);
  void let_go(const SmbdLink::Packet& packet);
  void refuse_share(const std::string& text);
  [[nodiscard]] bool may_name(const DirectFile& file, uint64_t session, uint32_t tree) const;
  [[nodiscard]] bool waits_to_close(const std::shared_ptr<DirectFile>& ending);
  [[nodiscard]] bool waits_still(std::span<const std::byte> request);
  [[nodiscard]] std::shared_ptr<DirectFile> for_smbd(shm::DirectState why);
  [[nodiscard]] shm::DirectState why_unknown(const smb2::DirectRequest& request) const;
  void forget();
  void say(const char* kind, const std::string& what);

  SessionContext& context_;
  SmbdLink& link_;
  const DirectResources* resources_;
  State state_;
  bool without_room_ = false;  // refused here: the module goes on to tell of open files
  shm::DirectState shown_;
  std::unique_ptr<DirectUse> use_;  // until the table comes
  std::shared_ptr<DirectTable> table_;
  std::vector<std::shared_ptr<DirectFile>> draining_;  // counted on: older WRITEs may be under way
  // For which the request that was asked about last waits, until it goes on: reading it may take long.
  const std::byte* closes_ = nullptr;
  std::set<std::weak_ptr<DirectFile>, std::owner_less<>> waited_;
  std::map<uint32_t, Slot> slots_;
  std::map<smb2::FileId, Known> files_;
  uint32_t open_ = 0;
  std::map<std::pair<uint64_t, uint32_t>, std::string> trees_;  // session, tree: the share
  std::set<std::string> refused_shares_;
  SaidLines lines_{"direct I/O"};
};

}  // namespace smbdirect::workers
