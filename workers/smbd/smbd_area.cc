// SPDX-License-Identifier: MIT
#include "workers/smbd/smbd_area.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <sys/random.h>
#include <sys/socket.h>

#include "shm/base/log.h"
#include "shm/base/sockets.h"

namespace smbdirect::workers {
namespace {

/// What NO_MODULE says (daemon/contract/messages.h). Without an error nobody has answered, and it is asked
/// again.
shm::AreaState state_of(int error) {
  switch (error) {
    case 0:
      return shm::AreaState::asked;
    case ENOENT:
      return shm::AreaState::no_module;
    case EHOSTUNREACH:
      return shm::AreaState::other_host;
    default:
      return shm::AreaState::unreachable;
  }
}

}  // namespace

void SmbdArea::answered(shm::Result<shm::UniqueFd> link) {
  if (state_ != State::asked) return;
  state_ = State::none;
  if (!link) return none(state_of(link.error().system_errno), link.error().text());
  state_ = State::greeting;
  link_ = {resources_->loop, std::move(*link), [this](int /*events*/, int /*status*/) { on_link(); }};
  link_.want(UV_READABLE);
}

std::optional<smb2::AreaPlace> SmbdArea::place_for(const smb2::AreaIo& io) {
  if (state_ == State::off || io.length < resources_->threshold) return std::nullopt;
  if (state_ != State::ready) {
    if (may_ask()) {
      ask_ = false;
      asked_at_ = context_.transport.now();
      state_ = State::asked;
      shown_ = shm::AreaState::asked;
      resources_->ask(connection_, stream_);
    }
    return std::nullopt;
  }
  const auto tree = trees_.find({io.session_id, io.tree_id});
  const auto inline_as = [this](shm::AreaState why) {
    shown_ = why;
    return std::nullopt;
  };
  if (tree == trees_.end()) return inline_as(shm::AreaState::no_share);
  if (!tree->second) return inline_as(shm::AreaState::misplaced);
  const auto offset = room_.take(io.length);
  if (!offset) return inline_as(shm::AreaState::full);
  shown_ = shm::AreaState::used;
  ++at_smbd_;
  ++places_out_;
  return smb2::AreaPlace{.token = token_, .offset = *offset};
}

bool SmbdArea::may_ask() const {
  // Of an area that was lost all must have come back, so that no part of it is taken for one of the next.
  if (stream_ < 0 || places_out_ > 0) return false;
  const bool again = context_.transport.now() - asked_at_ >= resources_->again_ms;
  return state_ == State::none ? ask_ || again : state_ == State::asked && again;
}

// --- the link ---

void SmbdArea::on_link() {
  std::array<std::byte, SMBDIRECT_LINK_SIZE> packet{};
  for (int i = 0; i < kPacketsPerWake; ++i) {
    // No descriptor comes this way: what is sent along is never received.
    const ssize_t got = ::recv(link_.fd(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got == 0) return lose("smbd's module has closed its link");
    if (got < 0) return lose(std::string("the link to smbd's module: ") + std::strerror(errno));
    if (size_t(got) != packet.size()) return lose("smbd's module sent a packet of a wrong length");
    if (!hear(packet)) return;
  }
}

bool SmbdArea::hear(std::span<const std::byte> packet) {
  const auto message = proxy::parse_link(packet);
  if (message) return hear(*message);
  lose("smbd's module sent " + std::string(proxy::link_error_text(message.error())));
  return false;
}

bool SmbdArea::hear(const proxy::LinkMessage& message) {
  const Tree tree{message.session, message.number};
  if (state_ == State::greeting) {
    if (message.said == proxy::LinkSaid::hello) return greeted(message.number);
    lose("smbd's module does not say who it is");
    return false;
  }
  switch (message.said) {
    case proxy::LinkSaid::hello:
      lose("smbd's module says twice who it is");
      return false;
    case proxy::LinkSaid::tree:
      if (trees_.size() < kMostTrees) trees_.insert_or_assign(tree, true);
      return true;
    case proxy::LinkSaid::tree_refused:
      if (trees_.size() < kMostTrees) trees_.insert_or_assign(tree, false);
      say("not for the share ", message.text);
      return true;
    case proxy::LinkSaid::tree_gone:
      trees_.erase(tree);
      return true;
    case proxy::LinkSaid::area_added:
      if (state_ == State::attaching && message.number == 0 && message.token == token_) {
        state_ = State::ready;
        shown_ = shm::AreaState::ready;
        say("in use", huge_ ? ", in huge pages" : "");
        return true;
      }
      lose("smbd's module does not take the shared memory (NTSTATUS " + std::to_string(message.number) + ")");
      return false;
    case proxy::LinkSaid::area_gone:
      return true;
  }
  return true;
}

bool SmbdArea::greeted(uint32_t version) {
  if (version != SMBDIRECT_LINK_VERSION) {
    lose(std::string(area_state_row(shm::AreaState::other_release).text) + " (link version " +
             std::to_string(version) + ", not " + std::to_string(SMBDIRECT_LINK_VERSION) + ")",
         shm::AreaState::other_release);
    return false;
  }
  return make();
}

bool SmbdArea::make() {
  if (resources_->huge_pages) {
    if (auto begun = shm::HugeArea::begin(resources_->bytes)) {
      making_.emplace(std::move(*begun));
      if (!next_page_) next_page_.emplace(resources_->loop, [this] { make_more(); });
      state_ = State::making;
      next_page_->start(0, kPageEveryMs);
      return true;
    }
  }
  huge_ = false;
  return attach(shm::make_area(resources_->bytes));
}

void SmbdArea::make_more() {
  const auto all = making_->step();
  if (all && !*all) return;
  next_page_->stop();
  huge_ = all.has_value();
  auto fd = huge_ ? making_->take() : shm::make_area(resources_->bytes);
  making_.reset();
  (void)attach(std::move(fd));  // what is wrong with it has been told
}

bool SmbdArea::attach(shm::Result<shm::UniqueFd> fd) {
  if (fd) area_ = acquire_shared(context_.slabs.arena(), fd->get(), resources_->bytes, resources_->budget);
  if (!fd || !area_) {
    lose(fd ? std::string(area_state_row(shm::AreaState::no_memory).text) : fd.error().text(),
         shm::AreaState::no_memory);
    return false;
  }
  room_ = AreaRoom(resources_->bytes);
  if (::getrandom(token_.data(), token_.size(), 0) != ssize_t(token_.size())) {
    lose("no random bytes");
    return false;
  }
  const proxy::LinkPacket packet = proxy::encode_area(token_);
  if (shm::send_datagram(link_.fd(), packet.data(), packet.size(), fd->get(), MSG_DONTWAIT) !=
      ssize_t(packet.size())) {
    lose(std::string("smbd's module takes nothing: ") + std::strerror(errno));
    return false;
  }
  state_ = State::attaching;
  return true;
}

/// Once for each change, and seldom where it changes all the time: neither a client that connects to trees
/// again and again fills a log, nor a module that refuses them.
void SmbdArea::say(const char* kind, const std::string& what) {
  std::string line = kind + what;
  if (said_ == line) return;
  said_ = std::move(line);
  const auto held_back = lines_.pass(kind, context_.transport.now());
  if (!held_back) return;
  const std::string more =
      *held_back > 0 ? " (" + std::to_string(*held_back) + " such lines held back)" : std::string();
  shm::log::write(shm::log::Level::info, "connection %s: memory shared with smbd: %s%s",
                  shm::connection_text(connection_).c_str(), said_.c_str(), more.c_str());
}

void SmbdArea::none(shm::AreaState why, const std::string& detail) {
  shown_ = why;
  const bool known = why == shm::AreaState::no_module || why == shm::AreaState::other_host;
  say("none", ": " + (known ? std::string(area_state_row(why).text) : detail));
}

/// The memory stays as long as RDMA reads or writes it, or smbd does: smbd has a mapping of its own.
void SmbdArea::lose(const std::string& why, shm::AreaState as) {
  link_.reset();
  making_.reset();
  if (next_page_) next_page_->stop();
  state_ = State::none;
  shown_ = as;
  trees_.clear();
  say("lost", ": " + why);
  if (at_smbd_ > 0) return context_.events.on_broken(why);  // until its end the memory is there
  area_.reset();
}

}  // namespace smbdirect::workers
