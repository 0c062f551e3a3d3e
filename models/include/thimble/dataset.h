// Labelled 32x32 colour pictures: CIFAR-10 from its binary files, or synthetic ones.
//
//   DataSets data = load_data("synthetic");        // or a folder with data_batch_1.bin ... test_batch.bin
//   data.train.size(); data.train.picture(7);      // 3072 bytes: red, green and blue planes of 32 rows
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

inline constexpr std::int64_t kPictureSide = 32;
inline constexpr std::int64_t kPictureChannels = 3;
inline constexpr std::int64_t kPictureBytes = kPictureChannels * kPictureSide * kPictureSide;
inline constexpr int kPictureClasses = 10;
/// Of CIFAR-10's red, green and blue: what a picture's bytes are normalised with.
inline constexpr std::array<double, kPictureChannels> kPictureMean{125.3, 123.0, 113.9};
inline constexpr std::array<double, kPictureChannels> kPictureDeviation{63.0, 62.1, 66.7};

struct Dataset {
  std::string name;                    ///< what reports and checkpoints call it; says where it is synthetic or partial
  std::vector<std::uint8_t> pixels{};  ///< kPictureBytes for each picture, channel planes (CHW)
  std::vector<std::uint8_t> labels{};  ///< below kPictureClasses
  bool synthetic = false;

  static constexpr std::int64_t kPixels = kPictureBytes;
  static constexpr std::int64_t kRecord = 1 + kPixels;  ///< of a file: label, then pixels

  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  std::span<const std::uint8_t> picture(std::int64_t index) const {
    return std::span(pixels).subspan(static_cast<std::size_t>(index * kPictureBytes), kPictureBytes);
  }
};

struct DataSets {
  Dataset train;
  Dataset test;
};

inline constexpr const char* kSynthetic = "synthetic";

/// `kSynthetic`, with as many samples, or a folder for load_cifar10.
DataSets load_data(const std::string& source, std::int64_t synthetic_train = 2000, std::int64_t synthetic_test = 1000);

/// Reads data_batch_1.bin ... data_batch_5.bin and test_batch.bin (10,000 records each) of the CIFAR-10 binary version;
/// in a folder without any of them, train_2000.bin and test_1000.bin. Throws EnvironmentError for a file that is not
/// there, BadInput, naming file, record and value, for one of another size or with a label of 10 or more.
DataSets load_cifar10(const std::string& folder);

/// Appends the records (label byte, then 3072 bytes) of one file called `file` in messages. Throws BadInput and leaves
/// `dataset` as it was where the size is no multiple of 3073 or a label is out of range.
void append_records(Dataset& dataset, std::string_view bytes, std::string_view file);

/// Pictures that can be learned: a smooth pattern for each class, brightness and noise for each picture. Classes in
/// turn, so that every prefix is balanced. All streams share the patterns; a stream's bytes never change. Throws
/// InvalidArgument for a size that is negative or above 1,000,000.
Dataset synthetic_data(std::int64_t size, std::uint64_t stream);

}  // namespace thimble
