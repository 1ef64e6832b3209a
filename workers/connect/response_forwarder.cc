// SPDX-License-Identifier: MIT
#include "workers/connect/response_forwarder.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "protocol/smb2/session_reply.h"

namespace smbdirect::workers::connect {

namespace {

namespace smb2 = protocol::smb2;

constexpr uint64_t kMostStreamBytes = (1u << 24) - 1;  // the length word has 24 bits
static_assert(Outbox::kInlineBytes >= smb2::kPrefixBytes);
// Waiting for a client that does not read. Beginnings of responses are copied, so receives that nobody holds
// back bring them: what no honest server comes to ends the connection.
constexpr size_t kMostPieces = 256 * 1024;

}  // namespace

shm::Result<> ResponseForwarder::fragment(const Fragment& fragment, bool lagging) {
  if (fragment.first) {
    total_ = fragment.total;
    prefix_size_ = 0;
    decided_ = false;
    streaming_ = false;
    if (out_.pieces() > kMostPieces) {
      return shm::fail("the client does not read the responses that the server keeps sending");
    }
    if (total_ > kMostStreamBytes)
      return shm::fail("the server's response of " + std::to_string(total_) +
                       " bytes is too long for SMB2 over TCP");
  }
  auto data = fragment.data;
  if (!decided_) {
    const auto need = static_cast<uint32_t>(std::min<uint64_t>(total_, smb2::kPrefixBytes));
    if (prefix_size_ == 0 && data.size() >= need) {
      if (auto done = decide(data.first(need)); !done) return done;
    } else {
      // Gathered, so that many tiny fragments hold no receive buffers.
      const auto here = std::min<size_t>(need - prefix_size_, data.size());
      std::memcpy(prefix_.data() + prefix_size_, data.data(), here);
      transport_.own_counters().copied_bytes += here;
      prefix_size_ += static_cast<uint32_t>(here);
      data = data.subspan(here);
      if (prefix_size_ < need) return {};
      const auto prefix = std::span(prefix_).first(prefix_size_);
      if (auto done = decide(prefix); !done) return done;
      if (streaming_) out_.push_copy(prefix);
    }
  }
  if (streaming_ && !data.empty()) queue(fragment, data, lagging);
  if (fragment.last) {
    streaming_ = false;
    ++transport_.own_counters().smb_responses;
  }
  return {};
}

void ResponseForwarder::queue(const Fragment& fragment, std::span<const std::byte> data, bool lagging) {
  if (lagging && out_.pieces() < kMostPieces / 2) {
    auto copy = spill_.keep(data);
    if (copy.owner) {
      transport_.own_counters().copied_bytes += data.size();
      out_.push(std::move(copy.owner), copy.bytes);
      return;
    }
  }
  out_.push(fragment.buffer->share(), data);
}

shm::Result<> ResponseForwarder::decide(std::span<const std::byte> prefix) {
  decided_ = true;
  const auto header = smb2::parse_header(prefix);
  transport_.record(EventKind::response, header ? static_cast<uint64_t>(header->command) : 0, total_);
  const auto response = translator_.response(prefix, total_);
  if (!response) {
    return shm::fail("the server sent no valid SMB2 response: " +
                     std::string(smb2::violation_text(response.error())));
  }
  let_in_ = let_in_ || smb2::shows_session(prefix);
  using Kind = smb2::ClientTranslator::Response::Kind;
  if (response->kind == Kind::pass) {
    if (response->finished) memory_.drop(*response->finished);
    out_.push_copy(smb2::encode_nbt(static_cast<uint32_t>(total_)));
    streaming_ = true;
    return {};
  }
  if (response->kind == Kind::swallow) return {};
  const auto start = std::span(response->header).first(response->header_size);
  if (response->kind == Kind::refused) {
    out_.push_copy(smb2::encode_nbt(static_cast<uint32_t>(start.size())));
    out_.push_copy(start);
    return {};
  }
  const uint64_t whole = start.size() + uint64_t{response->length};
  if (!response->finished || whole > kMostStreamBytes) {
    return shm::fail("the server answered a READ with data that was not asked for");
  }
  // The data stands in the memory already: RDMA WRITEs are placed before the SEND behind them arrives.
  out_.push_copy(smb2::encode_nbt(static_cast<uint32_t>(whole)));
  out_.push_copy(start);
  if (!memory_.deliver(*response->finished, response->length, out_)) {
    return shm::fail("the server answered a READ with more data than fits the memory it was given");
  }
  return {};
}

}  // namespace smbdirect::workers::connect
