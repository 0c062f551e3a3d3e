#include "thimble/calibration.h"

#include <sys/utsname.h>

#include <algorithm>
#include <fstream>

#include "json_file.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using namespace json_file;

Json to_json(const std::vector<TensorType>& types) {
  Json json = Json::array();
  for (const TensorType& type : types) json.push_back(json_of(type));
  return json;
}

Json op_to_json(const std::string& kind, const Attributes& attributes, const std::vector<TensorType>& inputs,
                const std::vector<TensorType>& outputs) {
  return {
      {"kind", kind}, {"attributes", json_of(attributes)}, {"inputs", to_json(inputs)}, {"outputs", to_json(outputs)}};
}

Json to_json(const CalibrationTable& table) {
  Json entries = Json::array();
  for (const CalibrationEntry& entry : table.entries()) {
    Json json = op_to_json(entry.kind, entry.attributes, entry.inputs, entry.outputs);
    json["seconds"] = entry.seconds;
    entries.push_back(std::move(json));
  }
  return {{"format", "thimble-calibration"},      {"version", CalibrationTable::kVersion},
          {"device", table.place().device},       {"threads", table.place().threads},
          {"processor", table.place().processor}, {"engines", table.place().engines},
          {"entries", std::move(entries)}};
}

std::vector<TensorType> read_types(const Json& json, const char* name, const std::string& where) {
  std::vector<TensorType> types;
  for (const Json& type : array(json, name, where))
    types.push_back(read_type(type, where + "." + name + "[" + std::to_string(types.size()) + "]"));
  return types;
}

CalibrationPlace read_place(const Json& json) {
  return {text(json, "device", "top level"), static_cast<int>(integer(json, "threads", "top level", 1, 4096)),
          text(json, "processor", "top level"), read_strings(json, "engines")};
}

void refuse_another_place(const CalibrationPlace& there, const CalibrationPlace& here) {
  const auto compare = [](const std::string& what, const std::string& measured, const std::string& is) {
    if (measured != is) fail(what, "was measured with '" + measured + "', here it is '" + is + "'; calibrate again");
  };
  compare("device", there.device, here.device);
  compare("threads", std::to_string(there.threads), std::to_string(here.threads));
  compare("processor", there.processor, here.processor);
  for (const auto& [name, version] : here.engines)
    compare("engines." + name, there.engines.count(name) != 0 ? there.engines.at(name) : "absent", version);
  for (const auto& [name, version] : there.engines)
    if (here.engines.count(name) == 0) compare("engines." + name, version, "absent");
}

CalibrationTable table_from_json(const Json& json, const CalibrationPlace& here) {
  if (text(json, "format", "top level") != "thimble-calibration") fail("format", "is not 'thimble-calibration'");
  if (const std::int64_t version = integer(json, "version", "top level", 0, INT64_MAX);
      version != CalibrationTable::kVersion)
    fail("version", "is " + std::to_string(version) + ", this build reads " +
                        std::to_string(CalibrationTable::kVersion) + "; calibrate again");
  const CalibrationPlace place = read_place(json);
  refuse_another_place(place, here);
  std::vector<CalibrationEntry> entries;
  for (const Json& entry : array(json, "entries", "top level")) {
    const std::string where = "entries[" + std::to_string(entries.size()) + "]";
    entries.push_back({text(entry, "kind", where), read_attributes(entry, where), read_types(entry, "inputs", where),
                       read_types(entry, "outputs", where), positive(entry, "seconds", where)});
  }
  return {place, std::move(entries)};
}

std::string processor() {
  std::ifstream facts("/proc/cpuinfo");
  for (std::string line; std::getline(facts, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  utsname machine{};
  return uname(&machine) == 0 ? machine.machine : "unknown";
}

}  // namespace

CalibrationPlace this_place(const DeviceDescription& device, const OpRegistry& registry) {
  return {device.name, device.threads, processor(), registry.engines(device)};
}

std::string calibration_key(const CalibrationEntry& entry) {
  return dump(op_to_json(entry.kind, entry.attributes, entry.inputs, entry.outputs));
}

CalibrationTable::CalibrationTable(CalibrationPlace place, std::vector<CalibrationEntry> entries)
    : place_(std::move(place)) {
  std::map<std::string, CalibrationEntry> by_key;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    CalibrationEntry& entry = entries[i];
    const std::string which = "calibration: entries[" + std::to_string(i) + "], '" + entry.kind + "', ";
    if (!(entry.seconds > 0 && entry.seconds <= kMostSeconds))
      throw InvalidArgument(which + "takes " + dump(Json(entry.seconds)) + " seconds, outside (0, " +
                            dump(Json(kMostSeconds)) + "]");
    std::string key = calibration_key(entry);
    seconds_[key] = entry.seconds;
    if (!by_key.emplace(std::move(key), std::move(entry)).second)
      throw InvalidArgument(which + "has the attributes and shapes of an earlier entry; each is listed once");
  }
  for (auto& [key, entry] : by_key) entries_.push_back(std::move(entry));
  hash_ = hash_of(to_json(*this));
}

std::optional<double> CalibrationTable::seconds(const std::string& kind, const OpShape& shape) const {
  if (shape.device.threads != place_.threads || shape.device.name != place_.device) return std::nullopt;
  const auto found = seconds_.find(dump(op_to_json(kind, shape.attributes, shape.inputs, shape.outputs)));
  if (found == seconds_.end()) return std::nullopt;
  return found->second;
}

std::string write_calibration(const CalibrationTable& table) { return dump(to_json(table)) + "\n"; }

CalibrationTable read_calibration(std::string_view text, std::string_view name, const CalibrationPlace& here) {
  const Json json = parse(text, name);
  try {
    return table_from_json(json, here);
  } catch (const Error& error) {
    throw BadInput(std::string(name) + ": " + error.what());
  } catch (const nlohmann::json::exception& error) {
    throw BadInput(std::string(name) + ": " + error.what());
  }
}

}  // namespace thimble
