// SPDX-License-Identifier: MIT
#include "fake_cm.h"

#include <cerrno>

namespace smbdirect::test {

std::pair<std::unique_ptr<CmLink>, std::unique_ptr<CmLink>> FakeCm::make_pair() {
  LinkEnd& server = *ends_.emplace_back(std::make_unique<LinkEnd>());
  LinkEnd& client = *ends_.emplace_back(std::make_unique<LinkEnd>());
  server.accepting = true;
  server.peer = &client;
  client.peer = &server;
  return {std::make_unique<FakeLink>(*this, server), std::make_unique<FakeLink>(*this, client)};
}

bool FakeCm::run() {
  const bool any = !due_.empty();
  for (size_t n = due_.size(); n > 0; --n) {
    const auto what = std::move(due_.front());
    due_.pop_front();
    what();
  }
  return any;
}

void FakeCm::tell(LinkEnd& end, std::function<void(CmLink::Observer&)> what) {
  later([&end, what = std::move(what)] {
    if (end.link != nullptr && end.observer != nullptr) what(*end.observer);
  });
}

void FakeCm::hang_up(LinkEnd& from) {
  if (!from.connected) return;
  from.connected = from.peer->connected = false;
  tell(*from.peer, [](CmLink::Observer& o) { o.on_disconnected(); });
  if (from.link != nullptr && answers_disconnect) {
    tell(from, [](CmLink::Observer& o) { o.on_disconnected(); });
  }
}

FakeLink::~FakeLink() {
  cm_.fake.destroyed.emplace_back("link");
  end_.qps_when_destroyed = cm_.fake.qp(end_.qp_num) != nullptr ? 1 : 0;
  end_.link = nullptr;
  if (end_.connected) {
    cm_.hang_up(end_);
  } else if (end_.accepting && !end_.answered) {
    cm_.tell(*end_.peer,
             [](Observer& o) { o.on_failed(workers::fabric::CloseCause::setup_failed, "refused"); });
  }
}

void FakeLink::start(Observer& observer) {
  end_.observer = &observer;
  const PeerLimits limits = end_.accepting ? cm_.from_client : PeerLimits{};
  cm_.tell(end_, [limits](Observer& o) { o.on_resolved(limits); });
}

CmLink::QpAttributes FakeLink::attributes_of(ibv_qp_state state) const {
  QpAttributes out;
  out.attributes.qp_state = state;
  if (state == IBV_QPS_INIT) {
    out.mask = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | (cm_.iwarp ? 0 : IBV_QP_PKEY_INDEX | IBV_QP_PORT);
    // What the kernel says, whatever is wanted.
    out.attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
  } else if (cm_.iwarp) {
    out.mask = 0;
  } else if (state == IBV_QPS_RTR) {
    out.mask = IBV_QP_STATE | IBV_QP_MAX_DEST_RD_ATOMIC;
    out.attributes.max_dest_rd_atomic = 99;
  } else {
    out.mask = IBV_QP_STATE | IBV_QP_MAX_QP_RD_ATOMIC;
    out.attributes.max_rd_atomic = 99;
  }
  return out;
}

shm::Result<CmLink::QpAttributes> FakeLink::qp_attributes(ibv_qp_state state) {
  if (cm_.fake.fails("qp_attributes")) return shm::fail("qp_attributes", EIO);
  cm_.states.push_back(state);
  return attributes_of(state);
}

shm::Result<> FakeLink::accept(uint32_t qp_num, const OurLimits& limits) {
  if (cm_.fake.fails("accept")) return shm::fail("accept", EIO);
  end_.qp_num = qp_num;
  end_.limits = limits;
  end_.answered = true;
  LinkEnd& client = *end_.peer;
  if (client.link == nullptr) return shm::fail("accept", ENOTCONN);
  cm_.fake.join(qp_num, client.qp_num);
  if (cm_.iwarp) {
    cm_.fake.set_state(qp_num, IBV_QPS_RTS);
    cm_.fake.set_state(client.qp_num, IBV_QPS_RTS);
  }
  cm_.tell(client, [limits = cm_.from_server](Observer& o) { o.on_accepted(limits); });
  return {};
}

shm::Result<> FakeLink::connect(uint32_t qp_num, const OurLimits& limits) {
  if (cm_.fake.fails("connect")) return shm::fail("connect", EIO);
  end_.qp_num = qp_num;
  end_.limits = limits;
  end_.answered = true;
  return {};
}

shm::Result<> FakeLink::establish() {
  if (cm_.fake.fails("establish")) return shm::fail("establish", EIO);
  end_.connected = end_.peer->connected = true;
  cm_.tell(end_, [](Observer& o) { o.on_established(); });
  if (!cm_.hold_established) cm_.tell(*end_.peer, [](Observer& o) { o.on_established(); });
  return {};
}

shm::Result<> FakeLink::disconnect() {
  ++end_.disconnects;
  if (cm_.fake.fails("disconnect")) return shm::fail("disconnect", EIO);
  if (!end_.connected) return shm::fail("disconnect", ENOTCONN);
  cm_.hang_up(end_);
  return {};
}

}  // namespace smbdirect::test
