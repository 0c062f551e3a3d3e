#include "json_file.h"

#include <array>
#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <set>

#include "thimble/error.h"

namespace thimble::json_file {
namespace {

constexpr std::size_t kMostKeys = 4096;  // of one object

}  // namespace

Json json_of(const TensorType& type) {
  return {{"dtype", to_string(type.dtype)}, {"shape", type.shape}, {"batched", type.batched}};
}

Json json_of(const Attributes& attributes) {
  Json json = Json::object();
  for (const auto& attribute : attributes)
    std::visit([&](const auto& value) { json[attribute.first] = value; }, attribute.second);
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string hash_of(const Json& json) {
  const boost::uuids::name_generator_sha1 name_to_uuid(boost::uuids::ns::oid());
  std::string digits = boost::uuids::to_string(name_to_uuid(dump(json)));
  std::erase(digits, '-');
  return digits;
}

void fail(const std::string& where, const std::string& what) { throw BadInput(where + ": " + what); }

Json parse(std::string_view input, std::string_view name) {
  std::array<std::set<std::string>, 66> keys;  // of the objects open at each depth
  const auto is_allowed = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 64) fail(std::string(name), "nested deeper than 64");
    auto& known = keys[static_cast<std::size_t>(depth)];
    if (event == Json::parse_event_t::key && !known.insert(parsed.get<std::string>()).second)
      fail(std::string(name), "an object has two fields '" + parsed.get<std::string>() + "'");
    if (known.size() > kMostKeys)
      fail(std::string(name), "an object has more than " + std::to_string(kMostKeys) + " fields");
    if (event == Json::parse_event_t::object_start) keys[static_cast<std::size_t>(depth) + 1].clear();
    return true;
  };
  try {
    return Json::parse(input.begin(), input.end(), is_allowed);
  } catch (const nlohmann::json::parse_error& error) {
    fail(std::string(name), "is not JSON: byte " + std::to_string(error.byte) + " of " + std::to_string(input.size()));
  } catch (const nlohmann::json::exception& error) {
    fail(std::string(name), error.what());
  }
}

const Json& field(const Json& json, const char* name, const std::string& where) {
  if (!json.is_object()) fail(where, "is not an object");
  auto found = json.find(name);
  if (found == json.end()) fail(where, std::string("field '") + name + "' is missing");
  return *found;
}

std::int64_t integer(const Json& json, const std::string& where, std::int64_t least, std::int64_t most) {
  if (!json.is_number_integer()) fail(where, "is not an integer");
  const bool too_large = json.is_number_unsigned() && json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (too_large || json.get<std::int64_t>() < least || json.get<std::int64_t>() > most)
    fail(where, "is " + json.dump() + ", outside [" + std::to_string(least) + ", " + std::to_string(most) + "]");
  return json.get<std::int64_t>();
}

std::int64_t integer(const Json& json, const char* name, const std::string& where, std::int64_t least,
                     std::int64_t most) {
  return integer(field(json, name, where), where + "." + name, least, most);
}

std::string text(const Json& json, const char* name, const std::string& where) {
  const Json& value = field(json, name, where);
  if (!value.is_string()) fail(where + "." + name, "is not a string");
  return value.get<std::string>();
}

bool boolean(const Json& json, const char* name, const std::string& where) {
  const Json& value = field(json, name, where);
  if (!value.is_boolean()) fail(where + "." + name, "is not true or false");
  return value.get<bool>();
}

double positive(const Json& json, const char* name, const std::string& where) {
  const Json& value = field(json, name, where);
  if (!value.is_number() || !(value.get<double>() > 0))
    fail(where + "." + name,
         "is " + value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40) + ", not a positive number");
  return value.get<double>();
}

const Json& array(const Json& json, const char* name, const std::string& where) {
  const Json& value = field(json, name, where);
  if (!value.is_array()) fail(where + "." + name, "is not an array");
  if (value.size() > 1'000'000)
    fail(where + "." + name, "has " + std::to_string(value.size()) + " entries, limit 1000000");
  return value;
}

std::map<std::string, std::string> read_strings(const Json& json, const char* name) {
  std::map<std::string, std::string> strings;
  const Json& object = field(json, name, "top level");
  if (!object.is_object()) fail(name, "is not an object");
  for (const auto& [key, value] : object.items()) strings[key] = text(object, key.c_str(), name);
  return strings;
}

TensorType read_type(const Json& json, const std::string& where) {
  TensorType type{parse_dtype(text(json, "dtype", where)), {}, boolean(json, "batched", where)};
  std::int64_t elements = 1;
  for (const Json& extent : array(json, "shape", where)) {
    type.shape.push_back(integer(extent, where + ".shape", 1, kLargest / 8));
    if (type.shape.back() > kLargest / 8 / elements) fail(where + ".shape", "has more than 2^43 elements");
    elements *= type.shape.back();
  }
  if (type.batched && type.shape.empty()) fail(where, "is batched but has no dimension");
  return type;
}

Attributes read_attributes(const Json& json, const std::string& where) {
  Attributes attributes;
  const Json& object = field(json, "attributes", where);
  if (!object.is_object()) fail(where + ".attributes", "is not an object");
  for (const auto& [name, value] : object.items()) {
    if (value.is_number_integer())
      attributes[name] = integer(value, where + "." + name, INT64_MIN, INT64_MAX);
    else if (value.is_number())
      attributes[name] = value.get<double>();
    else if (value.is_string())
      attributes[name] = value.get<std::string>();
    else
      fail(where + "." + name, "is neither number nor string");
  }
  return attributes;
}

}  // namespace thimble::json_file
