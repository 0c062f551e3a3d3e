#include <filesystem>
#include <fstream>

#include "thimble/dataset.h"
#include "thimble/error.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kOfficialRecords = 10000;

[[noreturn]] void file_missing(const fs::path& path) {
  throw EnvironmentError("cifar10: cannot read '" + path.string() +
                         "'; it is part of the CIFAR-10 binary version from its authors' page at the University of "
                         "Toronto (cs.toronto.edu/~kriz/cifar.html); or train on `synthetic`");
}

void append_file(Dataset& dataset, const fs::path& path, std::int64_t records) {
  std::error_code error;
  const auto size = static_cast<std::int64_t>(fs::file_size(path, error));
  if (error) file_missing(path);
  if (size != records * Dataset::kRecord)  // before anything is allocated
    throw BadInput(path.string() + ": has " + std::to_string(size) + " bytes, " + std::to_string(records) +
                   " records of " + std::to_string(Dataset::kRecord) + " are " +
                   std::to_string(records * Dataset::kRecord));
  std::ifstream in(path, std::ios::binary);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  if (!in.read(bytes.data(), size)) file_missing(path);
  append_records(dataset, bytes, path.string());
}

bool has_official_file(const fs::path& folder) {
  if (fs::exists(folder / "test_batch.bin")) return true;
  for (int i = 1; i <= 5; ++i)
    if (fs::exists(folder / ("data_batch_" + std::to_string(i) + ".bin"))) return true;
  return false;
}

Dataset with_room(std::string name, std::int64_t records) {
  Dataset dataset{.name = std::move(name)};
  dataset.pixels.reserve(static_cast<std::size_t>(records * kPictureBytes));
  dataset.labels.reserve(static_cast<std::size_t>(records));
  return dataset;
}

}  // namespace

void append_records(Dataset& dataset, std::string_view bytes, std::string_view file) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  const std::int64_t records = size / Dataset::kRecord;
  if (size % Dataset::kRecord != 0)
    throw BadInput(std::string(file) + ": has " + std::to_string(size) + " bytes, no whole number of records of " +
                   std::to_string(Dataset::kRecord));
  const auto at = [&](std::int64_t record) {
    return reinterpret_cast<const std::uint8_t*>(bytes.data()) + record * Dataset::kRecord;
  };
  for (std::int64_t r = 0; r < records; ++r)
    if (*at(r) >= kPictureClasses)
      throw BadInput(std::string(file) + ": record " + std::to_string(r) + " has label " + std::to_string(*at(r)) +
                     ", the highest is " + std::to_string(kPictureClasses - 1));
  for (std::int64_t r = 0; r < records; ++r) {
    dataset.labels.push_back(*at(r));
    dataset.pixels.insert(dataset.pixels.end(), at(r) + 1, at(r) + Dataset::kRecord);
  }
}

DataSets load_cifar10(const std::string& folder) {
  const fs::path path(folder);
  if (!has_official_file(path) && fs::exists(path / "train_2000.bin")) {
    DataSets small{with_room("cifar10-small train (2000 of 50000)", 2000),
                   with_room("cifar10-small test (1000 of 10000)", 1000)};
    append_file(small.train, path / "train_2000.bin", 2000);
    append_file(small.test, path / "test_1000.bin", 1000);
    return small;
  }
  DataSets all{with_room("cifar10 train", 0), with_room("cifar10 test", 0)};
  for (int i = 1; i <= 5; ++i) {
    append_file(all.train, path / ("data_batch_" + std::to_string(i) + ".bin"), kOfficialRecords);
    if (i == 1) {  // room only once there is a first file
      all.train.pixels.reserve(static_cast<std::size_t>(5 * kOfficialRecords * kPictureBytes));
      all.train.labels.reserve(static_cast<std::size_t>(5 * kOfficialRecords));
    }
  }
  append_file(all.test, path / "test_batch.bin", kOfficialRecords);
  return all;
}

DataSets load_data(const std::string& source, std::int64_t synthetic_train, std::int64_t synthetic_test) {
  if (source != kSynthetic) return load_cifar10(source);
  DataSets data{synthetic_data(synthetic_train, 0), synthetic_data(synthetic_test, 1)};
  data.train.name += " train";
  data.test.name += " test";
  return data;
}

}  // namespace thimble
