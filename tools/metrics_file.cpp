#include "metrics_file.h"

#include <filesystem>
#include <sstream>

#include "model_options.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// Whether a line says what was so once `steps` steps were done, or earlier. Not where it is none of ours, or torn.
bool is_of(std::uint64_t steps, std::uint64_t steps_per_epoch, const nlohmann::json& line) {
  const auto is_within = [&](const char* key, std::uint64_t most) {
    return line.contains(key) && line.at(key).is_number_unsigned() && line.at(key).get<std::uint64_t>() <= most;
  };
  return line.is_object() &&
         (is_within("step", steps) || is_within("steps", steps) || is_within("epoch_end", steps / steps_per_epoch));
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, std::int64_t steps_done, std::int64_t steps_per_epoch) : path_(path) {
  if (path.empty()) return;
  std::string kept;
  if (steps_done > 0 && std::filesystem::exists(path)) {
    std::istringstream lines(read_file(path));
    for (std::string text; std::getline(lines, text);) {
      const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (!is_of(static_cast<std::uint64_t>(steps_done), static_cast<std::uint64_t>(steps_per_epoch), line)) continue;
      kept += text + '\n';
      is_complete_ = line.contains("steps");
    }
  }
  write_file(path, kept);
  out_.open(path, std::ios::app);
  if (!out_) throw EnvironmentError("cannot write '" + path + "'");
}

void MetricsFile::write(const nlohmann::ordered_json& line) {
  if (path_.empty()) return;
  out_ << line.dump() << '\n' << std::flush;
  if (!out_) throw EnvironmentError("cannot write '" + path_ + "'; is the disk full?");
}

}  // namespace thimble
