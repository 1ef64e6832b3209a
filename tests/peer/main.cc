// SPDX-License-Identifier: MIT
// reference-peer: an SMB server that smbdirectd's upstream mode "channel" can serve. It is none itself: every
// message goes to a stock smbd over TCP, so that what comes back is right, and data of RDMA-channel READs and
// WRITEs goes through the data area. For tests of that mode, and to be read by whoever writes a real one.
#include <cstdio>

#include "child.h"
#include "main_process.h"
#include "options.h"

int main(int argc, char** argv) {
  namespace peer = smbdirect::tests::peer;
  const auto options = peer::parse_options(std::span(argv, static_cast<size_t>(argc)).subspan(1));
  if (!options) {
    std::fprintf(stderr, "reference-peer: %s\n%s", options.error().c_str(), peer::kUsage);
    return 2;
  }
  return options->adopt.empty() ? peer::MainProcess(*options).run() : peer::run_adopter(*options);
}
