// SPDX-License-Identifier: MIT
// The memory a fabric may move data from and to, as numbered blocks. Slabs and payload blocks are taken from
// it; their `key` is the number of their block, and a fabric that must register memory with a device keeps
// its own registration per block, made when the block is first used. Owned by the worker (or
// smbdirect-connect), outlives pools and connections; one thread. Dies with the process, registrations too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace smbdirect::workers {

class Arena {
 public:
  /// The owner of registrations of blocks, which is called before a block's memory is freed.
  class Registrar {
   public:
    virtual void block_gone(uint32_t key) = 0;
    /// A device has the block's pages: they must stay as they are.
    [[nodiscard]] virtual bool holds(uint32_t key) const = 0;

   protected:
    ~Registrar() = default;
  };

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// The new block's key, 1 or more; 0 stands for memory that is in no block. Keys of removed blocks are
  /// given out again.
  [[nodiscard]] uint32_t add(std::span<std::byte> block);
  /// All work that names the block has completed.
  void remove(uint32_t key);
  /// Empty for a key that names no block.
  [[nodiscard]] std::span<std::byte> block(uint32_t key) const {
    return key < blocks_.size() ? blocks_[key] : std::span<std::byte>{};
  }

  /// Whether some device has the block registered.
  [[nodiscard]] bool registered(uint32_t key) const;

  void watch(Registrar& registrar);
  void unwatch(Registrar& registrar);

 private:
  std::vector<std::span<std::byte>> blocks_{1};  // by key
  std::vector<uint32_t> free_;
  std::vector<Registrar*> registrars_;
};

}  // namespace smbdirect::workers
