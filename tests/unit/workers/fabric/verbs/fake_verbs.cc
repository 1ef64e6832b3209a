// SPDX-License-Identifier: MIT
#include "fake_verbs.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>

namespace smbdirect::test {
namespace {

/// A table's object by its handle.
template <class Table, class Handle>
auto& at(Table& table, Handle* handle) {
  return *table.at(handle);
}

}  // namespace

FakeVerbs::EventFile::EventFile() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
  ours_ = shm::UniqueFd(ends[0]);
  kernels_ = shm::UniqueFd(ends[1]);
  // Never read: with it in its buffer the kernel's end resets ours when it is closed, and ours says EPOLLERR.
  (void)!::send(ends[0], "x", 1, 0);
}

void FakeVerbs::EventFile::set() { (void)!::send(kernels_.get(), "x", 1, 0); }

void FakeVerbs::EventFile::clear() {
  char bytes[64];
  while (::recv(ours_.get(), bytes, sizeof bytes, 0) > 0) continue;
}

int FakeVerbs::EventFile::nothing() {
  errno = closed() ? EIO : EAGAIN;
  return -1;
}

FakeVerbs::FakeVerbs(bool iwarp, uint64_t guid) : guid_(guid) {
  std::strcpy(device.name, iwarp ? "fake_iw0" : "fake0");
  device.transport_type = iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
  device.node_type = iwarp ? IBV_NODE_RNIC : IBV_NODE_CA;
  attributes.device_cap_flags = IBV_DEVICE_MEM_MGT_EXTENSIONS;
  attributes.max_qp_wr = 4096;
  attributes.max_sge = 6;
  attributes.max_cqe = 16384;
  attributes.max_qp_rd_atom = 64;
  attributes.max_qp_init_rd_atom = 64;
}

FakeVerbs::~FakeVerbs() = default;

bool FakeVerbs::fails(const char* call) {
  if (fail_at_ == 0 || ++calls_ != fail_at_) return false;
  last_failed = call;
  errno = ENOMEM;
  return true;
}

// --- devices ---

ibv_device** FakeVerbs::get_device_list(int* count) {
  if (fails("get_device_list")) return nullptr;
  list_[0] = &device;
  *count = 1;
  return list_;
}

void FakeVerbs::free_device_list(ibv_device** list) {
  if (list != list_) mistake("a device list that is not ours");
}

uint64_t FakeVerbs::get_device_guid(ibv_device*) { return guid_; }

ibv_context* FakeVerbs::open_device(ibv_device* of) {
  if (fails("open_device")) return nullptr;
  auto context = std::make_unique<Context>();
  context->handle.device = of;
  context->handle.async_fd = context->events.fd();
  context->handle.num_comp_vectors = 2;
  ibv_context* handle = &context->handle;
  contexts_[handle] = std::move(context);
  return handle;
}

int FakeVerbs::close_device(ibv_context* context) {
  destroyed.emplace_back("context");
  if (!pds_.empty() || !cqs_.empty() || !qps_.empty() || !channels_.empty())
    mistake("a device closed in use");
  contexts_.erase(context);
  return 0;
}

int FakeVerbs::query_device(ibv_context*, ibv_device_attr* out) {
  if (fails("query_device")) return EIO;
  *out = attributes;
  return 0;
}

int FakeVerbs::query_port(ibv_context*, uint8_t, ibv_port_attr* out) {
  if (fails("query_port")) return EIO;
  out->max_msg_sz = 1U << 23U;
  return 0;
}

int FakeVerbs::get_async_event(ibv_context* context, ibv_async_event* event) {
  Context& of = at(contexts_, context);
  if (of.async.empty()) return of.events.nothing();
  *event = of.async.front();
  of.async.pop_front();
  if (of.async.empty()) of.events.clear();
  return 0;
}

void FakeVerbs::ack_async_event(ibv_async_event*) {}

void FakeVerbs::raise(ibv_async_event event) {
  for (auto& [handle, context] : contexts_) {
    context->async.push_back(event);
    context->events.set();
  }
}

void FakeVerbs::close_channels() {
  for (auto& [handle, channel] : channels_) channel->file.close();
}

void FakeVerbs::close_async() {
  for (auto& [handle, context] : contexts_) context->events.close();
}

// --- memory ---

ibv_pd* FakeVerbs::alloc_pd(ibv_context* context) {
  if (fails("alloc_pd")) return nullptr;
  auto pd = std::make_unique<ibv_pd>();
  pd->context = context;
  ibv_pd* handle = pd.get();
  pds_[handle] = std::move(pd);
  return handle;
}

int FakeVerbs::dealloc_pd(ibv_pd* pd) {
  destroyed.emplace_back("pd");
  const bool used = std::ranges::any_of(mrs_, [pd](const auto& m) { return m.first->pd == pd; }) ||
                    std::ranges::any_of(qps_, [pd](const auto& q) { return q.first->pd == pd; });
  if (used) {
    mistake("a protection domain freed in use");
    return EBUSY;
  }
  pds_.erase(pd);
  return 0;
}

