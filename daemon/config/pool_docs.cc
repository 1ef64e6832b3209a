// SPDX-License-Identifier: MIT
#include "daemon/config/pool_docs.h"

#include <nlohmann/json.hpp>

#include "daemon/config/pool_keys.h"

namespace smbdirect::daemon {
namespace {

using Json = nlohmann::ordered_json;

Json schema_of(const Key& key);

Json object_schema(std::string_view pointer) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const Key& key : pool_keys()) {
    if (key.parent() != pointer) continue;
    properties[std::string(key.name())] = schema_of(key);
    if (key.required) required.push_back(key.name());
  }
  Json schema = {{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}

Json schema_of(const Key& key) {
  Json schema = Json::object();
  switch (key.type) {
    case KeyType::object:
      schema = object_schema(key.pointer);
      break;
    case KeyType::objects:
      schema = {
          {"type", "array"}, {"minItems", 1}, {"items", object_schema(std::string(key.pointer) + "/*")}};
      break;
    case KeyType::integer:
      schema = {{"type", "integer"}, {"minimum", key.min}, {"maximum", key.max}};
      if (key.automatic) schema = {{"anyOf", {schema, {{"const", "auto"}}}}};
      break;
    case KeyType::boolean:
      schema = {{"type", "boolean"}};
      break;
    case KeyType::choice:
      schema = {{"enum", Json::array()}};
      for (const std::string_view choice : key.choices) schema["enum"].push_back(choice);
      break;
    case KeyType::text:
    case KeyType::address:
      schema = {{"type", "string"}};
      break;
    case KeyType::processors:
      schema = {{"type", "string"},
                {"pattern", "^(none|auto|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)$"}};
      break;
    case KeyType::networks:
      schema = {{"type", "array"}, {"items", {{"type", "string"}}}};
      break;
  }
  schema["description"] = key.help;
  if (const std::string text = default_text(key); !text.empty()) schema["default"] = Json::parse(text);
  return schema;
}

/// Text that roff takes for no request and no escape.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '"') {
      out += "\\(dq";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string pool_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "smbdirectd pool file"},
                 {"description", "The structure of a pool file without comments; see smbdirectd-pool(5)."}};
  schema.update(object_schema(""));
  return schema.dump(2) + "\n";
}

std::string pool_manual_keys() {
  std::string text;
  for (const Key& key : pool_keys()) {
    text += ".TP\n.B " + roff(key.pointer) + "\n" + roff(key.help) + "\n";
    if (key.type == KeyType::object) continue;
    text += ".br\nAllowed: " + roff(allowed_text(key)) + ".\n";
    if (key.required) {
      text += "Required.\n";
    } else {
      text += "Default: " + roff(default_text(key)) + ".\n";
    }
    if (key.slot != nullptr) text += "A change applies " + roff(applies_text(key.applies)) + ".\n";
  }
  return text;
}

}  // namespace smbdirect::daemon
