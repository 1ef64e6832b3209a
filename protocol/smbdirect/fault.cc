// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/fault.h"

#include <array>

namespace smbdirect::protocol::smb_direct {
namespace {

struct Words {
  Fault fault;
  std::string_view name;
  std::string_view text;
};

// In the enum's order (asserted below).
constexpr std::array<Words, kFaultCount> kWords{{
    {Fault::message_too_short, "message_too_short", "message shorter than its SMB Direct header"},
    {Fault::message_too_long, "message_too_long", "message longer than the agreed MaxReceiveSize"},
    {Fault::version_unsupported, "version_unsupported", "peer does not offer SMB Direct version 1.0"},
    {Fault::credits_requested_zero, "credits_requested_zero", "CreditsRequested is 0"},
    {Fault::max_receive_size_too_small, "max_receive_size_too_small", "MaxReceiveSize is below 128"},
    {Fault::max_fragmented_size_too_small, "max_fragmented_size_too_small",
     "MaxFragmentedSize is below 131072"},
    {Fault::negotiate_refused, "negotiate_refused", "negotiation was refused"},
    {Fault::negotiate_timeout, "negotiate_timeout", "peer did not negotiate in time"},
    {Fault::data_offset_misaligned, "data_offset_misaligned", "DataOffset is not a multiple of 8"},
    {Fault::data_beyond_message, "data_beyond_message", "DataOffset + DataLength is past the message's end"},
    {Fault::exceeds_max_fragmented, "exceeds_max_fragmented",
     "DataLength + RemainingDataLength is over our MaxFragmentedSize"},
    {Fault::reassembly_mismatch, "reassembly_mismatch",
     "fragment does not continue the message in progress (RemainingDataLength)"},
    {Fault::no_receive_credit, "no_receive_credit", "peer sent a message without a credit for it"},
    {Fault::credit_overflow, "credit_overflow", "peer granted more than 65535 credits"},
    {Fault::send_credit_timeout, "send_credit_timeout", "peer granted no credit while a message waited"},
    {Fault::keepalive_timeout, "keepalive_timeout", "peer did not answer a keepalive"},
    {Fault::response_invalid, "response_invalid", "negotiate response breaks MS-SMBD 3.1.5.7"},
}};

constexpr bool in_order() {
  for (size_t i = 0; i < kWords.size(); ++i) {
    if (kWords[i].fault != static_cast<Fault>(i)) return false;
  }
  return true;
}
static_assert(in_order());

}  // namespace

std::string_view fault_text(Fault fault) { return kWords[static_cast<size_t>(fault)].text; }
std::string_view fault_name(Fault fault) { return kWords[static_cast<size_t>(fault)].name; }

}  // namespace smbdirect::protocol::smb_direct
