// SPDX-License-Identifier: MIT
// Clients whose requests are answered partly here and partly by smbd, over random orders, delays and
// failures: smbd gets each MessageId once, none is missing in the end, none is ever outside its window, and
// what it has granted is what the clients have.
#include <deque>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "protocol/smb2/sequence_ledger.h"
#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/smbd_window.h"

namespace smb2_test {

using smbdirect::protocol::smb2::SequenceLedger;

namespace {

struct Habits {
  uint32_t max_credits = 8192;  // smbd's
  bool multi_credit = true;
  uint32_t most_charge = 16;
  uint32_t most_asked = 0;  // credits beyond what a request takes
  uint32_t disorder = 4;    // how far requests overtake each other
};

struct Request {
  uint64_t id{};
  uint16_t charge{};
  uint16_t asked{};
  bool direct = false;
  bool slow = false;    // smbd says first that it waits
  uint16_t second = 0;  // charge of another request in the same PDU
  uint16_t counted = 0;
};

/// One channel: its client, its worker and its smbd.
class Channel {
 public:
  Channel(uint32_t seed, const Habits& habits)
      : random_(seed), habits_(habits), smbd_(habits.max_credits, habits.multi_credit) {
    // NEGOTIATE, which takes the only credit.
    ledger_.forwarded(0, 0);
    REQUIRE(smbd_.take(0, 0));
    ledger_.multi_credit(habits.multi_credit);
    grant(smbd_.grant(0, uint16_t(1 + below(std::min(habits.max_credits, 600u)))));
    next_id_ = 1;
  }

  void step() {
    switch (below(8)) {
      case 0:
      case 1:
        return ask();
      case 2:
      case 3:
        return take_turn();
      case 4:
        return finish_here();
      case 5:
        return smbd_works();
      case 6:
        return smbd_ends_waiting();
      case 7:
        return hear_smbd();
    }
  }

  /// Until nothing is on its way any more.
  void settle() {
    while (!arrived_.empty() || !here_.empty() || !stream_.empty() || !waiting_.empty() ||
           !answers_.empty() || ledger_.owes()) {
      take_turn();
      finish_here();
      if (arrived_.empty() && here_.empty()) tell();
      smbd_works();
      smbd_ends_waiting();
      hear_smbd();
    }
    CHECK(smbd_.low() == next_id_);  // no id is missing
    CHECK(smbd_.end() - smbd_.low() == smbd_.granted());
    REQUIRE(ledger_.held_back() >= 0);
    CHECK(smbd_.granted() == credits_ + uint64_t(ledger_.held_back()));
    // The reserve, and what ECHOs above a gap have brought after all.
    CHECK(uint64_t(ledger_.held_back()) <= SequenceLedger::kReserve + SequenceLedger::kMostOwed);
    CHECK(ledger_.echoes() == 0);
    CHECK(int64_t{ledger_.short_of()} == missing_);
    // It can go on, with a request of any size if it is short of credits because of us.
    CHECK(credits_ != 0);
    if (ledger_.short_of() == 0) return;
    CHECK(credits_ >= habits_.most_charge);
    // The next answer gives back what it can.
    const uint64_t back = std::min<uint64_t>(ledger_.short_of(), uint64_t(ledger_.held_back()));
    const Request next{.id = next_id_, .charge = 1, .counted = ledger_.begin(next_id_, 1).value()};
    ++next_id_;
    const uint64_t before = credits_--;
    answer_here(next);
    CHECK(credits_ == before + back);
  }

  [[nodiscard]] uint64_t answered_here() const { return answered_here_; }
  [[nodiscard]] uint64_t refused() const { return refused_; }

 private:
  uint32_t below(uint32_t n) { return uint32_t(random_() % n); }
  void grant(uint32_t credits) {
    ledger_.granted(uint16_t(credits));
    credits_ += credits;
  }

