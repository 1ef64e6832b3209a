// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/mr_table.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "shm/base/log.h"

namespace smbdirect::workers::fabric::verbs {

namespace log = shm::log;

void log_destroy_failure(const char* call, int system_errno) {
  log::write(log::Level::error, "%s", shm::Error{std::string(call) + " failed", system_errno}.text().c_str());
}

shm::Result<std::unique_ptr<MrTable>> MrTable::create(VerbsApi& api, ibv_context& context, Arena& arena) {
  PdHandle pd = own(api, api.alloc_pd(&context));
  if (pd == nullptr) return shm::fail("ibv_alloc_pd", errno);
  return std::unique_ptr<MrTable>(new MrTable(api, arena, std::move(pd)));
}

MrTable::MrTable(VerbsApi& api, Arena& arena, PdHandle pd) : api_(api), arena_(arena), pd_(std::move(pd)) {
  arena_.watch(*this);
}

MrTable::~MrTable() { arena_.unwatch(*this); }

std::optional<uint32_t> MrTable::add(uint32_t key) {
  const std::span<std::byte> block = arena_.block(key);
  if (block.empty()) return std::nullopt;
  // Local use only, on every kind of device: nothing in the arena can be named by a peer.
  auto mr = add_memory(block, IBV_ACCESS_LOCAL_WRITE);
  if (!mr) {
    // Once: the posts that fail for it will be many.
    if (!refusal_logged_) log::write(log::Level::error, "%s", mr.error().text().c_str());
    refusal_logged_ = true;
    return std::nullopt;
  }
  if (key >= blocks_.size()) blocks_.resize(key + 1);
  blocks_[key] = std::move(*mr);
  return blocks_[key]->lkey;
}

shm::Result<MrHandle> MrTable::add_memory(std::span<std::byte> memory, int access) {
  MrHandle mr = own(api_, api_.reg_mr(pd_.get(), memory.data(), memory.size(), access));
  if (mr != nullptr) return mr;
  const int error = errno;
  std::string what = "ibv_reg_mr of " + std::to_string(memory.size()) + " bytes";
  if (error == ENOMEM) what += " (is the limit on locked memory, RLIMIT_MEMLOCK, too low?)";
  return shm::fail(std::move(what), error);
}

void MrTable::block_gone(uint32_t key) {
  if (key < blocks_.size()) blocks_[key].reset();
}

size_t MrTable::registered() const {
  return static_cast<size_t>(
      std::ranges::count_if(blocks_, [](const MrHandle& mr) { return mr != nullptr; }));
}

}  // namespace smbdirect::workers::fabric::verbs
