// SPDX-License-Identifier: MIT
// An RDMA device for tests, in place of libibverbs: objects are counted and must go in a sound order, work
// requests are checked as a device would (keys, rights, room), data moves between joined queue pairs when the
// test says so, and any call can be made to fail. Owned by the test; one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "shm/base/unique_fd.h"
#include "workers/fabric/verbs/verbs_api.h"

namespace smbdirect::test {

namespace verbs = workers::fabric::verbs;

class FakeVerbs final : public verbs::VerbsApi {
 public:
  static constexpr uint64_t kGuid = 0x0102030405060708;

  struct Sent {
    ibv_send_wr wr{};
    std::vector<ibv_sge> pieces;
    std::vector<std::byte> inlined;
  };
  struct Received {
    uint64_t wr_id{};
    std::vector<ibv_sge> pieces;
  };
  struct Cq {
    ibv_cq handle{};
    std::deque<ibv_wc> entries;
    bool armed = false;
    unsigned unacknowledged = 0;
    int queue_pairs = 0;
  };
  struct Qp {
    ibv_qp handle{};
    Cq* cq{};
    ibv_qp_cap cap{};
    int state = IBV_QPS_RESET;
    unsigned access = 0;
    int max_reads = -1;  // max_rd_atomic, as set
    uint32_t peer = 0;   // qp_num of the queue pair at the other end
    std::deque<Sent> sends;
    std::deque<Sent> reads;  // READs that were started and are held
    std::deque<Received> receives;
  };

  explicit FakeVerbs(bool iwarp = false, uint64_t guid = kGuid);
  ~FakeVerbs() override;

  // --- what the test turns ---
  ibv_device device{};
  ibv_device_attr attributes{};
  bool present = true;
  bool hold_reads = false;         // READs start and do not finish
  bool hold_sends = false;         // nothing moves
  bool sends_pass_reads = false;   // as on siw: a SEND completes before an earlier READ
  bool flush = true;               // a queue pair in error gives its work back
  bool flush_unsignalled = true;   // ...also what was not signalled
  bool reports_invalidate = true;  // IBV_WC_WITH_INV
  /// The n-th call that can fail from now on does (1: the next). 0: none.
  void fail_call(int n) {
    calls_ = 0;
    fail_at_ = n;
  }
  [[nodiscard]] bool has_failed() const { return fail_at_ != 0 && calls_ >= fail_at_; }
  /// For the connection manager's calls too.
  [[nodiscard]] bool fails(const char* call);

  // --- what the test does ---
  void join(uint32_t a, uint32_t b);
  void set_state(uint32_t qp_num, int state) { qp(qp_num)->state = state; }
  /// Moves all that can move. True when something did.
  bool run();
  /// Finishes the READ held longest on this queue pair.
  void finish_read(Qp& qp);
  void complete(Qp& qp, uint64_t wr_id, ibv_wc_status status, uint32_t bytes = 0, unsigned flags = 0,
                uint32_t token = 0);
  void push(Cq& cq, const ibv_wc& completion);
  void raise(ibv_async_event event);
  /// As the kernel does when it takes a device away: there are no more events, and their file says so.
  void close_channels();
  void close_async();
  void break_queue_pair(Qp& qp) { qp.state = IBV_QPS_ERR; }
  [[nodiscard]] Qp* qp(uint32_t qp_num);
  [[nodiscard]] Qp& first_qp() { return *qps_.begin()->second; }
  [[nodiscard]] std::vector<Qp*> qps();

  // --- what the test looks at ---
  [[nodiscard]] size_t live() const {
    return contexts_.size() + pds_.size() + mrs_.size() + channels_.size() + cqs_.size() + qps_.size();
  }
  [[nodiscard]] size_t live_qps() const { return qps_.size(); }
  [[nodiscard]] size_t live_mrs() const { return mrs_.size(); }
  [[nodiscard]] size_t live_pds() const { return pds_.size(); }
  [[nodiscard]] size_t live_cqs() const { return cqs_.size(); }
  [[nodiscard]] size_t live_contexts() const { return contexts_.size(); }
  std::vector<std::string> destroyed;  // in order: "qp", "cq", "mr", "pd", ...; links say "link"
  std::vector<std::string> wrong;      // what no device would have stood for
  std::vector<std::pair<size_t, int>> registrations;  // size and access of every one there ever was
  std::vector<ibv_send_wr> sent;                      // all work requests that were posted
  std::vector<size_t> chains;                         // how many at a time
  size_t most_reads = 0;                              // under way at once on one queue pair
  size_t no_events = 0;                               // asked for completion events in vain
  std::string last_failed;                            // the call that was made to fail

