// SPDX-License-Identifier: MIT
// What the tables of states share (area_state.h, direct_state.h): a name and a text for each state of an enum
// that counts from 0. Constant data; any process.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace smbdirect::shm {

struct StateRow {
  std::string_view name;  // empty: nothing is shown
  std::string_view text;
};
/// The state of that number of a table by state, as somebody has written it who is not trusted.
template <typename State>
[[nodiscard]] constexpr std::optional<State> state_from(const auto& table, uint64_t number) {
  return number < table.size() ? std::optional(State(number)) : std::nullopt;
}

}  // namespace smbdirect::shm