ibv_mr* FakeVerbs::reg_mr(ibv_pd* pd, void* address, size_t length, int access) {
  if (fails("reg_mr")) return nullptr;
  auto mr = std::make_unique<Mr>();
  mr->access = access;
  mr->handle.pd = pd;
  mr->handle.addr = address;
  mr->handle.length = length;
  mr->handle.lkey = mr->handle.rkey = next_key_++;
  registrations.emplace_back(length, access);
  ibv_mr* handle = &mr->handle;
  mrs_[handle] = std::move(mr);
  return handle;
}

int FakeVerbs::dereg_mr(ibv_mr* mr) {
  destroyed.emplace_back("mr");
  if (mrs_.erase(mr) == 0) mistake("a registration that is not there");
  return 0;
}

FakeVerbs::Mr* FakeVerbs::find(const ibv_pd* pd, uint32_t key, uint64_t address, uint64_t length) {
  for (auto& [handle, mr] : mrs_) {
    const auto begin = reinterpret_cast<uint64_t>(handle->addr);
    if (handle->pd == pd && handle->lkey == key && address >= begin && length <= handle->length &&
        address - begin <= handle->length - length) {
      return mr.get();
    }
  }
  return nullptr;
}

// --- completions ---

ibv_comp_channel* FakeVerbs::create_comp_channel(ibv_context* context) {
  if (fails("create_comp_channel")) return nullptr;
  auto channel = std::make_unique<Channel>();
  channel->handle.context = context;
  channel->handle.fd = channel->file.fd();
  ibv_comp_channel* handle = &channel->handle;
  channels_[handle] = std::move(channel);
  return handle;
}

int FakeVerbs::destroy_comp_channel(ibv_comp_channel* channel) {
  destroyed.emplace_back("channel");
  if (!cqs_.empty()) mistake("a completion channel destroyed in use");
  channels_.erase(channel);
  return 0;
}

ibv_cq* FakeVerbs::create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel,
                             int vector) {
  if (fails("create_cq")) return nullptr;
  if (vector < 0 || vector >= context->num_comp_vectors) mistake("no such completion vector");
  if (entries > attributes.max_cqe) mistake("a completion queue beyond the device's size");
  auto cq = std::make_unique<Cq>();
  cq->handle.context = context;
  cq->handle.channel = channel;
  cq->handle.cq_context = cq_context;
  cq->handle.cqe = entries;
  ibv_cq* handle = &cq->handle;
  cqs_[handle] = std::move(cq);
  return handle;
}

int FakeVerbs::destroy_cq(ibv_cq* cq) {
  destroyed.emplace_back("cq");
  const Cq& of = at(cqs_, cq);
  if (of.queue_pairs > 0) mistake("a completion queue destroyed in use");
  if (of.unacknowledged > 0) mistake("destroying a completion queue would wait for acknowledgements");
  for (auto& [handle, channel] : channels_) std::erase(channel->events, &of);
  cqs_.erase(cq);
  return 0;
}

int FakeVerbs::req_notify_cq(ibv_cq* cq, int) {
  if (fails("req_notify_cq")) return EIO;
  at(cqs_, cq).armed = true;
  return 0;
}

int FakeVerbs::get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  Channel& of = at(channels_, channel);
  if (of.events.empty()) {
    ++no_events;
    of.file.clear();
    return of.file.nothing();
  }
  if (fails("get_cq_event")) return -1;
  Cq& from = *of.events.front();
  of.events.pop_front();
  if (of.events.empty()) of.file.clear();
  ++from.unacknowledged;
  *cq = &from.handle;
  *cq_context = from.handle.cq_context;
  return 0;
}

void FakeVerbs::ack_cq_events(ibv_cq* cq, unsigned count) {
  Cq& of = at(cqs_, cq);
  if (count > of.unacknowledged) mistake("more events acknowledged than taken");
  of.unacknowledged -= std::min(count, of.unacknowledged);
}

int FakeVerbs::poll_cq(ibv_cq* cq, int entries, ibv_wc* wc) {
  if (fails("poll_cq")) return -1;
  Cq& of = at(cqs_, cq);
  int count = 0;
  for (; count < entries && !of.entries.empty(); ++count) {
    wc[count] = of.entries.front();
    of.entries.pop_front();
  }
  return count;
}

void FakeVerbs::complete(Qp& qp, uint64_t wr_id, ibv_wc_status status, uint32_t bytes, unsigned flags,
                         uint32_t token) {
  ibv_wc wc{};
  wc.wr_id = wr_id;
  wc.status = status;
  wc.qp_num = qp.handle.qp_num;
  // Undefined after an error: nonsense, so that nobody relies on it.
  wc.opcode = status == IBV_WC_SUCCESS ? IBV_WC_SEND : IBV_WC_TSO;
  wc.byte_len = status == IBV_WC_SUCCESS ? bytes : 0xDEADBEEF;
  wc.wc_flags = flags;
  wc.invalidated_rkey = token;
  push(*qp.cq, wc);
}

