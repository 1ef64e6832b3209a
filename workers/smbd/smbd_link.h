// SPDX-License-Identifier: MIT
// A session's link to the module in the smbd process that serves it (protocol/proxy/smbdirect_area.h): how it
// is asked for, who has said HELLO on it, and its end. Owned by the session's exchange with smbd; one thread.
// What is said on it is for its users, memory shared with smbd (SmbdArea) and open files (DirectFiles): both
// use the one link, whichever wanted it first. When smbd or its module dies the users hear that it has ended.
//
// It is asked for when a user wants it, and again after a tree connect or a session setup: the module may be
// there now, or the stream may have gone to another process of smbd's (a client's further connections do).
// And again after a while: what was in the way may be gone, and a supervisor that has died answers nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <uv.h>

#include "protocol/proxy/module_link.h"
#include "shm/base/connection_id.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/watched.h"
#include "workers/memory/file_closer.h"
#include "workers/session/context.h"
#include "workers/smbd/said_lines.h"

namespace smbdirect::workers {

namespace proxy = protocol::proxy;

/// What all sessions of a worker have for their links; outlives them.
struct LinkResources {
  uv_loop_t& loop;
  /// For the link to the module at the other end of this stream: SmbdLink::answered() follows. False: nobody
  /// can be asked now.
  std::function<bool(shm::ConnectionId connection, int stream)> ask;
  uint64_t again_ms = 30'000;    // until it is asked again what was answered no, or not at all
  uint64_t unasked_ms = 1'000;   // until it is tried again to ask
  FileCloser* closer = nullptr;  // of descriptors that nobody takes
};

class SmbdLink {
 public:
  /// Why there is none, or none yet.
  enum class Without : uint8_t { asked, no_module, other_host, unreachable, other_release, lost };

  struct Packet {
    const proxy::LinkMessage& message;
    shm::UniqueFd& descriptor;  // that came with it; who does not take it ends the link
    bool no_room;               // one did, but this process can have no more of them
  };

  class User {
   public:
    /// The module has said HELLO.
    virtual void linked() = 0;
    /// There is no link; `why` is for people.
    virtual void without(Without how, const std::string& why) = 0;
    enum class Heard : uint8_t { not_mine, taken, over };  // over: it has ended the link
    [[nodiscard]] virtual Heard hear(const Packet& packet) = 0;
    /// Whether the link is of use to it.
    [[nodiscard]] virtual bool needs_link() const = 0;

   protected:
    ~User() = default;
  };

  /// resources: null: there are no links.
  SmbdLink(SessionContext& context, const LinkResources* resources)
      : context_(context), resources_(resources) {}

  ~SmbdLink() { leave_descriptors(); }
  SmbdLink(const SmbdLink&) = delete;
  SmbdLink& operator=(const SmbdLink&) = delete;

  void serve(User& user) { users_.push_back(&user); }

  // --- what the session hears ---
  void of(shm::ConnectionId connection) { connection_ = connection; }
  [[nodiscard]] shm::ConnectionId connection() const { return connection_; }
  /// The stream to smbd is this one.
  void stream(int fd) { stream_ = fd; }
  [[nodiscard]] int stream() const { return stream_; }
  /// smbd has let a session or a tree connect in.
  void ask_again() { ask_ = true; }
  /// The link to the module, or why there is none.
  void answered(shm::Result<shm::UniqueFd> link);

  // --- users ---
  [[nodiscard]] bool up() const { return state_ == State::up; }
  /// Asks for it, if there is none and it is time.
  void want();
  [[nodiscard]] uint64_t again_ms() const { return resources_->again_ms; }
  /// Descriptors are taken from now on; before, what is sent along is never received.
  void take_descriptors() { takes_descriptors_ = true; }
  /// False: the link has ended.
  [[nodiscard]] bool send(const proxy::LinkPacket& packet, int descriptor = -1);
  /// Another descriptor of it: while it is open the module does not see the link end. Not valid: there is
  /// none.
  [[nodiscard]] shm::UniqueFd share() const;
  void end(const std::string& why) { end(Without::lost, why); }
  /// A user has no use for it any more; it ends when no other has.
  void end_unless_needed();

 private:
  enum class State : uint8_t { none, asked, greeting, up };
  static constexpr int kPacketsPerWake = 64;

  void on_packets();
  /// False: the link is over.
  [[nodiscard]] bool hear(std::span<const std::byte> bytes, shm::UniqueFd& descriptor, bool no_room);
  [[nodiscard]] bool greeted(const proxy::LinkMessage& message);
  void none(Without how, const std::string& detail);
  void close();
  void leave_descriptors();
  void let_go(shm::UniqueFd descriptor);
  void end(Without how, const std::string& why);
  void tell(Without how, const std::string& why);

  SessionContext& context_;
  const LinkResources* resources_;
  std::vector<User*> users_;
  State state_ = State::none;
  shm::ConnectionId connection_{};
  int stream_ = -1;
  bool ask_ = true;
  uint64_t asked_at_ = 0;
  bool unasked_ = false;  // nobody could be asked then
  bool takes_descriptors_ = false;
  shm::Watched<shm::UniqueFd> link_;
  SaidLines lines_{"smbd's module"};
};

}  // namespace smbdirect::workers
