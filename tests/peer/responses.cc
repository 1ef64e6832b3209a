// SPDX-License-Identifier: MIT
#include "responses.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/uio.h>

namespace smbdirect::tests::peer {
namespace {

constexpr int kStepsPerTurn = 256;
constexpr size_t kSentPerTurn = size_t{4} << 20;

std::unexpected<std::string> refused(smb2::Violation violation) {
  return std::unexpected("smbd's response: " + std::string(smb2::violation_text(violation)));
}

}  // namespace

Outcome<ResponseRelay::State> ResponseRelay::pump(int smbd) {
  sent_ = 0;
  for (int i = 0; i < kStepsPerTurn && sent_ < kSentPerTurn; ++i) {
    const auto done = step(smbd);
    if (!done) return std::unexpected(done.error());
    switch (*done) {
      case Step::on:
        break;
      case Step::drained:
        return State::drained;
      case Step::blocked:
        return State::blocked;
      case Step::end:
        if (mode_ == Mode::length && have_ == 0) return State::end;
        return std::unexpected("smbd closed its connection in the middle of a response");
    }
  }
  return State::more;
}

Outcome<ResponseRelay::Step> ResponseRelay::step(int smbd) {
  switch (mode_) {
    case Mode::length:
      return read_length(smbd);
    case Mode::prefix:
      return read_prefix(smbd);
    case Mode::body:
      return read_body(smbd);
    case Mode::skip_to_data:
    case Mode::skip_rest:
      return skip(smbd);
    case Mode::place:
      return place(smbd);
  }
  return Step::on;
}

/// Receives until `have` bytes of `target` are all of it: then `on`.
Outcome<ResponseRelay::Step> ResponseRelay::fill(int smbd, std::span<std::byte> target, size_t& have) {
  while (have < target.size()) {
    const ssize_t n = ::recv(smbd, target.data() + have, target.size() - have, MSG_DONTWAIT);
    if (n == 0) return Step::end;
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return Step::drained;
      return std::unexpected(std::string("reading from smbd: ") + std::strerror(errno));
    }
    have += static_cast<size_t>(n);
  }
  return Step::on;
}

Outcome<ResponseRelay::Step> ResponseRelay::read_length(int smbd) {
  if (const auto read = fill(smbd, length_word_, have_); !read || *read != Step::on) return read;
  const auto next = smb2::parse_stream_word(length_word_);
  if (!next) return refused(next.error());
  have_ = 0;
  total_ = next->length;
  if (total_ > 0) mode_ = Mode::prefix;
  return Step::on;
}

Outcome<ResponseRelay::Step> ResponseRelay::read_prefix(int smbd) {
  const auto prefix = std::span(prefix_).first(std::min(total_, smb2::kPrefixBytes));
  if (const auto read = fill(smbd, prefix, have_); !read || *read != Step::on) return read;
  const auto plan = translator_.response(prefix, total_);
  if (!plan) return refused(plan.error());
  plan_ = *plan;
  if (plan_.kind != smb2::ResponsePlan::Kind::place) {
    body_.resize(total_);
    std::ranges::copy(prefix, body_.begin());
    mode_ = Mode::body;
    return Step::on;
  }
  // The prefix may hold the beginning of the data, and of what comes after it.
  const size_t data_end = size_t{plan_.data_offset} + plan_.data_length;
  const size_t from = std::min<size_t>(plan_.data_offset, prefix.size());
  const auto here = prefix.subspan(from, std::min(data_end, prefix.size()) - from);
  begin_placing(plan_.to, here, plan_.data_length);
  skip_ = plan_.data_offset - from;
  mode_ = Mode::skip_to_data;
  return Step::on;
}

Outcome<ResponseRelay::Step> ResponseRelay::skip(int smbd) {
  std::array<std::byte, 4096> scratch;
  while (skip_ > 0) {
    size_t have = 0;
    const auto read = fill(smbd, std::span(scratch).first(std::min(skip_, scratch.size())), have);
    skip_ -= have;
    if (!read || *read != Step::on) return read;
  }
  if (mode_ == Mode::skip_rest) return finish_placed();
  mode_ = Mode::place;
  return Step::on;
}

