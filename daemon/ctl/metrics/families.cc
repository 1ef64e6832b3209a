// SPDX-License-Identifier: MIT
#include "daemon/ctl/metrics/families.h"

#include <limits>
#include <optional>
#include <prometheus/text_serializer.h>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/ctl/metrics/metric_table.h"
#include "shm/base/printable.h"
#include "shm/latency_table.h"

namespace smbdirect::daemon::metrics {
namespace {

using json = nlohmann::ordered_json;  // members stay in the order they are told in
using prometheus::ClientMetric;

constexpr double kMicroseconds = 1e-6;

prometheus::MetricType type_of(Kind kind) {
  switch (kind) {
    case Kind::counter:
      return prometheus::MetricType::Counter;
    case Kind::gauge:
      return prometheus::MetricType::Gauge;
    case Kind::histogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

ClientMetric sample_of(const MetricRow& row, double value) {
  ClientMetric sample;
  (row.kind == Kind::counter ? sample.counter.value : sample.gauge.value) = value;
  return sample;
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

/// Nothing: it is no histogram of this release's.
std::optional<ClientMetric::Histogram> histogram_from(const json& object) {
  if (!object.is_object() || !object.contains("sum_us") || !object["sum_us"].is_number_unsigned()) return {};
  if (!object.contains("buckets") || !object["buckets"].is_array()) return {};
  const json& counts = object["buckets"];
  if (counts.size() != shm::kLatencyBounds + 1) return {};
  ClientMetric::Histogram histogram;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (!counts[i].is_number_unsigned()) return {};
    histogram.sample_count += counts[i].get<uint64_t>();
    const double bound = i < shm::kLatencyBounds ? double(shm::latency_bound_us(i)) * kMicroseconds
                                                 : std::numeric_limits<double>::infinity();
    histogram.bucket.push_back({histogram.sample_count, bound});
  }
  histogram.sample_sum = object["sum_us"].get<double>() * kMicroseconds;
  return histogram;
}

std::vector<ClientMetric> histograms_from(const MetricRow& row, const json& object) {
  std::vector<ClientMetric> samples;
  const auto found = object.find(std::string(row.member));
  if (found == object.end() || !found->is_object()) return samples;
  for (const shm::OperationRow& operation : shm::kOperationTable) {
    const std::string name(operation.name);
    auto histogram = found->contains(name) ? histogram_from((*found)[name]) : std::nullopt;
    if (!histogram) continue;
    ClientMetric& sample = samples.emplace_back();
    sample.label.push_back({std::string(row.label), name});
    sample.histogram = std::move(*histogram);
  }
  return samples;
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
  if (type == prometheus::MetricType::Histogram) return "histogram";
  return type == prometheus::MetricType::Counter ? "counter" : "gauge";
}

json sample_json(prometheus::MetricType type, const ClientMetric& sample) {
  json out{{"labels", json::object()}};
  for (const ClientMetric::Label& label : sample.label) out["labels"][label.name] = label.value;
  if (type != prometheus::MetricType::Histogram) {
    out["value"] = type == prometheus::MetricType::Counter ? sample.counter.value : sample.gauge.value;
    return out;
  }
  out["count"] = sample.histogram.sample_count;
  out["sum"] = sample.histogram.sample_sum;
  out["buckets"] = json::array();
  for (const ClientMetric::Bucket& bucket : sample.histogram.bucket) {
    const bool last = bucket.upper_bound == std::numeric_limits<double>::infinity();
    out["buckets"].push_back(
        {{"le", last ? json("+Inf") : json(bucket.upper_bound)}, {"count", bucket.cumulative_count}});
  }
  return out;
}

std::string number_text(const json& slot) { return std::to_string(slot.get<uint64_t>()); }

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
      std::vector<ClientMetric> samples;
      if (row.kind == Kind::histogram) samples = histograms_from(row, worker);
      if (row.kind != Kind::histogram) {
        if (auto sample = sample_from(row, worker)) samples.push_back(std::move(*sample));
      }
      for (ClientMetric& sample : samples) {
        sample.label.insert(sample.label.begin(), {"worker", number_text(worker["slot"])});
        add(families, row, std::move(sample));
      }
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
    for (const ClientMetric& sample : family.metric) samples.push_back(sample_json(family.type, sample));
    list.push_back({{"name", family.name},
                    {"type", type_name(family.type)},
                    {"help", family.help},
                    {"samples", samples}});
  }
  return json{{"metrics", list}}.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace smbdirect::daemon::metrics
