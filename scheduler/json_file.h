// JSON that nobody vouches for, field by field: what the files of plans and calibrations have in common. Every function
// throws BadInput that says where, what is there and the limit.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/graph.h"

namespace thimble::json_file {

using Json = nlohmann::ordered_json;

inline constexpr std::int64_t kLargest = std::int64_t{1} << 46;  ///< bytes of any tensor, storage or arena in a file

Json json_of(const TensorType& type);
Json json_of(const Attributes& attributes);
/// What is written: on one line, text that is not UTF-8 replaced.
std::string dump(const Json& json);
/// 32 hexadecimal digits (a version 5 UUID of the text).
std::string hash_of(const Json& json);

/// Refuses deep nesting, objects with many fields or the same field twice.
Json parse(std::string_view input, std::string_view name);

[[noreturn]] void fail(const std::string& where, const std::string& what);
const Json& field(const Json& json, const char* name, const std::string& where);
std::int64_t integer(const Json& json, const std::string& where, std::int64_t least, std::int64_t most);
std::int64_t integer(const Json& json, const char* name, const std::string& where, std::int64_t least,
                     std::int64_t most);
std::string text(const Json& json, const char* name, const std::string& where);
bool boolean(const Json& json, const char* name, const std::string& where);
double positive(const Json& json, const char* name, const std::string& where);
const Json& array(const Json& json, const char* name, const std::string& where);
std::map<std::string, std::string> read_strings(const Json& json, const char* name);
TensorType read_type(const Json& json, const std::string& where);
Attributes read_attributes(const Json& json, const std::string& where);

}  // namespace thimble::json_file
