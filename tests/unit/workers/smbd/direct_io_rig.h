// SPDX-License-Identifier: MIT
// A session whose smbd has granted it an open file: smbd and its module are played by the test, the file is
// one. One test; threads are libuv's.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "direct_rig.h"

namespace smbdirect::workers::session_test {

using fabric::Access;
using smb2_test::get;
using smb2_test::pattern;
using smb2_test::put;

/// A file system in memory, and one that may block (what the tests run on is not known: it is not asked).
inline constexpr const char* kMemory = "/dev/shm";
inline constexpr const char* kDisk = "/var/tmp";

class DirectIoRig final : public SmbdExchangeRig {
 public:
  static constexpr uint32_t kBoth = DirectRig::kBoth;
  static constexpr uint64_t kFile = 0x0909090909090909, kOther = 0x88;
  static constexpr size_t kFileBytes = 3'000'000;

  explicit DirectIoRig(const std::string& directory = kMemory, Setup setup = {})
      : SmbdExchangeRig(setup, true), named(directory), contents(pattern(kFileBytes, 9)) {
    REQUIRE(::pwrite(named.fd.get(), contents.data(), contents.size(), 0) == ssize_t(contents.size()));
    Bytes agreed_to = smb2_test::negotiate_response(0x0302);
    put(agreed_to, 88, 4, 4);  // SMB2_GLOBAL_CAP_LARGE_MTU
    open(agreed_to);
    attach();
    grant(1, named.fd.get());
  }
  ~DirectIoRig() override {
    if (table_ != nullptr) munmap(table_, DirectRig::kTableBytes);
  }

  void say(const Bytes& bytes, const std::vector<int>& along = {}) {
    REQUIRE(test::send_with(module.get(), bytes, along) == ssize_t(bytes.size()));
    wait(0);
  }
  void set(uint32_t rights) { shm::store_word(table_[1], uint64_t{1} << 32 | rights); }
  /// As the kernel says that smbd's process died.
  void smbd_dies() { shm::store_word(table_[DirectRig::kSlots], 0x40000000); }
  void revoke(uint32_t left = 0) {
    set(left);
    say(DirectRig::about(SMBDIRECT_LINK_RIGHTS, 1, left));
  }

  [[nodiscard]] Bytes read_of(uint64_t id, uint64_t offset, uint32_t length, uint64_t file = kFile) const {
    return smb2_test::read_request({.message_id = id, .credit_charge = charge(length)},
                                   {.offset = offset, .length = length, .file = file});
  }
  [[nodiscard]] Bytes read_into(uint64_t id, uint64_t offset, uint32_t length,
                                const std::vector<smb2::BufferDescriptor>& memory,
                                uint32_t channel = 1) const {
    return smb2_test::read_request(
        {.message_id = id, .credit_charge = charge(length)},
        {.offset = offset, .length = length, .file = kFile, .channel = channel, .memory = memory});
  }
  [[nodiscard]] Bytes write_of(uint64_t id, uint64_t offset, const Bytes& data) const {
    return smb2_test::write_request({.message_id = id, .credit_charge = charge(data.size())},
                                    {.offset = offset, .file = kFile, .data = data});
  }
  [[nodiscard]] Bytes write_from(uint64_t id, uint64_t offset, uint32_t length,
                                 const std::vector<smb2::BufferDescriptor>& memory) const {
    return smb2_test::write_request(
        {.message_id = id, .credit_charge = charge(length)},
        {.offset = offset, .length = length, .file = kFile, .channel = 1, .memory = memory});
  }
  static uint16_t charge(size_t length) { return uint16_t(std::max<size_t>(1, (length + 65535) / 65536)); }
  static Bytes about_file(uint16_t command, uint64_t id, size_t body = 24, size_t file_at = 72) {
    Bytes bytes = smb2_test::plain(command, {.message_id = id}, body);
    put(bytes, file_at, kFile, 8);
    put(bytes, file_at + 8, kFile, 8);
    return bytes;
  }

