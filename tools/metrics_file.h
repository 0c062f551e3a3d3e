// metrics.jsonl: one JSON object a line, flushed line by line.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace thimble {

class MetricsFile {
 public:
  /// Keeps of an earlier run what led to `steps_done`, so that steps which are done again are listed once and a line
  /// torn by a kill goes; everything else is dropped. Writes nothing where `path` is empty. Throws EnvironmentError.
  MetricsFile(const std::string& path, std::int64_t steps_done, std::int64_t steps_per_epoch);

  void write(const nlohmann::ordered_json& line);
  /// Whether the kept lines end with the summary of a finished run.
  bool is_complete() const { return is_complete_; }

 private:
  std::string path_;
  std::ofstream out_;
  bool is_complete_ = false;
};

}  // namespace thimble
