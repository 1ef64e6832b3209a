// SPDX-License-Identifier: MIT
// 2 to 16 workers claim the same and different GUIDs through a model of their control sockets: messages wait
// in order on each socket, and chance decides who speaks next. Workers and smbd processes die. The registry
// agrees with an oracle after each message, no client has two first connections at once, and when nothing
// dies any more each connection ends up with the one process that serves its client.
#include <deque>
#include <set>

#include <doctest/doctest.h>

#include "registry_oracle.h"

using namespace smbdirect::tests;
namespace shm = smbdirect::shm;

namespace {

constexpr uint64_t kDeadline = 5000;

struct Connection {
  enum class State : uint8_t { fresh, asked, dialling, up, unregistered, ended };
  shm::Guid guid{};
  State state = State::fresh;
  shm::Peer peer;
};

/// A message on a control socket, about a connection of the worker's.
struct Message {
  enum class Type : uint8_t { claim, failed, up, down } type;
  size_t connection;
  shm::Peer peer;
};

struct Worker {
  shm::WorkerRef ref;
  std::vector<Connection> connections;
  std::deque<Message> to_supervisor;
  std::deque<std::pair<size_t, shm::ClaimAnswer>> to_worker;
};

class Race {
 public:
  Race(uint64_t seed_number, size_t workers, size_t clients, size_t connections) : random_(seed_number) {
    for (size_t i = 0; i < workers; ++i) {
      workers_.push_back({{uint32_t(i * 4 % 61), 1}, {}, {}, {}});
      start(workers_.back(), clients, connections);
    }
  }

  void run(size_t steps, bool deaths) {
    for (size_t i = 0; i < steps; ++i) {
      Worker& worker = workers_[random_() % workers_.size()];
      now_ += random_() % 20;
      switch (random_() % 8) {
        case 0:
        case 1:
        case 2:
          supervisor_reads(worker);
          break;
        case 3:
          worker_reads(worker);
          break;
        case 4:
        case 5:
        case 6:
          advance(worker, worker.connections[random_() % worker.connections.size()], deaths);
          break;
        default:
          if (deaths) disturb(worker);
      }
      if (random_() % 16 == 0) tick();
    }
  }
  /// Until nothing more happens: dead peers are noticed, every connection is decided.
  void settle() {
    ended_ = true;  // nobody ends a connection of his own accord any more
    notice_dead_peers();
    for (int i = 0; i < 200 && !settled(); ++i) {
      run(50 * workers_.size(), false);
      now_ += kDeadline;
      tick();
      notice_dead_peers();
    }
    REQUIRE(settled());
    std::map<shm::Guid, shm::Peer> served;
    for (const Worker& worker : workers_) {
      for (const Connection& connection : worker.connections) {
        if (connection.state != Connection::State::up) continue;
        const auto [at, fresh] = served.emplace(connection.guid, connection.peer);
        REQUIRE(at->second == connection.peer);
        const auto entry = reader_.find(connection.guid).value_or(shm::Entry{});
        REQUIRE(entry.peer == connection.peer);
        REQUIRE(entry.has_worker(worker.ref.slot));
      }
    }
    REQUIRE(served.size() == writer_.size());
  }
  [[nodiscard]] uint64_t waits() const { return waits_; }

 private:
  void start(Worker& worker, size_t clients, size_t connections) {
    worker.connections.clear();
    for (size_t i = 0; i < connections; ++i) {
      const uint64_t client = random_() % (clients + 1);  // 0: a client without a GUID
      worker.connections.push_back({client == 0 ? shm::Guid{} : guid_number(client), {}, {}});
    }
    worker.to_supervisor.clear();
    worker.to_worker.clear();
    writer_.worker_started(worker.ref);
    oracle_.started(worker.ref);
  }

