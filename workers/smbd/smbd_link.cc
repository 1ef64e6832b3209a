// SPDX-License-Identifier: MIT
#include "workers/smbd/smbd_link.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <utility>

#include "shm/area_state.h"
#include "shm/base/sockets.h"

namespace smbdirect::workers {
namespace {

/// What NO_MODULE says (daemon/contract/messages.h). Without an error nobody has answered, and it is asked
/// again.
SmbdLink::Without without_of(int error) {
  switch (error) {
    case 0:
      return SmbdLink::Without::asked;
    case ENOENT:
      return SmbdLink::Without::no_module;
    case EHOSTUNREACH:
      return SmbdLink::Without::other_host;
    default:
      return SmbdLink::Without::unreachable;
  }
}

}  // namespace

void SmbdLink::want() {
  if (resources_ == nullptr || stream_ < 0) return;
  const uint64_t now = context_.transport.now();
  const bool again = now - asked_at_ >= (unasked_ ? resources_->unasked_ms : resources_->again_ms);
  if (!(state_ == State::none ? ask_ || again : state_ == State::asked && again)) return;
  ask_ = false;
  asked_at_ = now;
  state_ = State::asked;
  tell(Without::asked, "");
  unasked_ = !resources_->ask(connection_, stream_);
}

void SmbdLink::answered(shm::Result<shm::UniqueFd> link) {
  if (state_ != State::asked) return;
  state_ = State::none;
  if (!link) return none(without_of(link.error().system_errno), link.error().text());
  state_ = State::greeting;
  link_ = {resources_->loop, std::move(*link), [this](int /*events*/, int /*status*/) { on_packets(); }};
  link_.want(UV_READABLE);
}

void SmbdLink::on_packets() {
  std::array<std::byte, SMBDIRECT_LINK_SIZE> bytes{};
  for (int i = 0; i < kPacketsPerWake; ++i) {
    const shm::Datagram got =
        shm::receive_datagram(link_.fd(), bytes, MSG_DONTWAIT | MSG_TRUNC, takes_descriptors_);
    shm::UniqueFd descriptor(got.descriptor);
    if (got.size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got.size == 0) return end("smbd's module has closed its link");
    if (got.size < 0) return end(std::string("the link to smbd's module: ") + std::strerror(errno));
    if (size_t(got.size) != bytes.size()) return end("smbd's module sent a packet of a wrong length");
    const bool no_room = takes_descriptors_ && got.more && !descriptor.valid();
    if (takes_descriptors_ && got.more && !no_room)
      return end("smbd's module sent a packet with several descriptors");
    const bool goes_on = hear(bytes, descriptor, no_room);
    let_go(std::move(descriptor));
    if (!goes_on) return;
  }
}

bool SmbdLink::hear(std::span<const std::byte> bytes, shm::UniqueFd& descriptor, bool no_room) {
  const auto message = proxy::parse_link(bytes);
  if (!message) {
    end("smbd's module sent " + std::string(proxy::link_error_text(message.error())));
    return false;
  }
  if (state_ == State::greeting) return greeted(*message);
  if (message->said == proxy::LinkSaid::hello) {
    end("smbd's module says twice who it is");
    return false;
  }
  bool taken = false;
  for (User* user : users_) {
    const User::Heard heard = user->hear({*message, descriptor, no_room});
    if (heard == User::Heard::over) return false;
    taken = taken || heard == User::Heard::taken;
  }
  if (!taken) {
    end("smbd's module speaks of what it was not asked for");
  } else if (descriptor.valid()) {
    end("smbd's module sent a descriptor with what has none");
  }
  return state_ == State::up;
}

bool SmbdLink::greeted(const proxy::LinkMessage& message) {
  if (message.said != proxy::LinkSaid::hello) {
    end("smbd's module does not say who it is");
  } else if (message.number != SMBDIRECT_LINK_VERSION) {
    end(Without::other_release, std::string(area_state_row(shm::AreaState::other_release).text) +
                                    " (link version " + std::to_string(message.number) + ", not " +
                                    std::to_string(SMBDIRECT_LINK_VERSION) + ")");
  } else {
    state_ = State::up;
    for (User* user : users_) {
      if (state_ == State::up) user->linked();
    }
  }
  return state_ == State::up;
}

bool SmbdLink::send(const proxy::LinkPacket& packet, int descriptor) {
  if (shm::send_datagram(link_.fd(), packet.data(), packet.size(), descriptor, MSG_DONTWAIT) ==
      ssize_t(packet.size())) {
    return true;
  }
  end(std::string("smbd's module takes nothing: ") + std::strerror(errno));
  return false;
}

shm::UniqueFd SmbdLink::share() const { return shm::UniqueFd(::fcntl(link_.fd(), F_DUPFD_CLOEXEC, 0)); }

void SmbdLink::none(Without how, const std::string& detail) {
  const bool known = how == Without::no_module || how == Without::other_host;
  const auto state = how == Without::no_module ? shm::AreaState::no_module : shm::AreaState::other_host;
  tell(how, known ? std::string(area_state_row(state).text) : detail);
  lines_.say(connection_, context_.transport.now(), "none",
             ": " + (known ? std::string(area_state_row(state).text) : detail));
}

/// What nobody will hear any more, with its open files: they would go with the socket, here.
void SmbdLink::leave_descriptors() {
  constexpr int kMost = 1024;  // more than a socket has room for, unless it is being filled
  std::array<std::byte, SMBDIRECT_LINK_SIZE> bytes{};
  for (int i = 0; i < kMost && link_.valid() && takes_descriptors_; ++i) {
    const shm::Datagram got = shm::receive_datagram(link_.fd(), bytes, MSG_DONTWAIT, true);
    if (got.size <= 0) return;
    let_go(shm::UniqueFd(got.descriptor));
  }
}

void SmbdLink::let_go(shm::UniqueFd descriptor) {
  if (resources_->closer != nullptr) resources_->closer->close(std::move(descriptor));
}

void SmbdLink::close() {
  leave_descriptors();
  link_.reset();
  state_ = State::none;
  takes_descriptors_ = false;
}

void SmbdLink::end_unless_needed() {
  for (const User* user : users_) {
    if (user->needs_link()) return;
  }
  close();
}

void SmbdLink::end(Without how, const std::string& why) {
  close();
  lines_.say(connection_, context_.transport.now(), "lost", ": " + why);
  tell(how, why);
}

void SmbdLink::tell(Without how, const std::string& why) {
  for (User* user : users_) user->without(how, why);
}

}  // namespace smbdirect::workers
