// Labelled pictures: CIFAR-10 from its binary files, or made up.
//
//   DataSets data = load_data("path/to/cifar-10-batches-bin");   // or load_data("synthetic")
//   data.train.size();  data.train.label(0);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

/// Records as in CIFAR-10's binary version: one label byte, then 32x32 red, green and blue planes.
struct Dataset {
  static constexpr std::int64_t kPixels = 3 * 32 * 32;
  static constexpr std::int64_t kRecord = 1 + kPixels;
  std::string name;
  std::vector<std::uint8_t> records;
  std::int64_t size() const { return static_cast<std::int64_t>(records.size()) / kRecord; }
  int label(std::int64_t i) const { return records[static_cast<std::size_t>(i * kRecord)]; }
  const std::uint8_t* pixels(std::int64_t i) const { return records.data() + i * kRecord + 1; }
};

struct DataSets {
  Dataset train, test;
};

/// `synthetic`, or a folder with data_batch_1.bin ... data_batch_5.bin and test_batch.bin; where those are absent, with
/// train_2000.bin and test_1000.bin (a subset, and named so). Throws EnvironmentError that names a missing file and where the data set
/// is to be had, BadInput for one of another size or with labels beyond 9.
DataSets load_data(const std::string& where);

/// Checks and takes one file's bytes; for parsing without files.
void append_records(Dataset& dataset, std::string_view bytes, const std::string& file);

/// Class-dependent waves under noise: deterministic, learnable, and called `synthetic` wherever it is named.
Dataset synthetic_data(std::int64_t size, std::uint64_t stream);

}  // namespace thimble