  // --- the client ---
  void ask() {
    if (arrived_.size() > 40) return;
    const uint32_t charge = habits_.multi_credit ? 1 + below(habits_.most_charge) : 1;
    if (charge > credits_) return;
    Request request{.id = next_id_,
                    .charge = uint16_t(charge == 1 ? below(2) : charge),
                    .asked = uint16_t(charge + (habits_.most_asked != 0 ? below(habits_.most_asked) : 0)),
                    .direct = below(4) != 0,
                    .slow = below(6) == 0};
    if (!request.direct && !request.slow && charge < credits_ && below(8) == 0) request.second = 1;
    credits_ -= charge + request.second;
    next_id_ += charge + request.second;
    const auto last = uint32_t(std::min<size_t>(arrived_.size(), 3));
    arrived_.insert(arrived_.end() - below(last + 1), request);
  }

  // --- the worker ---
  void take_turn() {
    if (ledger_.due() && below(2) == 0) tell();
    if (arrived_.empty()) return;
    const auto which =
        arrived_.begin() + below(std::min<uint32_t>(habits_.disorder, uint32_t(arrived_.size())));
    Request request = *which;
    arrived_.erase(which);
    if (!request.direct) return forward(request);
    const auto counted = ledger_.begin(request.id, ledger_.taken(request.charge));
    if (!counted) {
      ++refused_;
      return forward(request);
    }
    request.counted = *counted;
    here_.push_back(request);
  }
  void finish_here() {
    if (here_.empty()) return;
    const auto which = here_.begin() + below(uint32_t(here_.size()));
    const Request request = *which;
    here_.erase(which);
    if (below(10) == 0) {  // unusual
      ledger_.given_up(request.counted);
      return forward(request);
    }
    answer_here(request);
  }
  void answer_here(const Request& request) {
    const uint16_t charge = ledger_.taken(request.charge);
    const uint16_t grants = ledger_.answered(request.id, charge, request.counted);
    credits_ += grants;
    missing_ += charge - grants;
    ++answered_here_;
  }
  void forward(const Request& request) {
    tell();
    REQUIRE_FALSE(ledger_.owes());
    stream_.push_back({.request = request});
    ledger_.forwarded(request.id, request.charge);
    if (request.second != 0) ledger_.forwarded(request.id + ledger_.taken(request.charge), request.second);
    if (request.slow && below(2) == 0) stream_.push_back({.cancel = true});  // takes no id
  }
  void tell() {
    Bytes out(SequenceLedger::kEchoBytes * (1 + below(5)) + below(70));
    while (const size_t size = ledger_.tell(out)) {
      for (size_t at = 0; at < size; at += SequenceLedger::kEchoBytes) {
        const auto pdu = std::span(out).subspan(at + 4);
        stream_.push_back({.request = {.id = get(pdu, 24, 8),
                                       .charge = uint16_t(get(pdu, 6, 2)),
                                       .asked = uint16_t(get(pdu, 14, 2))},
                           .echo = true});
      }
    }
  }
  void hear_smbd() {
    if (answers_.empty()) return;
    const Answer answer = answers_.front();
    answers_.pop_front();
    if (answer.echo) {
      REQUIRE(ledger_.swallows(answer.id, answer.credits));
    } else {
      REQUIRE_FALSE(ledger_.swallows(answer.id, answer.credits));
      grant(answer.credits);
    }
  }