  // --- VerbsApi ---
  ibv_device** get_device_list(int* count) override;
  void free_device_list(ibv_device** list) override;
  uint64_t get_device_guid(ibv_device* device) override;
  ibv_context* open_device(ibv_device* device) override;
  int close_device(ibv_context* context) override;
  int query_device(ibv_context* context, ibv_device_attr* attributes) override;
  int query_port(ibv_context* context, uint8_t port, ibv_port_attr* attributes) override;
  int get_async_event(ibv_context* context, ibv_async_event* event) override;
  void ack_async_event(ibv_async_event* event) override;
  bool is_present(const ibv_device*) override { return present; }
  ibv_pd* alloc_pd(ibv_context* context) override;
  int dealloc_pd(ibv_pd* pd) override;
  ibv_mr* reg_mr(ibv_pd* pd, void* address, size_t length, int access) override;
  int dereg_mr(ibv_mr* mr) override;
  ibv_comp_channel* create_comp_channel(ibv_context* context) override;
  int destroy_comp_channel(ibv_comp_channel* channel) override;
  ibv_cq* create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel,
                    int vector) override;
  int destroy_cq(ibv_cq* cq) override;
  int req_notify_cq(ibv_cq* cq, int solicited_only) override;
  int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) override;
  void ack_cq_events(ibv_cq* cq, unsigned count) override;
  int poll_cq(ibv_cq* cq, int entries, ibv_wc* wc) override;
  ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) override;
  int destroy_qp(ibv_qp* qp) override;
  int modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) override;
  int post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad) override;
  int post_recv(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad) override;

 private:
  /// A file on which the kernel tells of events.
  class EventFile {
   public:
    EventFile();
    [[nodiscard]] int fd() const { return ours_.get(); }
    void set();
    void clear();
    void close() { kernels_.reset(); }
    [[nodiscard]] bool closed() const { return !kernels_.valid(); }
    /// What reading it gives when it holds no event.
    int nothing();

   private:
    shm::UniqueFd ours_, kernels_;
  };
  struct Context {
    ibv_context handle{};
    EventFile events;
    std::deque<ibv_async_event> async;
  };
  struct Channel {
    ibv_comp_channel handle{};
    EventFile file;
    std::deque<Cq*> events;
  };
  struct Mr {
    ibv_mr handle{};
    int access{};
  };

  bool move_one(Qp& qp);
  bool flush_all(Qp& qp);
  bool carry_send(Qp& qp, Qp& peer, Sent& sent);
  bool carry_rdma(Qp& qp, Qp& peer, const Sent& sent, bool read);
  void fault(Qp& qp, const Sent& sent, ibv_wc_status status);
  std::vector<std::byte> gather(const Sent& sent) const;
  Mr* find(const ibv_pd* pd, uint32_t key, uint64_t address, uint64_t length);
  void mistake(std::string what) { wrong.push_back(std::move(what)); }

  uint64_t guid_;
  int calls_ = 0;
  int fail_at_ = 0;
  ibv_device* list_[2] = {};
  uint32_t next_key_ = 100;
  uint32_t next_qp_ = 7;
  std::unordered_map<ibv_context*, std::unique_ptr<Context>> contexts_;
  std::unordered_map<ibv_pd*, std::unique_ptr<ibv_pd>> pds_;
  std::unordered_map<ibv_mr*, std::unique_ptr<Mr>> mrs_;
  std::unordered_map<ibv_comp_channel*, std::unique_ptr<Channel>> channels_;
  std::unordered_map<ibv_cq*, std::unique_ptr<Cq>> cqs_;
  std::unordered_map<ibv_qp*, std::unique_ptr<Qp>> qps_;
};

}  // namespace smbdirect::test
