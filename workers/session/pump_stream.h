// SPDX-License-Identifier: MIT
// Bounded reading of an upstream stream, for both kinds of exchange: fill, process, and what the outcome
// means. On the exchange's thread; has no state.
#pragma once

#include <optional>
#include <string>

#include "workers/session/exchange.h"
#include "workers/stream/reader.h"

namespace smbdirect::workers {

/// An exchange as its pump sees it.
class StreamOwner {
 public:
  /// Goes on with what was read. Something: stop with that.
  virtual std::optional<Exchange::State> process() = 0;
  /// Whether the stream may end here.
  [[nodiscard]] virtual bool between_messages() const = 0;
  /// The session is told. what: of the stream, to stand behind a name for it.
  virtual void stream_broken(std::string what) = 0;

 protected:
  ~StreamOwner() = default;
};

/// floor, sender: as for StreamReader::fill().
[[nodiscard]] inline Exchange::State pump_stream(StreamReader& reader, int fd, StreamOwner& owner, bool floor,
                                                 pid_t* sender = nullptr) {
  constexpr size_t kReadBytes = 1u << 20;  // per read
  constexpr int kReadsPerWake = 4;
  for (int i = 0; i < kReadsPerWake; ++i) {
    const auto filled = reader.fill(fd, kReadBytes, sender, floor);
    if (!filled) {
      owner.stream_broken(": " + filled.error().text());
      return Exchange::State::broken;
    }
    if (const auto stop = owner.process()) return *stop;
    switch (*filled) {
      case StreamReader::Fill::more:
        break;
      case StreamReader::Fill::drained:
        return Exchange::State::drained;
      case StreamReader::Fill::no_memory:
        return Exchange::State::no_memory;
      case StreamReader::Fill::end:
        if (owner.between_messages()) return Exchange::State::end;
        owner.stream_broken(" was closed in the middle of a message");
        return Exchange::State::broken;
    }
  }
  return Exchange::State::more;
}

}  // namespace smbdirect::workers
