// SPDX-License-Identifier: MIT
// The metrics by their table: text, JSON, and that the dashboard and the manual name what there is.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/ctl/metrics/families.h"
#include "daemon/ctl/metrics/metric_docs.h"
#include "daemon/ctl/metrics/metric_table.h"
#include "daemon/exporter/options.h"
#include "daemon/exporter/pool_metrics.h"
#include "shm/counter_table.h"
#include "shm/latency_table.h"

using namespace smbdirect::daemon;
using namespace smbdirect::daemon::metrics;
namespace shm = smbdirect::shm;
using nlohmann::json;

namespace {

std::string file(const std::string& path) {
  std::ifstream in(std::string(std::getenv("SOURCE_ROOT")) + "/" + path);
  REQUIRE_MESSAGE(in, path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> names() {
  std::set<std::string> found;
  for (const MetricRow& row : metric_table()) found.insert(row.name);
  return found;
}

/// The value of the sample with this name and these labels, as the text has them.
double value(const std::string& text, const std::string& sample) {
  const size_t at = ("\n" + text).find("\n" + sample + " ");
  REQUIRE_MESSAGE(at != text.npos, sample << " is missing in\n" << text);
  return std::stod(text.substr(at + sample.size() + 1));
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

json worker(int slot) {
  json row{{"slot", slot},           {"pid", 7},
           {"state", "ready"},       {"generation", 1},
           {"open_connections", 3},  {"drained", slot == 1},
           {"heartbeat_age_ms", 250}};
  for (size_t i = 0; i < shm::kCounters; ++i)
    row[std::string(shm::kCounterTable[i].name)] = 1000 * (slot + 1) + int(i);
  for (const shm::OperationRow& operation : shm::kOperationTable) {
    json& histogram = row["latency"][std::string(operation.name)] = {{"sum_us", 1'500'000}};
    histogram["buckets"] = std::vector<int>(shm::kLatencyBounds + 1, 2);
  }
  return row;
}

}  // namespace

TEST_CASE("the table: names as Prometheus wants them, each once, and every counter of workers") {
  const std::regex name("smbdirect_[a-z][a-z0-9_]*[a-z0-9]");
  std::set<std::string> families;
  std::set<std::string> samples;
  std::string before;
  for (const MetricRow& row : metric_table()) {
    INFO(row.name);
    CHECK(std::regex_match(row.name, name));
    CHECK(row.name.ends_with("_total") == (row.kind == Kind::counter));
    CHECK_FALSE(row.help.empty());
    CHECK_FALSE(row.help.ends_with('.'));
    if (row.name != before) CHECK_MESSAGE(families.insert(row.name).second, "its rows do not stand together");
    CHECK(samples.insert(row.name + "/" + std::string(row.label_value)).second);
    before = row.name;
  }
  // In OpenMetrics a counter's family has no "_total": it must not be another family's name.
  for (const std::string& one : families) {
    if (one.ends_with("_total")) CHECK_FALSE(families.contains(one.substr(0, one.size() - 6)));
  }
  for (const shm::CounterRow& row : shm::kCounterTable) CHECK(families.contains(shm::metric_name(row)));
}

TEST_CASE("every figure of the answers is a metric, with its unit, kind and labels") {
  const json status{{"status",
                     {{"version", "1.2.3"},
                      {"pid", 700},
                      {"phase", "serving"},
                      {"uptime_ms", 61'500},
                      {"upstream", "transparent"},
                      {"workers", 2},
                      {"workers_ready", 1},
                      {"connections", 6},
                      {"refused_access", 4},
                      {"refused_client_rate", 5}}}};
  const json workers{{"workers", {worker(0), worker(1)}}};
  const auto found = metrics::families(status.dump(), workers.dump());
  REQUIRE(found);
  const std::string text = metrics_text(*found);
  CHECK(value(text, "smbdirect_up") == 1);
  CHECK(value(text, "smbdirect_build_info{version=\"1.2.3\"}") == 1);
  CHECK(value(text, "smbdirect_phase{phase=\"serving\"}") == 1);
  CHECK(value(text, "smbdirect_uptime_seconds") == doctest::Approx(61.5));
  CHECK(value(text, "smbdirect_workers_wanted") == 2);
  CHECK(value(text, "smbdirect_connections_open") == 6);
  CHECK(value(text, "smbdirect_connections_refused_total{reason=\"access\"}") == 4);
  CHECK(value(text, "smbdirect_connections_refused_total{reason=\"client_rate\"}") == 5);
  CHECK(value(text, "smbdirect_worker_state{worker=\"1\",state=\"ready\"}") == 1);
  CHECK(value(text, "smbdirect_worker_drained{worker=\"0\"}") == 0);
  CHECK(value(text, "smbdirect_worker_drained{worker=\"1\"}") == 1);
  CHECK(value(text, "smbdirect_worker_connections_open{worker=\"1\"}") == 3);
  CHECK(value(text, "smbdirect_worker_heartbeat_age_seconds{worker=\"0\"}") == doctest::Approx(0.25));
  for (size_t i = 0; i < shm::kCounters; ++i) {
    const std::string name = shm::metric_name(shm::kCounterTable[i]);
    CHECK(value(text, name + "{worker=\"0\"}") == 1000 + double(i));
    CHECK(value(text, name + "{worker=\"1\"}") == 2000 + double(i));
    CHECK(has(text, "# TYPE " + name + " counter\n"));
  }
  for (const shm::OperationRow& operation : shm::kOperationTable) {
    const auto name = [&](const std::string& part, const std::string& more = "") {
      return "smbdirect_operation_duration_seconds_" + part + "{worker=\"1\",operation=\"" +
             std::string(operation.name) + "\"" + more + "}";
    };
    CHECK(value(text, name("count")) == 2 * (shm::kLatencyBounds + 1));
    CHECK(value(text, name("sum")) == doctest::Approx(1.5));
    CHECK(value(text, name("bucket", ",le=\"+Inf\"")) == 2 * (shm::kLatencyBounds + 1));
  }
  CHECK(has(text, "# TYPE smbdirect_operation_duration_seconds histogram\n"));
  CHECK(has(text, "# HELP smbdirect_clients") == false);  // the answer had none
  CHECK(has(text, "# TYPE smbdirect_connections_open gauge\n"));
}

TEST_CASE("large counters keep all their digits that a double has, and JSON says the same") {
  json status{{"status", {{"accepted", (uint64_t{1} << 53) - 1}}}};
  const auto found = metrics::families(status.dump(), R"({"workers":[]})");
  REQUIRE(found);
  CHECK(value(metrics_text(*found), "smbdirect_connections_accepted_total") == 9007199254740991.0);
  const json told = json::parse(metrics_json(*found));
  CHECK(told["metrics"].back()["name"] == "smbdirect_connections_accepted_total");
  CHECK(told["metrics"].back()["type"] == "counter");
  CHECK(told["metrics"].back()["samples"][0]["value"] == 9007199254740991.0);
}

TEST_CASE("what is not known is left out, and what makes no sense is an error") {
  json dead = worker(3);
  for (auto& [key, member] : dead.items()) {
    if (key != "slot" && key != "state" && key != "open_connections") member = nullptr;
  }
  const auto found =
      metrics::families(R"({"status":{"clients":"many"}})", json{{"workers", {dead, 7}}}.dump());
  REQUIRE(found);
  const std::string text = metrics_text(*found);
  CHECK(value(text, "smbdirect_worker_state{worker=\"3\",state=\"ready\"}") == 1);
  CHECK_FALSE(has(text, "smbdirect_smb_requests_total"));
  CHECK_FALSE(has(text, "smbdirect_clients"));
  json odd_latency = worker(0);
  odd_latency["latency"]["smb_read"]["buckets"].push_back(1);  // another release's
  odd_latency["latency"]["smb_write"]["buckets"][3] = "many";
  odd_latency["latency"]["smb_other"] = 7;
  odd_latency["latency"].erase("rdma_read");
  const auto rest = metrics::families(R"({"status":{}})", json{{"workers", {odd_latency, worker(1)}}}.dump());
  REQUIRE(rest);
  CHECK_FALSE(has(metrics_text(*rest), "worker=\"0\",operation=\"smb"));
  CHECK(has(metrics_text(*rest), "worker=\"0\",operation=\"rdma_write"));
  CHECK_FALSE(has(metrics_text(*rest), "worker=\"0\",operation=\"rdma_read"));
  for (const char* odd : {"", "7", "{}", R"({"status":[]})", R"({"workers":{}})"})
    CHECK(metrics::families(odd, odd).error().contains("makes no sense"));
  CHECK(metrics::families(R"({"error":"not \u001b you"})", "").error() == "not ? you");
  CHECK(metrics_text(no_answer()).ends_with("\nsmbdirect_up 0\n"));
}

TEST_CASE("who scrapes while no daemon runs is told that") {
  const exporter::PoolMetrics pool("/nonexistent/control");
  const auto families = pool.Collect();
  REQUIRE(families.size() == 1);
  CHECK(families[0].name == "smbdirect_up");
  CHECK(families[0].metric.at(0).gauge.value == 0);
}

TEST_CASE("the dashboard names metrics that there are, and all that matter most") {
  const json dashboard = json::parse(file("conf/grafana-dashboard.json"));
  const std::set<std::string> known = names();
  std::set<std::string> shown;
  const std::regex word("smbdirect_[a-z0-9_]+");
  const auto read = [&](const std::string& text) {
    for (auto at = std::sregex_iterator(text.begin(), text.end(), word); at != std::sregex_iterator(); ++at) {
      std::string name = at->str();
      if (name.ends_with("_seconds_bucket")) name.resize(name.size() - 7);  // as a histogram is asked for
      CHECK_MESSAGE(known.contains(name), name);
      shown.insert(name);
    }
  };
  std::set<int> ids;
  for (const json& panel : dashboard["panels"]) {
    CHECK(ids.insert(panel["id"].get<int>()).second);
    REQUIRE_FALSE(panel["targets"].empty());
    for (const json& target : panel["targets"]) read(target["expr"].get<std::string>());
  }
  for (const json& variable : dashboard["templating"]["list"]) read(variable["query"].get<std::string>());
  for (const char* one : {"smbdirect_up", "smbdirect_rdma_read_bytes_total", "smbdirect_workers_lost_total",
                          "smbdirect_operation_duration_seconds"})
    CHECK(shown.contains(one));
}

TEST_CASE("the manual has every metric and every option") {
  const std::string page = file("docs/smbdirect-exporter.8.in");
  CHECK(has(page, "\n" + std::string(kManualPlace)));
  const std::string list = metric_manual();
  for (const std::string& name : names()) CHECK(has(list, "\n.BR " + name));
  // Alerts and the like name metrics that there are, too.
  const std::regex word("smbdirect_[a-z0-9_]+");
  for (auto at = std::sregex_iterator(page.begin(), page.end(), word); at != std::sregex_iterator(); ++at)
    CHECK_MESSAGE(names().contains(at->str()), at->str());
  for (const exporter::OptionRow& row : exporter::option_table()) {
    INFO(std::string(row.name));
    CHECK(has(page, "\\-\\-" + std::string(row.name)));
    CHECK(has(exporter::help_text(), "--" + std::string(row.name) + " "));
  }
}

TEST_CASE("the exporter's command line") {
  const auto parse = [](std::vector<std::string> words) {
    words.insert(words.begin(), "smbdirect-exporter");
    std::vector<char*> arguments;
    for (std::string& one : words) arguments.push_back(one.data());
    arguments.push_back(nullptr);
    return exporter::parse_options(int(words.size()), arguments.data());
  };
  CHECK(parse({})->listen == "127.0.0.1:9945");
  CHECK(parse({})->socket == "/run/smbdirectd/control");
  CHECK(parse({"-s", "/x", "--listen", "192.0.2.1:80"})->listen == "192.0.2.1:80");
  CHECK(parse({"--listen=[::1]:0"})->listen == "[::1]:0");
  CHECK(parse({"-h"})->help);
  CHECK(parse({"-V"})->version);
  for (const char* wrong : {"", "80", "127.0.0.1", "host:80", "127.0.0.1:80,81", "127.0.0.1:80s", "::1:80",
                            "[127.0.0.1]:80", "127.0.0.1:99999", ":80", "[::1]"}) {
    INFO(wrong);
    const auto options = parse({"--listen", wrong});
    REQUIRE_FALSE(options);
    CHECK(options.error().starts_with("--listen is \"" + std::string(wrong) + "\"; allowed: ADDRESS:PORT"));
  }
  CHECK_FALSE(parse({"more"}));
  CHECK_FALSE(parse({"--socket", ""}));
  CHECK_FALSE(parse({"--socket"}));
  CHECK_FALSE(parse({"-x"}));
}
