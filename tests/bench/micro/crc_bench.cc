// SPDX-License-Identifier: MIT
// CRC32C over one FPDU's payload, from a cache that holds it and from memory that does not.
#include <vector>

#include <benchmark/benchmark.h>

#include "workers/fabric/iwarp/crc32c.h"

namespace smbdirect::tests::bench {

namespace {

constexpr size_t kFpdu = 64u << 10;

/// range: bytes of memory gone through in turn.
void crc32c_fpdu(benchmark::State& state) {
  const std::vector<std::byte> memory(static_cast<size_t>(state.range(0)), std::byte{0x5A});
  size_t at = 0;
  for (auto _ : state) {
    workers::fabric::iwarp::Crc32c crc;
    crc.update(std::span(memory).subspan(at, kFpdu));
    benchmark::DoNotOptimize(crc.value());
    at = (at + kFpdu) % memory.size();
  }
  state.SetBytesProcessed(static_cast<int64_t>(kFpdu) * state.iterations());
}
BENCHMARK(crc32c_fpdu)->Arg(kFpdu)->Arg(256 << 20);

}  // namespace

}  // namespace smbdirect::tests::bench
