// SPDX-License-Identifier: MIT
#include "protocol/smb2/client_translator.h"

#include <algorithm>

#include "protocol/smb2/answer.h"
#include "protocol/smb2/fields.h"
#include "protocol/smb2/multi_protocol.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

constexpr uint32_t kMaxRequests = 65536;  // as the server's translator
constexpr uint32_t kStatusInsufficientResources = 0xC000009A;
constexpr uint16_t kEchoStructureSize = 4;  // MS-SMB2 2.2.28, 2.2.29
constexpr size_t kErrorResponseBytes = 73;  // MS-SMB2 2.2.2, without ErrorData

/// The header of an ECHO's answer made into that of an error's.
ClientTranslator::Response refusal(std::span<const std::byte> prefix, Command command) {
  ClientTranslator::Response response;
  response.kind = ClientTranslator::Response::Kind::refused;
  response.header_size = kErrorResponseBytes;
  std::ranges::copy(prefix.first(kHeaderBytes), response.header.begin());
  const std::span out(response.header);
  wire::store(out, header_at::kCommand, static_cast<uint16_t>(command));
  if (!is_error(wire::load32(prefix, header_at::kStatus)))
    wire::store(out, header_at::kStatus, kStatusInsufficientResources);
  wire::store(out, kBodyAt, kErrorStructureSize);
  return response;
}

}  // namespace

ClientTranslator::ClientTranslator(const Options& options)
    : options_(options), table_(kMaxRequests, options.table_secret) {}

std::expected<ClientTranslator::Request, Violation> ClientTranslator::request(
    std::span<const std::byte> prefix, uint64_t total) {
  Request pass;
  if (total < kHeaderBytes || prefix.size() < std::min<uint64_t>(total, kPrefixBytes))
    return std::unexpected(Violation::too_short);
  prefix = prefix.first(std::min<uint64_t>(total, prefix.size()));
  const ProtocolId kind = protocol_id(prefix);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) return pass;
  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (header->response()) return std::unexpected(Violation::wrong_direction);
  if (!valid_next_command(header->next_command, total)) return std::unexpected(Violation::bad_next_command);
  pass.message_id = header->message_id;
  if (!is_io(header->command) || header->next_command != 0 || !check_io_body(prefix)) return pass;
  // The local client has no memory the server could reach: its tokens would be guesses at ours.
  if (rdma_channel_of(header->command, prefix) != kChannelNone)
    return std::unexpected(Violation::rdma_channel_over_tcp);
  if (!options_.rdma_io || dialect_ < kDialect300 || header->is_signed() || header->related()) return pass;

  Request request = pass;
  static_assert(read_at::kLength == write_at::kLength);
  request.length = wire::load32(prefix, read_at::kLength);
  if (request.length == 0 || request.length < options_.threshold ||
      request.length > options_.max_read_write_size ||
      request.length > kMaxStreamPdu - read_response_at::kBuffer)
    return pass;
  if (header->command == Command::read) {
    request.kind = Request::Kind::rdma_channel_read;
    return request;
  }
  request.data_offset = wire::load16(prefix, write_at::kDataOffset);
  if (request.data_offset < write_at::kBuffer || request.data_offset > total ||
      request.length > total - request.data_offset)
    return pass;
  request.kind = Request::Kind::rdma_channel_write;
  return request;
}

std::expected<size_t, Violation> ClientTranslator::rdma_channel_request(
    std::span<const std::byte> prefix, const Request& request, std::span<const BufferDescriptor> memory,
    uint64_t cookie, std::span<std::byte> out) {
  const size_t most = std::min<size_t>(options_.max_descriptors, kMaxDescriptors);
  const size_t info = memory.size() * kDescriptorBytes;
  if (request.kind == Request::Kind::pass || prefix.size() < read_at::kBuffer || memory.empty() ||
      memory.size() > most || memory.front().length == 0 || out.size() < read_at::kBuffer + info)
    return std::unexpected(Violation::bad_body);
  uint64_t room = 0;
  for (const BufferDescriptor& descriptor : memory) room += descriptor.length;
  if (room < request.length) return std::unexpected(Violation::bad_body);

  table_.recycle();
  const auto added = table_.add(request.message_id);
  if (!added) return std::unexpected(added.error());
  (*added)->rdma_channel = true;
  (*added)->forwarded = true;  // its caller sends it at once
  (*added)->cookie = cookie;
  (*added)->length = request.length;

  std::ranges::copy(prefix.first(read_at::kBuffer), out.begin());
  const bool invalidate = options_.remote_invalidate && dialect_ >= kDialect302;
  const uint32_t channel = invalidate ? kChannelRdmaV1Invalidate : kChannelRdmaV1;
  const auto info_length = static_cast<uint16_t>(info);
  if (request.kind == Request::Kind::rdma_channel_read) {
    (*added)->command = Command::read;
    wire::store(out, read_at::kChannel, channel);
    wire::store(out, read_at::kRemainingBytes, uint32_t{0});
    wire::store(out, read_at::kChannelInfoOffset, static_cast<uint16_t>(read_at::kBuffer));
    wire::store(out, read_at::kChannelInfoLength, info_length);
  } else {
    (*added)->command = Command::write;
    wire::store(out, write_at::kDataOffset, uint16_t{0});
    wire::store(out, write_at::kLength, uint32_t{0});
    wire::store(out, write_at::kChannel, channel);
    wire::store(out, write_at::kRemainingBytes, request.length);
    wire::store(out, write_at::kChannelInfoOffset, static_cast<uint16_t>(write_at::kBuffer));
    wire::store(out, write_at::kChannelInfoLength, info_length);
  }
  for (size_t i = 0; i < memory.size(); ++i)
    store_descriptor(out.subspan(read_at::kBuffer + i * kDescriptorBytes), memory[i]);
  return read_at::kBuffer + info;
}

