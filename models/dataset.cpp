#include "thimble/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "thimble/error.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kOfficialRecords = 10000;
constexpr std::int64_t kSyntheticTrain = 2000, kSyntheticTest = 1000;
constexpr int kClasses = 10;

void append_file(Dataset& dataset, const fs::path& path, std::int64_t expected_records) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw EnvironmentError("data: cannot read '" + path.string() +
                           "'; it belongs to the binary version of CIFAR-10, to be had from its authors' page at the "
                           "University of Toronto, cs.toronto.edu/~kriz/cifar.html");
  std::ostringstream bytes;
  bytes << in.rdbuf();
  const std::string text = std::move(bytes).str();
  const auto records = static_cast<std::int64_t>(text.size()) / Dataset::kRecord;
  if (expected_records > 0 && static_cast<std::int64_t>(text.size()) != expected_records * Dataset::kRecord)
    throw BadInput("data: '" + path.string() + "' has " + std::to_string(text.size()) + " bytes (" + std::to_string(records) +
                   " records), the official file has " + std::to_string(expected_records * Dataset::kRecord));
  append_records(dataset, text, path.string());
}

}  // namespace

void append_records(Dataset& dataset, std::string_view bytes, const std::string& file) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size == 0 || size % Dataset::kRecord != 0)
    throw BadInput("data: '" + file + "' has " + std::to_string(size) + " bytes, not a positive multiple of " +
                   std::to_string(Dataset::kRecord));
  for (std::int64_t at = 0; at < size; at += Dataset::kRecord)
    if (const auto label = static_cast<unsigned char>(bytes[static_cast<std::size_t>(at)]); label >= kClasses)
      throw BadInput("data: '" + file + "', record " + std::to_string(at / Dataset::kRecord) + ": label " +
                     std::to_string(label) + ", limit 9");
  dataset.records.insert(dataset.records.end(), bytes.begin(), bytes.end());
}

DataSets load_data(const std::string& where) {
  if (where == "synthetic") return {synthetic_data(kSyntheticTrain, 0), synthetic_data(kSyntheticTest, 1)};
  const fs::path folder(where);
  DataSets data;
  if (!fs::exists(folder / "data_batch_1.bin") && fs::exists(folder / "train_2000.bin")) {
    data.train.name = data.test.name = "cifar10-small";
    append_file(data.train, folder / "train_2000.bin", 0);
    append_file(data.test, folder / "test_1000.bin", 0);
    return data;
  }
  data.train.name = data.test.name = "cifar10";
  for (int i = 1; i <= 5; ++i)
    append_file(data.train, folder / ("data_batch_" + std::to_string(i) + ".bin"), kOfficialRecords);
  append_file(data.test, folder / "test_batch.bin", kOfficialRecords);
  return data;
}

Dataset synthetic_data(std::int64_t size, std::uint64_t stream) {
  Dataset dataset{.name = "synthetic", .records = {}};
  dataset.records.resize(static_cast<std::size_t>(size * Dataset::kRecord));
  for (std::int64_t i = 0; i < size; ++i) {
    std::uint8_t* record = dataset.records.data() + i * Dataset::kRecord;
    const int label = static_cast<int>(i % kClasses);
    record[0] = static_cast<std::uint8_t>(label);
    for (std::int64_t p = 0; p < Dataset::kPixels; ++p) {
      const auto row = static_cast<double>(p / 32 % 32), column = static_cast<double>(p % 32), plane = static_cast<double>(p / 1024);
      const double wave = std::cos(0.2 * (1 + label % 5) * row + plane) * std::cos(0.2 * (1 + label / 2) * column + label);
      const PhiloxBlock random = philox({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(stream), 0}, 1);
      const double noise = static_cast<double>(uniform_from(random[0])) + static_cast<double>(uniform_from(random[1])) - 1.0;
      record[1 + p] = static_cast<std::uint8_t>(std::clamp(128.0 + 40.0 * wave + 60.0 * noise, 0.0, 255.0));
    }
  }
  return dataset;
}

}  // namespace thimble
