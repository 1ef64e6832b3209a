// SPDX-License-Identifier: MIT
// What two supervisors say to each other while one takes the pool over from the other (smbdirectctl upgrade).
// The former one has started its successor with a SOCK_SEQPACKET socket between them; each datagram is one
// note, JSON, with a descriptor where its row says so.
//
//     successor                                    former
//     HELLO (its version of these notes)     ->
//                                            <-    LISTENER for each, RDMA_FILE, CONTROL, PID_FILE, BEGIN
//     (reads its pool file, starts its workers; the former one goes on as before)
//     READY (its own rdma_cm file)           ->
//                                            <-    GO (listening ids, leaving addresses), once it holds no
//                                            offer
//     (moves the ids, listens)
//     SERVING                                ->    it drains from now on
//                                            <-    DONE (what else was the former one's)
//     FAILED at any time before SERVING, or its end: the former one takes everything back and goes on.
//     STOP after DONE: the former one ends its workers in an orderly way, as the successor does.
//     LEAVE after DONE: the former one ends its connections to that address, and says LEFT when it has.
//
// Pure but for send and receive; supervisors only. Either side may be of another release: what it sends is
// checked, and kNotesVersion is raised when a note changes, but not for a member that the other side may lack
// or pass over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/accept/inherited.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

inline constexpr uint32_t kNotesVersion = 1;
inline constexpr size_t kMaxNoteBytes = 65'536;

namespace note {
struct Hello {
  uint32_t version = kNotesVersion;
  std::string release;  // of the program: "0.9"
};
/// Of iwarp: with its socket. Of verbs: its id comes with GO.
struct Listener {
  ListenerConfig listener;
  uint16_t port = 0;
  shm::UniqueFd socket{};
};
struct RdmaFile {
  shm::UniqueFd file;
};
/// The listening socket that is bound to this path.
struct Control {
  std::string path;
  shm::UniqueFd socket;
};
/// Locked, and named this.
struct PidFile {
  std::string path;
  shm::UniqueFd file;
};
struct Begin {};
/// file: not valid where the pool has no verbs listener.
struct Ready {
  shm::UniqueFd file;
};
struct Go {
  std::vector<RdmaListenerId> ids;
  std::vector<std::string> leaving{};  // local addresses to which connections are refused
};
struct Serving {};
/// registration: of a native server's main process, and the number of the next request to it; not valid where
/// there is none.
struct Done {
  uint64_t next_request = 0;
  shm::UniqueFd registration;
  bool hears_leave = true;  // LEAVE; an earlier release does not
};
struct Failed {
  std::string why;
  std::vector<std::string> problems;  // of the pool file
};
struct Stop {};
struct Leave {
  uint64_t number = 0;
  std::string address;
};
/// To the LEAVE of that number; what became of its connections.
struct Left {
  uint64_t number = 0;
  uint64_t ended = 0;
  uint64_t still_there = 0;
  bool unheard = false;  // a daemon before it does not answer
};
}  // namespace note

using Note = std::variant<note::Hello, note::Listener, note::RdmaFile, note::Control, note::PidFile,
                          note::Begin, note::Ready, note::Go, note::Serving, note::Done, note::Failed,
                          note::Stop, note::Leave, note::Left>;

/// "hello", "listener", ...
[[nodiscard]] std::string_view note_name(const Note& said);
/// The bytes of a note, without its descriptor; long texts are cut to fit a datagram.
[[nodiscard]] std::string note_text(const Note& said);
/// The error says what is wrong. The descriptor is taken where the note has one.
[[nodiscard]] shm::Result<Note> parse_note(std::string_view text, shm::UniqueFd descriptor);

/// Blocks only where the socket does.
[[nodiscard]] shm::Result<> send_note(int socket, const Note& said);
/// The other side's end is ECONNRESET; nothing there on a nonblocking socket is EAGAIN.
[[nodiscard]] shm::Result<Note> receive_note(int socket);

}  // namespace smbdirect::daemon