  void supervisor_reads(Worker& worker) {
    if (worker.to_supervisor.empty()) return;
    const Message message = worker.to_supervisor.front();
    worker.to_supervisor.pop_front();
    const shm::Guid guid = worker.connections[message.connection].guid;
    switch (message.type) {
      case Message::Type::claim:
        claim(worker, message.connection);
        break;
      case Message::Type::failed:
        REQUIRE(writer_.claim_failed(guid, worker.ref) == oracle_.failed(guid, worker.ref));
        break;
      case Message::Type::up:
        if (channel_up(guid, worker.ref, message.peer) == shm::Report::other_owner) {
          // smbd has one process for a client, so one of the two has died: the owner, unnoticed, or the
          // peer of a word that comes late; its worker will notice.
          const shm::Peer owner = writer_.find(guid).value_or(shm::Entry{}).peer;
          if (!dead_.contains(owner.pid)) {
            REQUIRE(dead_.contains(message.peer.pid));
            break;
          }
          writer_.peer_gone(owner);
          oracle_.peer_gone(owner);
          REQUIRE(channel_up(guid, worker.ref, message.peer) == shm::Report::done);
        }
        break;
      case Message::Type::down:
        REQUIRE(writer_.channel_down(guid, worker.ref, message.peer) ==
                oracle_.down(guid, worker.ref, message.peer));
        break;
    }
    decided();
  }
  shm::Report channel_up(const shm::Guid& guid, const shm::WorkerRef& worker, const shm::Peer& peer) {
    const shm::Report report = writer_.channel_up(guid, worker, peer, {}, now_);
    REQUIRE(report == oracle_.up(guid, worker, peer));
    return report;
  }
  void claim(Worker& worker, size_t connection) {
    const shm::Guid guid = worker.connections[connection].guid;
    const shm::ClaimAnswer answer = writer_.claim(guid, {}, worker.ref, now_);
    REQUIRE(answer.outcome == oracle_.claim(guid, worker.ref));
    if (answer.outcome == shm::Claim::wait) {
      ++waits_;
      waiting_.push_back({&worker, worker.ref, connection});
    } else {
      worker.to_worker.emplace_back(connection, answer);
    }
  }
  /// Something may have been decided: those who wait ask again.
  void decided() {
    REQUIRE(oracle_.agrees(contents_of(reader_)));
    const auto waiting = std::exchange(waiting_, {});
    for (const Waiting& one : waiting) {
      if (one.worker->ref == one.ref) claim(*one.worker, one.connection);
    }
  }

  void worker_reads(Worker& worker) {
    if (worker.to_worker.empty()) return;
    const auto [index, answer] = worker.to_worker.front();
    worker.to_worker.pop_front();
    Connection& connection = worker.connections[index];
    if (answer.outcome == shm::Claim::granted) {
      connection.state = Connection::State::dialling;
    } else if (answer.outcome != shm::Claim::owner) {
      connection.state = Connection::State::unregistered;
    } else if (!dead_.contains(answer.entry->peer.pid)) {
      bring_up(worker, connection, answer.entry->peer);
    } else {
      connection.state = Connection::State::fresh;  // the owner cannot be reached: ask again
    }
  }
  void advance(Worker& worker, Connection& connection, bool failures) {
    const auto index = size_t(&connection - worker.connections.data());
    switch (connection.state) {
      case Connection::State::fresh:
        worker.to_supervisor.push_back({Message::Type::claim, index, {}});
        connection.state = Connection::State::asked;
        break;
      case Connection::State::dialling:
        if (failures && random_() % 3 == 0) {
          worker.to_supervisor.push_back({Message::Type::failed, index, {}});
          connection.state = Connection::State::ended;
        } else {
          bring_up(worker, connection, smbd(connection.guid));
        }
        break;
      case Connection::State::up:
        if (!dead_.contains(connection.peer.pid) && (ended_ || random_() % 4 != 0)) break;
        worker.to_supervisor.push_back({Message::Type::down, index, connection.peer});
        connection.state = ended_ ? Connection::State::ended : Connection::State::fresh;
        break;
      default:
        break;
    }
  }
  void bring_up(Worker& worker, Connection& connection, const shm::Peer& peer) {
    connection.state = Connection::State::up;
    connection.peer = peer;
    const auto index = size_t(&connection - worker.connections.data());
    worker.to_supervisor.push_back({Message::Type::up, index, peer});
  }
  /// smbd passes a client's connection to the process that serves it.
  shm::Peer smbd(const shm::Guid& guid) {
    shm::Peer& peer = smbd_[guid];
    if (!peer.known() || dead_.contains(peer.pid)) peer = {++pids_, now_ + 1};
    return peer;
  }

