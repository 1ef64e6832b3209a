// SPDX-License-Identifier: MIT
// A prepared ailment, and how it has to be found and told. Tests only.
#pragma once

#include <algorithm>
#include <functional>
#include <string>

#include <doctest/doctest.h>

#include "daemon/ctl/doctor/examination.h"
#include "tests/unit/daemon/ctl/doctor/fake_host.h"

namespace smbdirect::daemon::doctor {

struct Ailment {
  const char* name;
  std::function<void(FakeHost&)> prepare;
  const char* check;
  State state;
  const char* what;   // part of what is told
  const char* fix;    // part of what to do
  bool alone = true;  // nothing else is found
};

inline void pool(FakeHost& host, const std::string& listeners,
                 const std::string& upstream = R"("mode": "transparent")") {
  host.files["/etc/smbdirectd/pool.json"] =
      R"({"user": "nobody", "listeners": [)" + listeners + R"(], "upstream": {)" + upstream + "}}";
}

inline void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  text.replace(at, from.size(), to);
}

inline bool is_ailment(const Told& told) {
  return told.finding.state == State::failed || told.finding.state == State::warning;
}

inline std::string told_of(const Examination& examination) { return examination_text(examination, true); }

/// What is found on a host that has nothing.
inline Examination check_healthy(const std::function<void(FakeHost&)>& prepare) {
  FakeHost host;
  prepare(host);
  Examination examination = examine(Patient::meet(host, kOptions));
  INFO(told_of(examination));
  CHECK(std::ranges::none_of(examination, is_ailment));
  return examination;
}

inline void check_found(const Ailment& ailment) {
  FakeHost host;
  ailment.prepare(host);
  const Examination examination = examine(Patient::meet(host, kOptions));
  INFO(std::string(ailment.name) << "\n" << told_of(examination));
  const auto found = std::ranges::find_if(
      examination, [&](const Told& told) { return told.name == ailment.check && is_ailment(told); });
  REQUIRE(found != examination.end());
  CHECK(found->finding.state == ailment.state);
  CHECK(found->finding.what.find(ailment.what) != std::string::npos);
  CHECK(found->finding.fix.find(ailment.fix) != std::string::npos);
  if (!ailment.alone) return;
  for (const Told& told : examination) {
    if (is_ailment(told) && told.name != ailment.check && told.name != "daemon")
      CHECK(told.name == ailment.check);
  }
}

}  // namespace smbdirect::daemon::doctor
