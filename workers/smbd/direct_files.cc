// SPDX-License-Identifier: MIT
#include "workers/smbd/direct_files.h"

#include <algorithm>

#include "protocol/smb2/channel_sequence.h"
#include "shm/seqlock.h"
#include "workers/smbd/granted_file.h"

namespace smbdirect::workers {
namespace {

shm::DirectState state_of(SmbdLink::Without how) {
  switch (how) {
    case SmbdLink::Without::asked:
      return shm::DirectState::asked;
    case SmbdLink::Without::no_module:
      return shm::DirectState::no_module;
    case SmbdLink::Without::other_host:
      return shm::DirectState::other_host;
    case SmbdLink::Without::unreachable:
      return shm::DirectState::unreachable;
    case SmbdLink::Without::other_release:
      return shm::DirectState::other_release;
    case SmbdLink::Without::lost:
      break;
  }
  return shm::DirectState::lost;
}

bool of_files(proxy::LinkSaid said) {
  using enum proxy::LinkSaid;
  return said == use || said == table || said == grant || said == rights || said == closed;
}

}  // namespace

bool DirectTable::has_keeper() const {
  const auto& futex = reinterpret_cast<const uint32_t&>(map.words()[slots]);
  const std::atomic_ref<uint32_t> word(const_cast<uint32_t&>(futex));  // to read it, as load_word()
  return (word.load(std::memory_order_acquire) & SMBDIRECT_LIFE_HOLDER) != 0;
}

bool Right::holds() const {
  if (table_ == nullptr || table_->over.load(std::memory_order_acquire) || !table_->has_keeper())
    return false;
  const uint64_t word = shm::load_word(table_->map.words()[slot_]);
  return SMBDIRECT_SLOT_GENERATION(word) == generation_ && (SMBDIRECT_SLOT_RIGHTS(word) & bit_) != 0;
}

bool OpenSequence::is_open() const {
  return table_->has_keeper() &&
         SMBDIRECT_SLOT_GENERATION(shm::load_word(table_->map.words()[slot_])) == generation_;
}

void DirectFile::let_go() {
  views = {};
  if (closes_at_once && sequence.is_open()) return fd.reset_here();
  fd.reset();
}

DirectFiles::DirectFiles(SessionContext& context, SmbdLink& link, const DirectResources* resources)
    : context_(context),
      link_(link),
      resources_(resources),
      state_(resources == nullptr ? State::off : State::none),
      shown_(resources == nullptr ? shm::DirectState::disabled : shm::DirectState::unasked) {
  if (resources != nullptr) link_.serve(*this);
}

DirectFiles::~DirectFiles() { forget(); }

// --- requests ---

std::shared_ptr<DirectFile> DirectFiles::find(const smb2::DirectRequest& request) {
  if (state_ != State::ready) return nullptr;
  const auto at = files_.find(request.file_id);
  if (at == files_.end()) return for_smbd(why_unknown(request));
  if (at->second.file == nullptr) return for_smbd(at->second.why);
  DirectFile& file = *at->second.file;
  // Who names somebody else's file is told by smbd that there is none, and in a session that is not of this
  // connection that there is no such session: the link tells of all files of its process.
  if (!may_name(file, request.session_id, request.tree_id)) return nullptr;
  // An older one smbd may have to refuse; and by a newer one of another channel this one is lost.
  if (request.channel_sequence != file.sequence.now()) return nullptr;
  if (!file.sequence.is_newest(request.channel_sequence)) return for_smbd(shm::DirectState::other_channel);
  if (!file.right(request.command).holds()) return for_smbd(shm::DirectState::revoked);
  if (request.command == smb2::Command::write && (!file.written || resources_->ending->has(file.session_id)))
    return nullptr;
  return at->second.file;
}

/// MS-SMB2 3.3.5.2.10. smbd begins each open with 0, also that of a client which has lost a channel before;
/// it counts on with what it sees, so that each link shows it one request with the new one before it goes on
/// here.
bool DirectFiles::counts_on(const smb2::RequestInfo& info) {
  if (info.channel_sequence == 0 || files_.empty()) return false;  // nothing is older
  const auto at = files_.find(info.file_id);
  if (at == files_.end() || at->second.file == nullptr) return false;
  if (!may_name(*at->second.file, info.session_id, info.tree_id)) return false;  // smbd finds none
  OpenSequence& sequence = at->second.file->sequence;
  if (!smb2::older_sequence(sequence.now(), info.channel_sequence)) return false;
  sequence.raise(info.channel_sequence);
  draining_.push_back(at->second.file);
  return true;
}

bool DirectFiles::may_name(const DirectFile& file, uint64_t session, uint32_t tree) const {
  return file.is_of(session, tree) && context_.translator.usable(session);
}

bool DirectFiles::older_under_way() {
  std::erase_if(draining_, [](const auto& file) { return !file->sequence.older_under_way(); });
  return !draining_.empty();
}

std::shared_ptr<DirectFile> DirectFiles::for_smbd(shm::DirectState why) {
  shown_ = why;
  return nullptr;
}

shm::DirectState DirectFiles::why_unknown(const smb2::DirectRequest& request) const {
  const auto tree = trees_.find({request.session_id, request.tree_id});
  return tree != trees_.end() && refused_shares_.contains(tree->second) ? shm::DirectState::share_refused
                                                                        : shm::DirectState::not_granted;
}

void DirectFiles::smbd_wrote(const smb2::FileId& file) {
  const auto at = files_.find(file);
  if (at != files_.end() && at->second.file != nullptr) at->second.file->written = true;
}

void DirectFiles::did(const smb2::DirectRequest& request, uint32_t bytes) {
  shown_ = shm::DirectState::used;
  Counters& counters = context_.transport.own_counters();
  const bool write = request.command == smb2::Command::write;
  ++(write ? counters.direct_writes : counters.direct_reads);
  (write ? counters.direct_write_bytes : counters.direct_read_bytes) += bytes;
}

void DirectFiles::tidy() {
  for (auto& [id, known] : files_)
    if (known.file != nullptr) known.file->views.trim();
}

void DirectFiles::opened() {
  if (state_ != State::off && !link_.up()) link_.want();
}

// --- the link ---

void DirectFiles::linked() {
  forget();
  without_room_ = false;
  state_ = State::asked;
  shown_ = shm::DirectState::asked;
  link_.take_descriptors();
  (void)link_.send(proxy::encode_direct());  // else without() has been told
}

void DirectFiles::without(SmbdLink::Without how, const std::string& /*why*/) {
  forget();
  state_ = State::none;
  shown_ = state_of(how);
}

void DirectFiles::forget() {
  if (table_ != nullptr) table_->over.store(true, std::memory_order_release);
  table_.reset();
  use_.reset();
  draining_.clear();
  waited_.clear();
  files_.clear();
  slots_.clear();
  open_ = 0;
  trees_.clear();
  refused_shares_.clear();
}

SmbdLink::User::Heard DirectFiles::hear(const SmbdLink::Packet& packet) {
  const proxy::LinkMessage& message = packet.message;
  if (without_room_ && of_files(message.said)) {
    let_go(packet);
    return Heard::taken;
  }
  switch (message.said) {
    case proxy::LinkSaid::tree:
    case proxy::LinkSaid::tree_refused:
      if (trees_.size() < kMostTrees)
        trees_.insert_or_assign({message.session, message.number},
                                message.text.substr(0, message.text.find(':')));
      return Heard::taken;
    case proxy::LinkSaid::tree_gone:
      trees_.erase({message.session, message.number});
      return Heard::taken;
    case proxy::LinkSaid::direct_not:
      if (state_ != State::asked) return lie("refuses direct I/O that nobody has asked for");
      state_ = State::refused;
      shown_ = shm::DirectState::not_here;
      say("none", ": " + message.text);
      link_.end_unless_needed();
      return link_.up() ? Heard::taken : Heard::over;
    case proxy::LinkSaid::direct_refused:
      refuse_share(message.text);
      return Heard::taken;
    case proxy::LinkSaid::use:
      return map_use(packet);
    case proxy::LinkSaid::table:
      return map_table(packet);
    case proxy::LinkSaid::grant:
      return take(packet);
    case proxy::LinkSaid::rights:
      return change(message);
    case proxy::LinkSaid::closed:
      return drop(message);
    case proxy::LinkSaid::hello:
    case proxy::LinkSaid::area_added:
    case proxy::LinkSaid::area_gone:
      break;
  }
  return Heard::not_mine;
}

SmbdLink::User::Heard DirectFiles::lie(const char* what) {
  link_.end(std::string("smbd's module ") + what);
  return Heard::over;
}

void DirectFiles::let_go(const SmbdLink::Packet& packet) {
  resources_->closer.close(std::move(packet.descriptor));
}

void DirectFiles::refuse_share(const std::string& text) {
  if (refused_shares_.size() < kMostShares) refused_shares_.insert(text.substr(0, text.find(':')));
  say("not for the share ", text);
}

SmbdLink::User::Heard DirectFiles::map_use(const SmbdLink::Packet& packet) {
  if (state_ != State::asked || use_ != nullptr) return lie("has another memory of what is under way");
  shm::UniqueFd kept = link_.share();
  if (packet.no_room || !kept.valid()) {
    let_go(packet);
    return no_room("what is under way");
  }
  auto use = DirectUse::open(packet.descriptor.get(), packet.message.number, std::move(kept));
  let_go(packet);
  if (!use) return lie(("has no memory of what is under way: " + use.error().text()).c_str());
  use_ = std::move(*use);
  return Heard::taken;
}

SmbdLink::User::Heard DirectFiles::map_table(const SmbdLink::Packet& packet) {
  if (state_ != State::asked) return lie("has another table of open files");
  if (packet.no_room) return no_room("the table of open files");
  if (use_ == nullptr) return lie("has a table of open files and no memory of what is under way");
  const uint32_t slots = packet.message.number;
  const size_t bytes = SMBDIRECT_TABLE_SIZE(slots);
  auto map = shm::SharedMap::open(packet.descriptor.get(), bytes, bytes, shm::SharedMap::Writers::its_maker);
  let_go(packet);
  if (!map) return lie(("has a table of open files that is none: " + map.error().text()).c_str());
  table_ = std::make_shared<DirectTable>(std::move(*map), slots, std::move(use_));
  state_ = State::ready;
  shown_ = shm::DirectState::ready;
  say("in use", "");
  return Heard::taken;
}

/// What would have been done here goes by smbd; that is no lie of the module's.
SmbdLink::User::Heard DirectFiles::no_room(const char* what) {
  state_ = State::refused;
  shown_ = shm::DirectState::full;
  without_room_ = true;
  use_.reset();
  say("none", std::string(": no descriptor is left for ") + what);
  link_.end_unless_needed();
  return link_.up() ? Heard::taken : Heard::over;
}

SmbdLink::User::Heard DirectFiles::take(const SmbdLink::Packet& packet) {
  const proxy::LinkMessage& message = packet.message;
  if (state_ != State::ready) return lie("grants an open file without a table");
  if (message.number >= table_->slots) return lie("grants an open file beyond its table");
  if (slots_.contains(message.number)) return lie("grants an open file in the place of another");
  const smb2::FileId id{message.token};
  if (files_.contains(id)) return lie("grants an open file twice");
  if (!packet.descriptor.valid() && !packet.no_room) return lie("grants an open file without it");
  Known known = known_of(packet);
  let_go(packet);  // if it is not taken
  slots_.emplace(message.number,
                 Slot{.generation = message.grant.generation, .rights = message.grant.rights, .file_id = id});
  if (known.file != nullptr) {
    ++open_;
    ++context_.transport.own_counters().direct_grants;
  }
  files_.emplace(id, std::move(known));
  return Heard::taken;
}

DirectFiles::Known DirectFiles::known_of(const SmbdLink::Packet& packet) {
  const proxy::LinkMessage& message = packet.message;
  if (packet.no_room) return {.file = nullptr, .why = shm::DirectState::full};
  const auto granted = look_at_granted(packet.descriptor.get());
  if (!granted) {
    say("smbd's module granted ", granted.error());
    return {.file = nullptr, .why = shm::DirectState::unusable};
  }
  resources_->closer.reclaim();
  if (open_ >= resources_->files || !resources_->descriptors.charge(1))
    return {.file = nullptr, .why = shm::DirectState::full};
  const auto right = [&](bool possible, uint32_t bit) {
    return possible && (message.grant.rights & bit) != 0
               ? Right(table_, message.number, message.grant.generation, bit)
               : Right();
  };
  return {
      .file = std::make_shared<DirectFile>(DirectFile{
          .fd = {resources_->closer, std::move(packet.descriptor), resources_->descriptors},
          .read = right(granted->readable, SMBDIRECT_RIGHT_READ),
          .write = right(granted->writable, SMBDIRECT_RIGHT_WRITE),
          .device = granted->device,
          .never_blocks = granted->never_blocks,
          .closes_at_once = granted->closes_at_once,
          .session_id = message.session,
          .tree_id = message.grant.tree,
          .sequence = {table_, message.number, message.grant.generation, message.grant.channel_sequence}}),
      .why = {}};
}

/// The table has it already: this is for people.
SmbdLink::User::Heard DirectFiles::change(const proxy::LinkMessage& message) {
  const auto at = slots_.find(message.number);
  if (at == slots_.end() || at->second.generation != message.grant.generation)
    return lie("changes the rights of what it has not granted");
  Slot& slot = at->second;
  if ((slot.rights & ~uint32_t{message.grant.rights}) != 0)
    ++context_.transport.own_counters().direct_revocations;
  slot.rights = message.grant.rights;
  return Heard::taken;
}

SmbdLink::User::Heard DirectFiles::drop(const proxy::LinkMessage& message) {
  const auto at = slots_.find(message.number);
  if (at == slots_.end() || at->second.generation != message.grant.generation)
    return lie("closes what it has not granted");
  const auto file = files_.find(at->second.file_id);
  if (file->second.file != nullptr) --open_;
  files_.erase(file);
  slots_.erase(at);
  return Heard::taken;
}

void DirectFiles::say(const char* kind, const std::string& what) {
  lines_.say(link_.connection(), context_.transport.now(), kind, what);
}

}  // namespace smbdirect::workers