  void disturb(Worker& worker) {
    if (random_() % 8 != 0) return;
    if (random_() % 2 == 0) {
      if (smbd_.empty()) return;
      auto victim = smbd_.begin();
      std::advance(victim, random_() % smbd_.size());
      dead_.insert(victim->second.pid);
      unnoticed_.push_back(victim->second);
      return;
    }
    writer_.worker_gone(worker.ref);
    oracle_.gone(worker.ref);
    REQUIRE(oracle_.agrees(contents_of(reader_)));
    ++worker.ref.generation;
    start(worker, 3, worker.connections.size());
    decided();
  }
  void tick() {
    // The supervisor ends the claims that have had their time.
    for (const auto& [guid, entry] : contents_of(reader_)) {
      if (entry.state != shm::EntryState::starting || entry.since_ms + kDeadline > now_) continue;
      REQUIRE(writer_.claim_failed(guid, entry.starter) == oracle_.failed(guid, entry.starter));
    }
    if (random_() % 4 == 0) notice_dead_peers();
    decided();
  }
  void notice_dead_peers() {
    for (const shm::Peer& peer : std::exchange(unnoticed_, {})) {
      writer_.peer_gone(peer);
      oracle_.peer_gone(peer);
    }
    // A word about a peer that was known to be dead may have come late.
    if (ended_) {
      for (const auto& [guid, entry] : contents_of(reader_)) {
        if (!dead_.contains(entry.peer.pid)) continue;
        writer_.peer_gone(entry.peer);
        oracle_.peer_gone(entry.peer);
      }
    }
  }
  [[nodiscard]] bool settled() const {
    return waiting_.empty() && std::ranges::all_of(workers_, [this](const Worker& worker) {
             return worker.to_supervisor.empty() && worker.to_worker.empty() &&
                    std::ranges::all_of(worker.connections, [this](const Connection& connection) {
                      if (connection.state == Connection::State::up)
                        return !dead_.contains(connection.peer.pid);
                      return connection.state >= Connection::State::up;
                    });
           });
  }

  struct Waiting {
    Worker* worker;
    shm::WorkerRef ref;
    size_t connection;
  };

  std::mt19937_64 random_;
  shm::RegistryWriter writer_ = *shm::RegistryWriter::create(32);
  shm::RegistryReader reader_ = *shm::RegistryReader::open(writer_.fd());
  RegistryOracle oracle_;
  std::deque<Worker> workers_;
  std::vector<Waiting> waiting_;
  std::map<shm::Guid, shm::Peer> smbd_;
  std::set<uint32_t> dead_;
  std::vector<shm::Peer> unnoticed_;
  uint32_t pids_ = 100;
  uint64_t now_ = 0;
  uint64_t waits_ = 0;
  bool ended_ = false;
};

}  // namespace

TEST_CASE("workers that race for clients agree on their owners") {
  const uint32_t number = seed();
  std::mt19937_64 random(number);
  uint64_t waits = 0;
  for (uint64_t round = 0; round < rounds(60); ++round) {
    INFO("SMBDIRECTD_SEED=" << number << " round " << round);
    Race race(random(), 2 + random() % 15, 1 + random() % 8, 1 + random() % 6);
    race.run(2000, true);
    race.settle();
    waits += race.waits();
  }
  CHECK(waits > 0);
}
