// SPDX-License-Identifier: MIT
// What a connection, a worker or smbdirect-connect counts: a field for each row of the table in
// shm/counter_table.h, which is also the source of the log line, the JSON and the statistics. Plain integers,
// one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "shm/counter_table.h"

namespace smbdirect::workers {

struct Counters {
#define SMBDIRECT_FIELD(name, kind, help) uint64_t name = 0;
  SMBDIRECT_COUNTERS(SMBDIRECT_FIELD)
#undef SMBDIRECT_FIELD

  struct Description {
    std::string_view name;
    std::string_view help;
    uint64_t Counters::* field;
  };
  /// The table, in the order above.
  [[nodiscard]] static const auto& table() {
#define SMBDIRECT_ROW(name, kind, help) Description{#name, help, &Counters::name},
    static constexpr auto kTable = std::to_array<Description>({SMBDIRECT_COUNTERS(SMBDIRECT_ROW)});
#undef SMBDIRECT_ROW
    return kTable;
  }

  void add(const Counters& other) {
    for (const Description& row : table()) this->*row.field += other.*row.field;
  }
  /// In the order of the table, as the scoreboard has them.
  [[nodiscard]] shm::CounterValues values() const {
    shm::CounterValues out{};
    for (size_t i = 0; i < out.size(); ++i) out[i] = this->*table()[i].field;
    return out;
  }
  /// "name=1 name=2 ...": every counter, for a log line.
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const Description& row : table()) {
      if (!out.empty()) out += ' ';
      out.append(row.name).append("=").append(std::to_string(this->*row.field));
    }
    return out;
  }
};

}  // namespace smbdirect::workers
