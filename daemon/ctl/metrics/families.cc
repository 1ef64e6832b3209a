// SPDX-License-Identifier: MIT
#include "daemon/ctl/metrics/families.h"

#include <optional>
#include <prometheus/text_serializer.h>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/ctl/metrics/metric_table.h"
#include "shm/base/printable.h"

namespace smbdirect::daemon::metrics {
namespace {

using json = nlohmann::ordered_json;  // members stay in the order they are told in
using prometheus::ClientMetric;

prometheus::MetricType type_of(shm::CounterKind kind) {
  return kind == shm::CounterKind::counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
}

ClientMetric sample_of(const MetricRow& row, double value) {
  ClientMetric sample;
  (row.kind == shm::CounterKind::counter ? sample.counter.value : sample.gauge.value) = value;
  return sample;
}

double value_of(const prometheus::MetricFamily& family, const ClientMetric& sample) {
  return family.type == prometheus::MetricType::Counter ? sample.counter.value : sample.gauge.value;
}

/// Nothing: the object does not have what the row is made from, or does not know it yet.
std::optional<ClientMetric> sample_from(const MetricRow& row, const json& object) {
  const auto found = object.find(std::string(row.member));
  if (found == object.end()) return std::nullopt;
  if (!row.label.empty() && row.label_value.empty()) {
    if (!found->is_string()) return std::nullopt;
    ClientMetric sample = sample_of(row, 1);
    sample.label.push_back({std::string(row.label), shm::printable(found->get<std::string>())});
    return sample;
  }
  if (!found->is_number() && !found->is_boolean()) return std::nullopt;
  const double number = found->is_boolean() ? double(found->get<bool>()) : found->get<double>();
  ClientMetric sample = sample_of(row, number * row.scale);
  if (!row.label.empty()) sample.label.push_back({std::string(row.label), std::string(row.label_value)});
  return sample;
}

void add(Families& families, const MetricRow& row, ClientMetric sample) {
  if (families.empty() || families.back().name != row.name)
    families.push_back({row.name, std::string(row.help), type_of(row.kind), {}});
  families.back().metric.push_back(std::move(sample));
}

/// The command's member of an answer.
std::expected<json, std::string> told(std::string_view answer, const char* command, json::value_t type) {
  const json parsed = json::parse(answer, nullptr, false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_string())
    return std::unexpected(shm::printable(parsed["error"].get<std::string>()));
  if (!parsed.is_object() || !parsed.contains(command) || parsed[command].type() != type) {
    return std::unexpected("the daemon's answer to \"" + std::string(command) +
                           "\" makes no sense; is the daemon of another release?");
  }
  return parsed[command];
}

std::string type_name(prometheus::MetricType type) {
  return type == prometheus::MetricType::Counter ? "counter" : "gauge";
}

}  // namespace

std::expected<Families, std::string> families(std::string_view status_answer,
                                              std::string_view workers_answer) {
  const auto status = told(status_answer, "status", json::value_t::object);
  if (!status) return std::unexpected(status.error());
  const auto workers = told(workers_answer, "workers", json::value_t::array);
  if (!workers) return std::unexpected(workers.error());
  Families families;
  for (const MetricRow& row : metric_table()) {
    if (row.source == Source::asking) add(families, row, sample_of(row, 1));
    if (row.source == Source::status) {
      if (auto sample = sample_from(row, *status)) add(families, row, std::move(*sample));
    }
    if (row.source != Source::worker) continue;
    for (const json& worker : *workers) {
      if (!worker.is_object() || !worker.contains("slot") || !worker["slot"].is_number_unsigned()) continue;
      auto sample = sample_from(row, worker);
      if (!sample) continue;
      sample->label.insert(sample->label.begin(), {"worker", std::to_string(worker["slot"].get<uint64_t>())});
      add(families, row, std::move(*sample));
    }
  }
  return families;
}

Families no_answer() {
  Families families;
  for (const MetricRow& row : metric_table()) {
    if (row.source == Source::asking) add(families, row, sample_of(row, 0));
  }
  return families;
}

std::string metrics_text(const Families& families) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

std::string metrics_json(const Families& families) {
  json list = json::array();
  for (const prometheus::MetricFamily& family : families) {
    json samples = json::array();
    for (const ClientMetric& metric : family.metric) {
      json labels = json::object();
      for (const ClientMetric::Label& label : metric.label) labels[label.name] = label.value;
      samples.push_back({{"labels", labels}, {"value", value_of(family, metric)}});
    }
    list.push_back({{"name", family.name},
                    {"type", type_name(family.type)},
                    {"help", family.help},
                    {"samples", samples}});
  }
  return json{{"metrics", list}}.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace smbdirect::daemon::metrics
