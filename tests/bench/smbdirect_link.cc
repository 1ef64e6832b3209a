// SPDX-License-Identifier: MIT
#include "tests/bench/smbdirect_link.h"

#include <algorithm>
#include <cstring>

#include "workers/fabric/iwarp/iwarp.h"

namespace smbdirect::tests::bench {

namespace fabric = workers::fabric;
namespace smb_direct = protocol::smb_direct;

SmbDirectLink::SmbDirectLink(uv_loop_t& loop, const sockaddr_in& to, bool crc, Memory& memory,
                             Link::Owner& owner)
    : loop_(loop), to_(to), crc_(crc), memory_(memory), owner_(owner), failed_(loop, [this] {
        owner_.on_closed(connect_error_, false);
      }) {
  smb_direct::Limits limits;
  limits.max_receive_size = Memory::kReceiveSize;
  const workers::Transport::Config config{.role = smb_direct::Role::active,
                                          .limits = limits,
                                          .receive_pool = memory_.receive_pool,
                                          .header_pool = memory_.header_pool,
                                          .budget = memory_.budget};
  workers::Transport::Owner& self = *this;
  transport_ = std::make_unique<workers::Transport>(loop, config, self);
}

void SmbDirectLink::start() {
  const bool started = transport_->start([this](fabric::Handler& handler) {
    sockaddr_storage to{};
    std::memcpy(&to, &to_, sizeof(to_));
    fabric::iwarp::Options options;
    options.want_crc = crc_;
    auto endpoint = fabric::iwarp::connect(loop_, to, std::nullopt, options, handler);
    if (endpoint) return std::move(*endpoint);
    connect_error_ = endpoint.error().text();
    return std::unique_ptr<fabric::Endpoint>();
  });
  if (!started) failed_.trigger();
}

void SmbDirectLink::send(std::span<const std::byte> head, std::span<const std::byte> payload) {
  workers::SlabRef slab = memory_.request_pool.acquire_forced(memory_.budget);
  if (!slab || slab.bytes().size() < head.size() ||
      !transport_->begin_message(head.size() + payload.size())) {
    return transport_->abort("a request does not fit");
  }
  std::memcpy(slab.bytes().data(), head.data(), head.size());
  const std::span<const std::byte> copied = slab.bytes().first(head.size());
  transport_->append(std::move(slab), copied);
  if (!payload.empty()) transport_->append({}, payload);
}

std::optional<Exposed> SmbDirectLink::expose(std::span<std::byte> memory, Access access) {
  const auto exposed = transport_->expose(
      memory, access == Access::remote_read ? fabric::Access::remote_read : fabric::Access::remote_write);
  if (!exposed) return std::nullopt;
  return Exposed{.offset = exposed->offset, .token = exposed->token};
}

void SmbDirectLink::on_fragment(workers::Fragment fragment) {
  if (fragment.first) {
    head_have_ = 0;
    head_size_ = static_cast<size_t>(std::min<uint64_t>(fragment.total, kHeadBytes));
    rest_ = fragment.total - head_size_;
    announced_ = false;
  }
  std::span<const std::byte> data = fragment.data;
  if (!announced_) {
    const size_t taken = std::min(data.size(), head_size_ - head_have_);
    std::memcpy(head_.data() + head_have_, data.data(), taken);
    head_have_ += taken;
    data = data.subspan(taken);
    if (head_have_ < head_size_) return;
    sink_ = owner_.on_head(std::span(head_).first(head_size_), rest_);
    announced_ = true;
    if (sink_.size() != rest_) return transport_->abort("a body does not fit");
  }
  std::memcpy(sink_.data(), data.data(), data.size());
  sink_ = sink_.subspan(data.size());
  if (fragment.last) owner_.on_pdu();
}

}  // namespace smbdirect::tests::bench