Outcome<ResponseRelay::Step> ResponseRelay::read_body(int smbd) {
  if (const auto read = fill(smbd, body_, have_); !read || *read != Step::on) return read;
  if (plan_.kind == smb2::ResponsePlan::Kind::gather) return plan_chain();
  const smb2::Piece whole{.bytes = body_};
  return send(std::span(&whole, 1),
              plan_.invalidate ? std::span(&*plan_.invalidate, 1) : std::span<uint32_t>{});
}

Outcome<ResponseRelay::Step> ResponseRelay::plan_chain() {
  const auto planned = translator_.response_chain(body_, chain_);
  if (!planned) return refused(planned.error());
  for (const smb2::Placement& each : chain_.placements) begin_placing(each.to, each.data, each.data.size());
  skip_ = 0;
  mode_ = Mode::place;
  return Step::on;
}

/// `to` is copied: requests that come before all is placed may change the translator's table.
void ResponseRelay::begin_placing(std::span<const smb2::BufferDescriptor> to, std::span<const std::byte> here,
                                  size_t length) {
  if (length == 0) return;
  Placing& placing = placings_.emplace_back();
  placing.to.assign(to.begin(), to.end());
  placing.here = here;
  placing.left = length;
  placing.at = DescriptorCursor(placing.to);
}

/// One operation's worth of what is to be placed; when there is none, on to the message itself.
Outcome<ResponseRelay::Step> ResponseRelay::place(int smbd) {
  if (!filling_ && !placings_.empty()) {
    Placing& placing = placings_.front();
    DescriptorCursor at = placing.at;
    std::vector<smbdirect_descriptor> slice;
    const size_t length = at.take(std::min(placing.left, transfers_.largest()), slice);
    auto region = transfers_.placed().take(length);
    if (!region) return Step::blocked;
    placing.at = at;
    filling_.emplace(std::move(*region), size_t{0}, std::move(slice));
  }
  if (filling_) {
    if (const auto filled = fill_region(smbd); !filled || *filled != Step::on) return filled;
    const auto started = transfers_.write(filling_->region, filling_->slice);
    if (!started) return std::unexpected(started.error());
    if (!*started) return Step::blocked;
    filling_.reset();
    if (placings_.front().left == 0) placings_.pop_front();
    return Step::on;
  }
  if (plan_.kind == smb2::ResponsePlan::Kind::place) {
    const size_t past =
        std::max<size_t>(std::min(total_, smb2::kPrefixBytes), size_t{plan_.data_offset} + plan_.data_length);
    skip_ = total_ - past;
  }
  mode_ = Mode::skip_rest;
  return Step::on;
}

Outcome<ResponseRelay::Step> ResponseRelay::fill_region(int smbd) {
  Placing& placing = placings_.front();
  const auto target = transfers_.bytes(filling_->region);
  const size_t before = filling_->filled;
  const size_t copied = std::min(target.size() - before, placing.here.size());
  std::ranges::copy(placing.here.first(copied), target.subspan(before).begin());
  placing.here = placing.here.subspan(copied);
  filling_->filled += copied;
  const auto read = fill(smbd, target, filling_->filled);
  placing.left -= filling_->filled - before;
  return read;
}

/// The data is on its way: now the message that says so.
Outcome<ResponseRelay::Step> ResponseRelay::finish_placed() {
  if (plan_.kind == smb2::ResponsePlan::Kind::gather) return send(chain_.pieces, chain_.invalidate);
  const smb2::Piece header{.bytes = plan_.header};
  return send(std::span(&header, 1),
              plan_.invalidate ? std::span(&*plan_.invalidate, 1) : std::span<uint32_t>{});
}

Outcome<ResponseRelay::Step> ResponseRelay::send(std::span<const smb2::Piece> pieces,
                                                 std::span<const uint32_t> invalidate) {
  std::vector<iovec> parts;
  parts.reserve(pieces.size());
  for (const smb2::Piece& piece : pieces) {
    parts.push_back({const_cast<std::byte*>(piece.bytes.data()), piece.bytes.size()});
    sent_ += piece.bytes.size();
  }
  const int sent = smbdirect_send_pdu(&channel_, parts.data(), static_cast<int>(parts.size()),
                                      invalidate.data(), invalidate.size());
  if (sent < 0) return std::unexpected(std::string("sending to the client: ") + std::strerror(-sent));
  ++totals_.pdus_out;
  mode_ = Mode::length;
  have_ = 0;
  return Step::on;
}

}  // namespace smbdirect::tests::peer