  // --- smbd ---
  void smbd_works() {
    for (uint32_t n = below(4); n > 0 && !stream_.empty(); --n) {
      const Sent sent = stream_.front();
      stream_.pop_front();
      if (sent.cancel) continue;
      const Request& request = sent.request;
      // Never outside the window, never twice, never more than was granted.
      REQUIRE(smbd_.take(request.id, request.charge));
      if (request.second != 0)
        REQUIRE(smbd_.take(request.id + ledger_.taken(request.charge), request.second));
      if (sent.echo) {
        answer(request, smbd_.grant(request.charge, request.asked), true);
      } else if (request.slow) {
        answer(request, smbd_.grant(request.charge, request.asked));
        waiting_.push_back({request, true});
      } else if (below(3) == 0) {
        waiting_.push_back({request, false});
      } else {
        end(request, false);
      }
    }
  }
  void smbd_ends_waiting() {
    if (waiting_.empty()) return;
    const auto which = waiting_.begin() + below(uint32_t(waiting_.size()));
    const auto [request, async] = *which;
    waiting_.erase(which);
    end(request, async);
  }
  void end(const Request& request, bool async) {
    uint32_t credits = smbd_.grant(request.charge, request.asked, async);
    if (request.second != 0) {  // the last answer of a compound has all of its credits
      answer(request, 0);
      credits += smbd_.grant(request.second, request.asked);
    }
    answer(request, uint16_t(credits));
  }
  void answer(const Request& request, uint16_t credits, bool echo = false) {
    answers_.push_back({request.id, credits, echo});
  }

  struct Sent {
    Request request{};
    bool echo = false;
    bool cancel = false;
  };
  struct Waiting {
    Request request{};
    bool async = false;
  };
  struct Answer {
    uint64_t id{};
    uint16_t credits{};
    bool echo = false;
  };

  std::mt19937 random_;
  Habits habits_;
  SequenceLedger ledger_;
  SmbdWindow smbd_;
  uint64_t next_id_ = 0;
  uint64_t credits_ = 0;
  std::deque<Request> arrived_;  // at the worker
  std::deque<Request> here_;     // begun
  std::deque<Sent> stream_;
  std::deque<Waiting> waiting_;  // at smbd
  std::deque<Answer> answers_;
  int64_t missing_ = 0;  // credits that answers were short of
  uint64_t answered_here_ = 0;
  uint64_t refused_ = 0;
};

/// Several channels, each with a window of its own, for some thousand steps with a rest now and then.
void converse(uint32_t seed, const Habits& habits, uint64_t& here, uint64_t& refused) {
  INFO("seed ", seed, ", smbd's most credits ", habits.max_credits, ", charge up to ", habits.most_charge,
       ", asked beyond ", habits.most_asked, ", disorder ", habits.disorder);
  std::mt19937 random(seed);
  std::vector<Channel> channels;
  for (uint32_t i = 0; i < 3; ++i) channels.emplace_back(seed * 16 + i, habits);
  for (int i = 0; i < 8000; ++i) {
    channels[random() % channels.size()].step();
    if (i % 2000 == 1999)
      for (Channel& channel : channels) channel.settle();
  }
  for (Channel& channel : channels) {
    here += channel.answered_here();
    refused += channel.refused();
  }
}

}  // namespace

TEST_CASE("smbd's window and the clients' credits stay one, whoever answers") {
  for (const uint32_t max_credits : {16u, 100u, 512u, 8192u}) {
    uint64_t here = 0;
    uint64_t refused = 0;
    for (uint32_t seed = 1; seed <= 20; ++seed) {
      for (const uint32_t most_asked : {0u, 40u}) {
        converse(seed,
                 {.max_credits = max_credits,
                  .most_charge = std::min(16u, max_credits / 4),
                  .most_asked = most_asked,
                  .disorder = 1 + seed % 6},
                 here, refused);
      }
    }
    MESSAGE("of smbd's ", max_credits, " credits: ", here, " answered here, ", refused, " left to smbd");
    CHECK(here > (max_credits == 8192 ? 15 : 1) * refused);
  }
}

TEST_CASE("... and before multi-credit") {
  uint64_t here = 0;
  uint64_t refused = 0;
  for (uint32_t seed = 100; seed < 120; ++seed)
    converse(seed, {.max_credits = 128, .multi_credit = false, .most_asked = seed % 2 * 10}, here, refused);
  MESSAGE(here, " answered here, ", refused, " left to smbd");
  CHECK(2 * here > refused);
}

}  // namespace smb2_test