  /// What smbd heard of the client's, the ECHOs of the ledger's left out (those are ECHOs of ids given here).
  Messages heard() {
    Messages all;
    for (const Bytes& pdu : smbd.heard)
      if (get(pdu, 12, 2) != smb2_test::kEcho) all.push_back(pdu);
    return all;
  }
  /// Nothing but what was done here.
  [[nodiscard]] bool unheard() { return heard().empty() && broken.empty(); }
  /// One answer, complete.
  Bytes answer() {
    settle();
    INFO(broken);
    REQUIRE(client_side.complete == 1);
    Bytes message = client_side.messages.at(0);
    client_side = {};
    return message;
  }
  /// The first WRITE of the open is smbd's.
  void write_first(uint64_t id) {
    from_client(write_of(id, 0, Bytes(contents.begin(), contents.begin() + 8)));
    settle();
    REQUIRE(heard().size() == 1);
    smbd.heard.clear();
    smbd.answer(smb2_test::write_response({.message_id = id}, 8));
    settle();
    REQUIRE(client_side.complete == 1);
    client_side = {};
  }
  [[nodiscard]] Bytes on_disk(uint64_t offset, size_t length) const {
    Bytes bytes(length);
    const ssize_t got = ::pread(named.fd.get(), bytes.data(), length, off_t(offset));
    REQUIRE(got >= 0);
    bytes.resize(size_t(got));
    return bytes;
  }
  [[nodiscard]] Bytes part(uint64_t offset, size_t length) const {
    return {contents.begin() + ptrdiff_t(offset), contents.begin() + ptrdiff_t(offset + length)};
  }
  /// Threads do something by themselves.
  template <typename Condition>
  void until(Condition&& condition) {
    for (int turns = 0; !condition(); ++turns) {
      REQUIRE(turns < 100'000);
      ::usleep(100);
      uv_run(&loop(), UV_RUN_NOWAIT);
      settle();
    }
  }
  [[nodiscard]] Counters counted() const { return server->counters(); }

  /// All of libuv's threads wait until it lets them go on.
  class BusyThreads {
   public:
    explicit BusyThreads(uv_loop_t& loop) {
      for (uv_work_t& work : works_) {
        work.data = this;
        REQUIRE(uv_queue_work(
                    &loop, &work,
                    [](uv_work_t* mine) {
                      auto* all = static_cast<BusyThreads*>(mine->data);
                      std::unique_lock lock(all->mutex_);
                      all->go_.wait(lock, [all] { return all->may_go_; });
                    },
                    [](uv_work_t* mine, int) { ++static_cast<BusyThreads*>(mine->data)->ended_; }) == 0);
      }
    }
    void let_go() {
      const std::lock_guard lock(mutex_);
      may_go_ = true;
      go_.notify_all();
    }
    [[nodiscard]] bool gone() const { return ended_ == works_.size(); }

   private:
    std::array<uv_work_t, 4> works_{};
    std::mutex mutex_;
    std::condition_variable go_;
    bool may_go_ = false;
    size_t ended_ = 0;
  };
  [[nodiscard]] uv_loop_t& its_loop() { return loop(); }
  /// What was asked for waits for a thread. Where the file system says itself what would block, none does.
  [[nodiscard]] bool waits() const {
    if (threads->under_way() != 0) return true;
    MESSAGE("skipped: the file system of /var/tmp says itself what would block");
    return false;
  }

  NamedFile named;
  Bytes contents;
  shm::UniqueFd use = DirectRig::make_use();
  shm::UniqueFd module;
  size_t queued = 0;

 private:
  void on_queued() override { ++queued; }

  void attach() {
    from_client(smb2_test::plain(smb2_test::kCreate, {.message_id = 2}, 57));
    settle();
    Bytes created =
        smb2_test::plain(smb2_test::kCreate, {.message_id = 2, .flags = smb2_test::kResponse}, 88);
    put(created, 14, 512, 2);  // credits
    smbd.answer(created);
    settle();
    REQUIRE(asked == 1);
    smbd.heard.clear();
    client_side = {};
    shm::UniqueFd ours;
    std::tie(module, ours) = test::socket_pair(SOCK_SEQPACKET);
    exchange->module_answered(std::move(ours));
    say(DirectRig::packet(SMBDIRECT_LINK_HELLO, SMBDIRECT_LINK_VERSION));
    const shm::UniqueFd fd = DirectRig::make_table();
    table_ = static_cast<uint64_t*>(
        mmap(nullptr, DirectRig::kTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    REQUIRE(table_ != MAP_FAILED);
    for (uint32_t slot = 0; slot < DirectRig::kSlots; ++slot) DirectRig::set_sequence(use.get(), slot, 0);
    say(DirectRig::packet(SMBDIRECT_LINK_USE, 1), {use.get()});
    say(DirectRig::packet(SMBDIRECT_LINK_TABLE, DirectRig::kSlots), {fd.get()});
  }
  void grant(uint32_t slot, int fd) {
    set(kBoth);
    Bytes bytes = DirectRig::grant(slot, 9);
    put(bytes, SMBDIRECT_GRANT_AT_CHANNEL_SEQUENCE, 0, 2);
    say(bytes, {fd});
    REQUIRE(exchange->direct_files() == 1);
  }

  uint64_t* table_ = nullptr;
};

}  // namespace smbdirect::workers::session_test