void FakeVerbs::push(Cq& cq, const ibv_wc& wc) {
  cq.entries.push_back(wc);
  if (cq.entries.size() > static_cast<size_t>(cq.handle.cqe)) mistake("a completion queue overran");
  if (!cq.armed) return;
  cq.armed = false;
  Channel& channel = at(channels_, cq.handle.channel);
  channel.events.push_back(&cq);
  channel.file.set();
}

// --- queue pairs ---

ibv_qp* FakeVerbs::create_qp(ibv_pd* pd, ibv_qp_init_attr* init) {
  if (fails("create_qp")) return nullptr;
  if (init->cap.max_send_wr > static_cast<uint32_t>(attributes.max_qp_wr) ||
      init->cap.max_recv_wr > static_cast<uint32_t>(attributes.max_qp_wr) ||
      init->cap.max_send_sge > static_cast<uint32_t>(attributes.max_sge)) {
    errno = EINVAL;
    return nullptr;
  }
  auto qp = std::make_unique<Qp>();
  qp->cap = init->cap;
  init->cap.max_send_wr += 3;  // devices round up
  qp->cq = &at(cqs_, init->send_cq);
  ++qp->cq->queue_pairs;
  qp->handle.pd = pd;
  qp->handle.context = pd->context;
  qp->handle.qp_num = next_qp_++;
  ibv_qp* handle = &qp->handle;
  qps_[handle] = std::move(qp);
  return handle;
}

int FakeVerbs::destroy_qp(ibv_qp* qp) {
  destroyed.emplace_back("qp");
  --at(qps_, qp).cq->queue_pairs;
  qps_.erase(qp);
  return 0;
}

int FakeVerbs::modify_qp(ibv_qp* qp, ibv_qp_attr* set_to, int mask) {
  if (fails("modify_qp")) return EIO;
  Qp& of = at(qps_, qp);
  if ((mask & IBV_QP_STATE) != 0) of.state = set_to->qp_state;
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0) of.access = set_to->qp_access_flags;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) of.max_reads = set_to->max_rd_atomic;
  return 0;
}

int FakeVerbs::post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad) {
  Qp& of = at(qps_, qp);
  chains.push_back(0);
  for (ibv_send_wr* wr = first; wr != nullptr; wr = wr->next) {
    *bad = wr;
    if (fails("post_send")) return ENOMEM;
    if (of.state != IBV_QPS_RTS && of.state != IBV_QPS_ERR) return EINVAL;
    if (of.sends.size() + of.reads.size() >= of.cap.max_send_wr) {
      mistake("a send queue overran");
      return ENOMEM;
    }
    Sent posted{.wr = *wr, .pieces = {wr->sg_list, wr->sg_list + wr->num_sge}, .inlined = {}};
    const bool inlined = (wr->send_flags & IBV_SEND_INLINE) != 0;
    uint64_t bytes = 0;
    for (const ibv_sge& piece : posted.pieces) {
      bytes += piece.length;
      if (!inlined && find(qp->pd, piece.lkey, piece.addr, piece.length) == nullptr) {
        mistake("a piece in no registered memory");
      }
    }
    if (posted.pieces.size() > of.cap.max_send_sge) mistake("too many pieces");
    if (wr->opcode == IBV_WR_RDMA_READ && wr->num_sge > 1) mistake("a READ in pieces");
    if (inlined && bytes > of.cap.max_inline_data) mistake("too many bytes inlined");
    if (inlined) posted.inlined = gather(posted);
    sent.push_back(*wr);
    of.sends.push_back(std::move(posted));
    ++chains.back();
  }
  *bad = nullptr;
  return 0;
}

int FakeVerbs::post_recv(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad) {
  Qp& of = at(qps_, qp);
  for (ibv_recv_wr* wr = first; wr != nullptr; wr = wr->next) {
    *bad = wr;
    if (fails("post_recv")) return ENOMEM;
    if (of.state == IBV_QPS_RESET) return EINVAL;
    if (of.receives.size() >= of.cap.max_recv_wr) {
      mistake("a receive queue overran");
      return ENOMEM;
    }
    Received posted{.wr_id = wr->wr_id, .pieces = {wr->sg_list, wr->sg_list + wr->num_sge}};
    for (const ibv_sge& piece : posted.pieces) {
      if (find(qp->pd, piece.lkey, piece.addr, piece.length) == nullptr)
        mistake("a receive in no registered memory");
    }
    of.receives.push_back(std::move(posted));
  }
  *bad = nullptr;
  return 0;
}

FakeVerbs::Qp* FakeVerbs::qp(uint32_t qp_num) {
  for (auto& [handle, one] : qps_) {
    if (handle->qp_num == qp_num) return one.get();
  }
  return nullptr;
}

std::vector<FakeVerbs::Qp*> FakeVerbs::qps() {
  std::vector<Qp*> all;
  for (auto& [handle, one] : qps_) all.push_back(one.get());
  std::ranges::sort(all, {}, [](const Qp* q) { return q->handle.qp_num; });
  return all;
}

void FakeVerbs::join(uint32_t a, uint32_t b) {
  qp(a)->peer = b;
  qp(b)->peer = a;
}

}  // namespace smbdirect::test
