// SPDX-License-Identifier: MIT
#include "workers/smbd/smbd_area.h"

#include <sys/random.h>

namespace smbdirect::workers {
namespace {

shm::AreaState state_of(SmbdLink::Without how) {
  switch (how) {
    case SmbdLink::Without::asked:
      return shm::AreaState::asked;
    case SmbdLink::Without::no_module:
      return shm::AreaState::no_module;
    case SmbdLink::Without::other_host:
      return shm::AreaState::other_host;
    case SmbdLink::Without::unreachable:
      return shm::AreaState::unreachable;
    case SmbdLink::Without::other_release:
      return shm::AreaState::other_release;
    case SmbdLink::Without::lost:
      break;
  }
  return shm::AreaState::lost;
}

}  // namespace

std::optional<smb2::AreaPlace> SmbdArea::place_for(const smb2::AreaIo& io) {
  if (state_ == State::off || io.length < resources_->threshold) return std::nullopt;
  if (state_ != State::ready) {
    want();
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

void SmbdArea::want() {
  wanted_ = true;
  // Of an area that was lost all must have come back, so that no part of it is taken for one of the next.
  if (state_ != State::none || places_out_ > 0) return;
  if (!link_.up()) return link_.want();
  if (!failed_at_ || context_.transport.now() - *failed_at_ >= link_.again_ms()) make();
}

// --- the link ---

void SmbdArea::linked() {
  failed_at_.reset();
  trees_.clear();
  if (wanted_ && places_out_ == 0) make();
}

/// The memory stays as long as RDMA reads or writes it, or smbd does: smbd has a mapping of its own.
void SmbdArea::without(SmbdLink::Without how, const std::string& why) {
  making_.reset();
  if (next_page_) next_page_->stop();
  state_ = State::none;
  trees_.clear();
  // Somebody else has asked: this has nothing to say of it yet.
  if (how != SmbdLink::Without::asked || wanted_) shown_ = state_of(how);
  if (at_smbd_ > 0) return context_.events.on_broken(why);  // until its end the memory is there
  area_.reset();
}

SmbdLink::User::Heard SmbdArea::hear(const SmbdLink::Packet& packet) {
  const proxy::LinkMessage& message = packet.message;
  const Tree tree{message.session, message.number};
  switch (message.said) {
    case proxy::LinkSaid::tree:
      if (trees_.size() < kMostTrees) trees_.insert_or_assign(tree, true);
      return Heard::taken;
    case proxy::LinkSaid::tree_refused:
      if (trees_.size() < kMostTrees) trees_.insert_or_assign(tree, false);
      say("not for the share ", message.text);
      return Heard::taken;
    case proxy::LinkSaid::tree_gone:
      trees_.erase(tree);
      return Heard::taken;
    case proxy::LinkSaid::area_added:
      if (state_ != State::attaching || message.token != token_) {
        link_.end("smbd's module takes memory that it was not given");
        return Heard::over;
      }
      if (message.number == 0) {
        state_ = State::ready;
        shown_ = shm::AreaState::ready;
        say("in use", huge_ ? ", in huge pages" : "");
      } else {
        give_up_area(shm::AreaState::lost, "smbd's module does not take the shared memory (NTSTATUS " +
                                               std::to_string(message.number) + ")");
      }
      return link_.up() ? Heard::taken : Heard::over;
    case proxy::LinkSaid::area_gone:
      return Heard::taken;
    default:
      return Heard::not_mine;
  }
}

// --- the area ---

void SmbdArea::make() {
  if (resources_->huge_pages) {
    if (auto begun = shm::HugeArea::begin(resources_->bytes)) {
      making_.emplace(std::move(*begun));
      if (!next_page_) next_page_.emplace(resources_->loop, [this] { make_more(); });
      state_ = State::making;
      next_page_->start(0, kPageEveryMs);
      return;
    }
  }
  huge_ = false;
  attach(shm::make_area(resources_->bytes));
}

void SmbdArea::make_more() {
  const auto all = making_->step();
  if (all && !*all) return;
  next_page_->stop();
  huge_ = all.has_value();
  auto fd = huge_ ? making_->take() : shm::make_area(resources_->bytes);
  making_.reset();
  attach(std::move(fd));
}

void SmbdArea::attach(shm::Result<shm::UniqueFd> fd) {
  if (fd) area_ = acquire_shared(context_.slabs.arena(), fd->get(), resources_->bytes, resources_->budget);
  if (!fd || !area_) {
    return give_up_area(shm::AreaState::no_memory,
                        fd ? std::string(area_state_row(shm::AreaState::no_memory).text) : fd.error().text());
  }
  room_ = AreaRoom(resources_->bytes);
  if (::getrandom(token_.data(), token_.size(), 0) != ssize_t(token_.size()))
    return give_up_area(shm::AreaState::no_memory, "no random bytes");
  state_ = State::attaching;
  if (shown_ == shm::AreaState::unasked) shown_ = shm::AreaState::asked;
  (void)link_.send(proxy::encode_area(token_), fd->get());  // else without() has been told
}

/// The link stays for others.
void SmbdArea::give_up_area(shm::AreaState why, const std::string& text) {
  failed_at_ = context_.transport.now();
  state_ = State::none;
  shown_ = why;
  area_.reset();
  say("none", ": " + text);
  link_.end_unless_needed();
}

void SmbdArea::say(const char* kind, const std::string& what) {
  lines_.say(link_.connection(), context_.transport.now(), kind, what);
}

}  // namespace smbdirect::workers
