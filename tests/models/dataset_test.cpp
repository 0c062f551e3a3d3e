#include "thimble/dataset.h"

#include <array>
#include <cstdlib>

#include "temporary_folder.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// Record r has label r % 10 and every pixel r % 251.
std::string records(std::int64_t count) {
  std::string bytes;
  for (std::int64_t r = 0; r < count; ++r) {
    bytes += static_cast<char>(r % 10);
    bytes.append(static_cast<std::size_t>(Dataset::kPixels), static_cast<char>(r % 251));
  }
  return bytes;
}

TEST(Cifar10, ReadsTheSmallFilesAndSaysSo) {
  TemporaryFolder folder;
  folder.write("train_2000.bin", records(2000));
  folder.write("test_1000.bin", records(1000));
  const DataSets data = load_cifar10(folder.path());
  ASSERT_EQ(data.train.size(), 2000);
  ASSERT_EQ(data.test.size(), 1000);
  EXPECT_TRUE(holds(data.train.name, "2000 of 50000")) << data.train.name;
  EXPECT_FALSE(data.train.synthetic);
  EXPECT_EQ(data.train.labels[1999], 9);
  EXPECT_EQ(data.train.picture(1999).front(), 1999 % 251);
  EXPECT_EQ(data.train.picture(1999).back(), 1999 % 251);
}

// Sparse files of zeros: black aeroplanes.
TEST(Cifar10, ReadsTheOfficialFiles) {
  TemporaryFolder folder;
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"}) {
    folder.write(name, "");
    std::filesystem::resize_file(folder.file(name), 30'730'000);
  }
  folder.write("train_2000.bin", "the official files win");
  const DataSets data = load_cifar10(folder.path());
  EXPECT_EQ(data.train.size(), 50000);
  EXPECT_EQ(data.test.size(), 10000);
  std::filesystem::remove(folder.file("data_batch_4.bin"));
  EXPECT_TRUE(holds(message_of<EnvironmentError>([&] { load_cifar10(folder.path()); }), "data_batch_4.bin"));
}

TEST(Cifar10, NamesTheMissingFileAndWhereItComesFrom) {
  TemporaryFolder folder;
  const std::string message = message_of<EnvironmentError>([&] { load_cifar10(folder.path()); });
  EXPECT_TRUE(holds(message, "data_batch_1.bin")) << message;
  EXPECT_TRUE(holds(message, "cs.toronto.edu/~kriz/cifar.html")) << message;
  EXPECT_THROW(load_cifar10(folder.file("no such folder")), EnvironmentError);
}

TEST(Cifar10, RefusesFilesOfAnotherSize) {
  TemporaryFolder folder;
  for (std::size_t size :
       {std::size_t{2000 * 3073 - 1}, std::size_t{1999 * 3073}, std::size_t{0}, std::size_t{2001 * 3073}}) {
    folder.write("train_2000.bin", records(2001).substr(0, size));
    const std::string message = message_of<BadInput>([&] { load_cifar10(folder.path()); });
    EXPECT_TRUE(holds(message, "train_2000.bin") && holds(message, std::to_string(size))) << message;
  }
}

TEST(Cifar10, RefusesLabelsOutOfRangeAndLeavesTheDataSetAlone) {
  std::string bytes = records(12);
  bytes[7 * 3073] = 10;
  Dataset dataset;
  const std::string message = message_of<BadInput>([&] { append_records(dataset, bytes, "some.bin"); });
  EXPECT_EQ(message, "some.bin: record 7 has label 10, the highest is 9");
  EXPECT_EQ(dataset.size(), 0);
  EXPECT_TRUE(dataset.pixels.empty());
  EXPECT_THROW(append_records(dataset, bytes.substr(0, 3074), "some.bin"), BadInput);
}

TEST(Cifar10, ReadsTheSharedPictures) {
  const char* variable = std::getenv("THIMBLE_SHARED");
  const std::filesystem::path shared = variable ? variable : THIMBLE_SOURCE_DIR "/../shared";
  const auto folder = shared / "data/cifar10/small";
  if (!std::filesystem::exists(folder / "train_2000.bin")) {
    const char* required = std::getenv("THIMBLE_REQUIRE_SHARED");
    if (required && std::string(required) == "1") FAIL() << folder << " is not there";
    GTEST_SKIP() << folder << " is not there; set THIMBLE_SHARED";
  }
  const DataSets data = load_data(folder.string());
  std::array<int, kPictureClasses> counts{};
  for (std::uint8_t label : data.train.labels) ++counts[label];
  for (int count : counts) EXPECT_EQ(count, 200);
  std::array<double, 3> mean{};
  for (std::size_t i = 0; i < data.train.pixels.size(); ++i)
    mean[i / 1024 % 3] += data.train.pixels[i] / (2000.0 * 1024);
  EXPECT_NEAR(mean[0], 125.3, 3);  // the whole set's means, within what 2,000 pictures differ
  EXPECT_NEAR(mean[1], 123.0, 3);
  EXPECT_NEAR(mean[2], 113.9, 3);
}

double nearest_mean_accuracy(const Dataset& train, const Dataset& test) {
  std::vector<std::vector<double>> means(kPictureClasses, std::vector<double>(kPictureBytes));
  for (std::int64_t i = 0; i < train.size(); ++i)
    for (std::size_t p = 0; p < kPictureBytes; ++p)
      means[train.labels[static_cast<std::size_t>(i)]][p] +=
          train.picture(i)[p] / (static_cast<double>(train.size()) / kPictureClasses);
  int correct = 0;
  for (std::int64_t i = 0; i < test.size(); ++i) {
    const auto distance = [&](const std::vector<double>& mean) {
      double sum = 0;
      for (std::size_t p = 0; p < kPictureBytes; ++p)
        sum += (test.picture(i)[p] - mean[p]) * (test.picture(i)[p] - mean[p]);
      return sum;
    };
    std::size_t best = 0;
    for (std::size_t c = 1; c < means.size(); ++c)
      if (distance(means[c]) < distance(means[best])) best = c;
    correct += best == test.labels[static_cast<std::size_t>(i)];
  }
  return correct / static_cast<double>(test.size());
}

TEST(Synthetic, CanBeLearned) {
  const Dataset train = synthetic_data(500, 0), test = synthetic_data(200, 1);
  EXPECT_GT(nearest_mean_accuracy(train, test), 0.8);
}

TEST(Synthetic, IsDeterministicAndLabelled) {
  const DataSets data = load_data("synthetic");
  EXPECT_EQ(data.train.size(), 2000);
  EXPECT_TRUE(data.train.synthetic && data.test.synthetic);
  EXPECT_TRUE(holds(data.train.name, "synthetic"));
  EXPECT_EQ(synthetic_data(30, 0).pixels, synthetic_data(30, 0).pixels);
  EXPECT_NE(synthetic_data(30, 0).pixels, synthetic_data(30, 1).pixels);
  const auto longer = synthetic_data(40, 0).pixels;
  EXPECT_TRUE(std::equal(longer.begin(), longer.begin() + 30 * kPictureBytes, data.train.pixels.begin()));
  EXPECT_THROW(synthetic_data(-1, 0), InvalidArgument);
}

}  // namespace
}  // namespace thimble
