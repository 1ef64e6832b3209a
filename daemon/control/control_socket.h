// SPDX-License-Identifier: MIT
// The UNIX socket on which smbdirectctl asks the daemon: one line in, one line out, then the end. Owned by
// the supervisor; its loop's thread. Only root, the daemon's own user and members of one group are answered
// (SO_PEERCRED and SO_PEERGROUPS; the file's mode says the same), a peer that is slow or sends too much is
// closed, and only a few are served at a time. When the daemon dies the file stays, and the next daemon
// replaces it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

#include "daemon/control/rights.h"
#include "daemon/os/unix_socket.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class ControlSocket {
 public:
  static constexpr size_t kMaxPeers = 16;
  static constexpr size_t kMaxReaders = 8;  // of them; the others are for those who may do everything
  static constexpr uint64_t kPeerDeadlineMs = 5'000;
  static constexpr uint64_t kRestMs = 250;

  /// One line, without its end. To be called once, now or later; not after this socket's end.
  using Answer = std::function<void(std::string line)>;
  using Ask = std::function<void(const std::string& line, Right right, Answer answer)>;
  /// As peer_identity (unix_socket.h).
  using Identify = std::function<std::optional<PeerIdentity>(int fd)>;
  /// Gets the socket of a server's main process that registers (protocol/proxy/frames.h). Null: the line is
  /// treated as any other, which is an error.
  using Keep = std::function<void(shm::UniqueFd socket)>;

  /// Makes the directory if it is missing. A file that a dead daemon left is replaced; if a daemon answers
  /// there, or the file is something else, the error says what to do.
  [[nodiscard]] static shm::Result<std::unique_ptr<ControlSocket>> open(shm::Loop& loop,
                                                                        const std::string& path, Ask ask,
                                                                        Keep keep = {},
                                                                        Identify identify = peer_identity);
  /// A socket that another daemon has bound to this path, and listens at; it accepts from start() on.
  [[nodiscard]] static shm::Result<std::unique_ptr<ControlSocket>> inherit(shm::Loop& loop,
                                                                           const std::string& path,
                                                                           shm::UniqueFd fd, Ask ask,
                                                                           Keep keep = {});
  void start();
  [[nodiscard]] shm::UniqueFd copy() const { return shm::duplicate_of(fd_.get()); }
  /// Another daemon has the socket now, and hears what is asked from now on: this one finishes the answers
  /// that are asked for.
  void let_go();
  /// Those who may ask questions. Fails where this process may not give the file to that group; then nobody
  /// but its owner and root is answered. Who is connected already keeps what he had.
  [[nodiscard]] shm::Result<> let_ask(std::optional<gid_t> group);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  struct Peer {
    shm::UniqueFd fd;
    std::unique_ptr<shm::ReadWatch> readable;  // after fd: gone before it is closed, as those that follow
    std::unique_ptr<shm::WriteWatch> writable;
    std::unique_ptr<shm::Timer> deadline;
    Right right = Right::none;
    std::string in;
    std::string out;
    bool asked = false;
    // The rest of its request is read and discarded: a socket closed with unread bytes is reset.
    bool too_long = false;
  };

  ControlSocket(shm::Loop& loop, std::string path, shm::UniqueFd fd, Ask ask, Keep keep, Identify identify);
  [[nodiscard]] shm::Result<> watch();
  void accept();
  void admit(shm::UniqueFd fd);
  [[nodiscard]] Right right_of_peer(int fd) const;
  void read(uint64_t number);
  void answer(uint64_t number, std::string line);
  void write(uint64_t number);

  shm::Loop& loop_;
  std::string path_;
  shm::UniqueFd fd_;
  Ask ask_;
  Keep keep_;
  Identify identify_;
  std::optional<gid_t> readers_;
  std::unique_ptr<shm::ReadWatch> watch_;
  shm::Timer rest_;    // until accept is tried again, after descriptors ran out
  bool ours_ = false;  // so is the file at the path
  std::map<uint64_t, Peer> peers_;
  uint64_t next_ = 1;
};

}  // namespace smbdirect::daemon
