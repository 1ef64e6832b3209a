// SPDX-License-Identifier: MIT
// Which of the local clients that the server has not let in yet (no SMB2 session) may have a connection to
// it. To the server all of them are one client, this machine, and it grants a client few connections: local
// clients that send NEGOTIATE and nothing more must not occupy them all. Owned by the program, on its loop's
// thread; no I/O, and time is a parameter.
//
// There are kMost places. When they are full, the address that has the most of them loses its oldest one to a
// client whose address has fewer; among equals, a connection loses its place when it has been idle for a
// second, or has had the place for long. The others wait in order, those whose address has the fewest places
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>

#include "shm/base/socket_address.h"

namespace smbdirect::workers::connect {

/// A client's connection that may have to give up its place.
class PlaceHolder {
 public:
  /// It may have a connection to the server. Places is not called from inside.
  virtual void enter() = 0;
  /// Its connections are closed, now or soon. Places is not called from inside.
  virtual void leave(std::string why) = 0;
  /// The server owes it something: a connection, an answer.
  [[nodiscard]] virtual bool served() const = 0;

 protected:
  ~PlaceHolder() = default;
};

class Places {
 public:
  /// Connections without a session at one time; smbdirectd grants a client 64 connections in all.
  static constexpr size_t kMost = 16;
  /// A connection whose address has more places than the newcomer's by more than this number goes at once.
  static constexpr size_t kFew = 4;
  static constexpr uint64_t kQuietMs = 1'000;  // then an idle one may lose its place
  static constexpr uint64_t kLongMs = 3'000;   // then any: before waiting clients give up
  static constexpr uint64_t kLookMs = 100;     // between looks whether they are idle

  /// A client has connected.
  void arrived(PlaceHolder& holder, const shm::Host& host);
  /// It has sent its NEGOTIATE, and waits for a place.
  void greeted(PlaceHolder& holder);
  /// The server has let it in, or it is gone. Idempotent.
  void remove(const PlaceHolder& holder);

  /// Gives places. The time (ms) until it should be called again; nothing: when something has changed.
  std::optional<uint64_t> serve(uint64_t now);
  /// Closes a connection without a place, so that another can connect: of the address that has the most of
  /// these, the oldest silent one, otherwise the oldest. False: there is none.
  bool make_room(const std::string& why);

 private:
  enum class State : uint8_t { silent, waiting, placed };
  struct Entry {
    PlaceHolder* holder;
    shm::Host host;
    State state = State::silent;
    uint64_t since = 0;  // it has its place
  };
  struct Count {
    size_t placed = 0;
    size_t others = 0;
  };
  using Entries = std::list<Entry>;

  [[nodiscard]] Entries::iterator next();
  [[nodiscard]] bool place_for(const Entry& newcomer, uint64_t now, uint64_t& again);
  void drop(Entries::iterator entry);

  Entries entries_;  // each since it has been silent, waiting or placed: the longest first
  std::map<shm::Host, Count> hosts_;
  size_t placed_ = 0;
};

}  // namespace smbdirect::workers::connect
