// SPDX-License-Identifier: MIT
// Keeps a loop from sleeping for a moment where what it waits for is likely to come soon: to be woken up
// costs a process more than many of its waits are long, some microseconds on a machine of its own and tens of
// them in a virtual one. The loop polls all its descriptors meanwhile, and its timers. Owned by whoever runs
// the loop; one thread.
//
// How long is learned from how long the waits are, as KVM learns halt_poll_ns: those that end just after the
// loop has gone to sleep double it, up to what is allowed; those that are longer than that halve it, down to
// nothing. And it sleeps at once while more wants to run than the machine has processors: what it waits for
// may be waiting for this one. So it costs nothing where all waits are long, where there is no processor to
// spare, nor where nobody calls expect().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <uv.h>

#include "shm/loop/handle.h"

namespace smbdirect::shm {

class BusyPoll {
 public:
  /// What it goes by.
  struct Senses {
    std::function<uint64_t()> clock;           // nanoseconds, of which only differences count
    std::function<bool()> processors_suffice;  // asked now and then while it might be awake
  };
  [[nodiscard]] static Senses real();

  /// most_us: the longest that it stays awake after expect(), in microseconds; 0: it never does. Throws as
  /// Loop does.
  BusyPoll(uv_loop_t& loop, uint32_t most_us, Senses senses = real());
  BusyPoll(const BusyPoll&) = delete;
  BusyPoll& operator=(const BusyPoll&) = delete;

  /// Something was done after which the next event is likely to come soon. Cheap.
  void expect();
  [[nodiscard]] bool awake() const { return awake_; }
  /// How long it stays awake now after expect(), in nanoseconds.
  [[nodiscard]] uint64_t limit() const { return limit_; }
  /// Nanoseconds, of all of its life, that it was awake and nothing came.
  [[nodiscard]] uint64_t idled() const { return idled_; }

 private:
  // All in nanoseconds.
  static constexpr uint64_t kFirst = 10'000;  // less is not worth it
  static constexpr uint64_t kLookEvery = 10'000;
  static constexpr uint64_t kCrowdedFor = 4'000'000;  // until it looks again, then
  static constexpr int kCrowdedLooks = 3;  // in a row: the system's own threads run for moments all the time

  [[nodiscard]] bool crowded(uint64_t now);
  void before_polling();
  void after_polling();
  void sleep(uint64_t now);
  void wait_over(uint64_t now);
  void learn(uint64_t waited);

  uv_loop_t& loop_;
  uint64_t most_;
  Senses senses_;
  uint64_t limit_ = 0;
  uint64_t expected_ = 0;  // when expect() was called last
  uint64_t idled_ = 0;
  uint64_t look_at_ = 0;  // whether processors suffice
  int crowded_looks_ = 0;
  bool watches_ = false;  // the waits, until the next one that it slept in is over
  bool awake_ = false;
  bool sleeps_ = false;  // in the poll under way
  // In the order in which the loop calls them; what counts of the first is that it is there.
  UvOwner<UvBox<uv_idle_t>> keeps_awake_;
  UvOwner<UvBox<uv_prepare_t>> before_;
  UvOwner<UvBox<uv_check_t>> after_;
};

}  // namespace smbdirect::shm
