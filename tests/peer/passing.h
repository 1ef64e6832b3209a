// SPDX-License-Identifier: MIT
// A channel handed from one process of this program to another: exported, sent over DIR/adopt.sock
// (SOCK_SEQPACKET, one message a connection), imported. Until it is imported the message holds it: if both
// processes die, the client's connection ends.
#pragma once

#include <string>

#include "handles.h"
#include "options.h"

namespace smbdirect::tests::peer {

/// Sends it to the process that adopts in options.pass_to. Waits for at most a second.
[[nodiscard]] Outcome<> pass_on(ChannelPtr channel, const Options& options);

/// The adopting side's socket. Replaces one that an earlier process has left.
[[nodiscard]] Outcome<Fd> listen_for_channels(const std::string& directory);
/// After the socket was readable. Waits for the sender for at most a second.
[[nodiscard]] Outcome<ChannelPtr> adopt_one(int listening);

}  // namespace smbdirect::tests::peer
