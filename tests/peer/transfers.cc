// SPDX-License-Identifier: MIT
#include "transfers.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace smbdirect::tests::peer {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;

constexpr size_t half(size_t area) {
  return area / 2 / AreaAllocator::kAlignment * AreaAllocator::kAlignment;
}

}  // namespace

size_t DescriptorCursor::take(size_t want, std::vector<smbdirect_descriptor>& into) {
  into.clear();
  size_t taken = 0;
  while (taken < want && !memory_.empty() && into.size() < SMBDIRECT_MAX_DESCRIPTORS) {
    const smb2::BufferDescriptor& piece = memory_.front();
    const auto here = static_cast<uint32_t>(std::min<size_t>(want - taken, piece.length - used_));
    if (here > 0) into.push_back({piece.offset + used_, piece.token, here});
    taken += here;
    used_ += here;
    if (used_ == piece.length) {
      memory_ = memory_.subspan(1);
      used_ = 0;
    }
  }
  return taken;
}

Transfers::Transfers(smbdirect_channel& channel, Totals& totals)
    : channel_(channel),
      totals_(totals),
      area_(reinterpret_cast<std::byte*>(smbdirect_channel_facts(&channel)->area),
            smbdirect_channel_facts(&channel)->area_size),
      fetched_(0, half(area_.size())),
      placed_(half(area_.size()), half(area_.size())) {}

std::span<std::byte> Transfers::bytes(const Region& region) const {
  return area_.subspan(region.offset(), region.length());
}

size_t Transfers::largest() const { return std::min(kMostBytes, fetched_.capacity()); }

Outcome<bool> Transfers::read(const Region& region, std::span<const smbdirect_descriptor> from, Done done) {
  const size_t length = region.length();
  const uint64_t id = next_id_;
  const int asked = smbdirect_rdma_read(&channel_, id, region.offset(), length, from.data(), from.size());
  if (asked == -EAGAIN) return false;
  if (asked < 0) return std::unexpected(std::string("RDMA READ: ") + std::strerror(-asked));
  ++next_id_;
  waiting_.emplace(id, [this, length, done = std::move(done)]() mutable {
    ++totals_.reads;
    totals_.read_bytes += length;
    done();
  });
  return true;
}

Outcome<bool> Transfers::write(Region& region, std::span<const smbdirect_descriptor> to) {
  const uint64_t id = next_id_;
  const int asked =
      smbdirect_rdma_write(&channel_, id, region.offset(), region.length(), to.data(), to.size());
  if (asked == -EAGAIN) return false;
  if (asked < 0) return std::unexpected(std::string("RDMA WRITE: ") + std::strerror(-asked));
  ++next_id_;
  waiting_.emplace(id, [this, held = std::move(region)] {
    ++totals_.writes;
    totals_.write_bytes += held.length();
  });
  return true;
}

Outcome<> Transfers::on_done(uint64_t id) {
  auto found = waiting_.extract(id);
  if (found.empty()) {
    return std::unexpected("DONE for operation " + std::to_string(id) + ", which is not under way");
  }
  found.mapped()();
  return {};
}

}  // namespace smbdirect::tests::peer