std::expected<size_t, Violation> ClientTranslator::refused_request(std::span<const std::byte> prefix,
                                                                   std::span<std::byte> out) {
  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (!is_io(header->command) || out.size() < kRefusedRequestBytes)
    return std::unexpected(Violation::bad_body);
  table_.recycle();
  const auto added = table_.add(header->message_id);
  if (!added) return std::unexpected(added.error());
  (*added)->command = header->command;
  (*added)->refused = true;
  std::ranges::copy(prefix.first(kHeaderBytes), out.begin());
  wire::store(out, header_at::kCommand, static_cast<uint16_t>(Command::echo));
  wire::store(out, kBodyAt, kEchoStructureSize);
  wire::store(out, kBodyAt + sizeof(uint16_t), uint16_t{0});
  return kRefusedRequestBytes;
}

std::expected<ClientTranslator::Response, Violation> ClientTranslator::response(
    std::span<const std::byte> prefix, uint64_t total) {
  Response response;
  if (total < kHeaderBytes || prefix.size() < std::min<uint64_t>(total, kPrefixBytes))
    return std::unexpected(Violation::too_short);
  prefix = prefix.first(std::min<uint64_t>(total, prefix.size()));
  const ProtocolId kind = protocol_id(prefix);
  if (kind == ProtocolId::encrypted || kind == ProtocolId::compressed) return response;
  const auto header = parse_header(prefix);
  if (!header) return std::unexpected(header.error());
  if (!header->response()) return std::unexpected(Violation::wrong_direction);
  if (!valid_next_command(header->next_command, total)) return std::unexpected(Violation::bad_next_command);
  if (header->command == Command::negotiate && header->message_id == 0 && swallow_negotiate_) {
    swallow_negotiate_ = false;
    response.kind = Response::Kind::swallow;
    return response;
  }
  if (header->command == Command::negotiate) {
    const auto facts = parse_negotiate_response(*header, prefix);
    if (!facts) return std::unexpected(facts.error());
    if (!*facts) return response;
    // MS-SMB2 3.3.5.4: never twice, but after the answer to an SMB1 multi-protocol negotiate (3.3.5.3.1).
    if (dialect_ != 0) return std::unexpected(Violation::response_bad_dialect);
    const uint16_t dialect = (*facts)->dialect;
    if (dialect != kDialectWildcard) {
      // What there is none of says nothing of what the server can do.
      if (std::ranges::find(NegotiateRequest::kDialects, dialect) == NegotiateRequest::kDialects.end())
        return std::unexpected(Violation::response_bad_dialect);
      dialect_ = dialect;
    }
    return response;
  }
  // A refused CANCEL is no answer to the request it names.
  if (header->command == Command::cancel) return response;
  table_.recycle();
  InFlight* request = table_.find(header->message_id);
  if (request == nullptr) return response;
  if (request->refused) {
    if (header->command != Command::echo) return std::unexpected(Violation::response_wrong_command);
    const Command command = request->command;
    table_.finish(*request);
    return refusal(prefix, command);
  }
  const auto answer = check_answer(*request, *header, prefix, total);
  if (!answer) return std::unexpected(answer.error());
  if (*answer == Answer::interim) return response;
  // RDMA-channel requests go out alone; a server has no reason to compound their answers.
  if (header->next_command != 0) return std::unexpected(Violation::bad_next_command);

  const auto checked = check_io_answer(*request, *header, prefix, total);
  if (!checked) return std::unexpected(checked.error());
  if (const auto& data = *checked) {
    if (data->remaining > request->length) return std::unexpected(Violation::response_too_long);
    if (data->length != 0 && data->remaining != 0) return std::unexpected(Violation::bad_body);
    // Data inline all the same (MS-SMB2 leaves the server that choice): already what the client asked for.
    if (data->length == 0) {
      if (header->is_signed()) return std::unexpected(Violation::signed_rdma_channel_response);
      response.kind = Response::Kind::from_memory;
      response.length = data->remaining;
      response.header_size = read_response_at::kBuffer;
      std::ranges::copy(prefix.first(response.header_size), response.header.begin());
      store_read_response(response.header, data->remaining, 0);
    }
  }
  response.finished = request->cookie;
  table_.finish(*request);
  return response;
}

}  // namespace smbdirect::protocol::smb2
