#include "thimble/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "thimble/error.h"

namespace thimble {
namespace {

// Red counts columns, green counts rows, blue is 200.
std::vector<std::uint8_t> ramp() {
  std::vector<std::uint8_t> picture(kPictureBytes, 200);
  for (std::size_t y = 0; y < 32; ++y)
    for (std::size_t x = 0; x < 32; ++x) {
      picture[y * 32 + x] = static_cast<std::uint8_t>(x);
      picture[1024 + y * 32 + x] = static_cast<std::uint8_t>(y);
    }
  return picture;
}

struct Written {
  std::vector<float> values;
  int column(std::size_t y, std::size_t x) const {
    return static_cast<int>(std::lround(values[(y * 32 + x) * 3] * 63.0 + 125.3));
  }
  int row(std::size_t y, std::size_t x) const {
    return static_cast<int>(std::lround(values[(y * 32 + x) * 3 + 1] * 62.1 + 123.0));
  }
};

Written written(const Crop& crop) {
  Written out{std::vector<float>(kPictureBytes)};
  write_picture(ramp(), crop, out.values);
  return out;
}

TEST(WritePicture, NormalizesToChannelsLast) {
  const Written plain = written({});
  EXPECT_EQ(plain.column(5, 9), 9);
  EXPECT_EQ(plain.row(5, 9), 5);
  EXPECT_FLOAT_EQ(plain.values[(5 * 32 + 9) * 3 + 2], static_cast<float>((200 - 113.9) / 66.7));
  EXPECT_FLOAT_EQ(plain.values[(5 * 32 + 9) * 3], static_cast<float>((9 - 125.3) / 63.0));
}

// Padded by four: columns 4 3 2 1 | 0 1 ... 31 | 30 29 28 27.
TEST(WritePicture, ReflectsWithoutRepeatingTheBorder) {
  const Written corner = written({.row = 0, .column = 0});
  for (std::size_t i = 0; i < 8; ++i) {
    const int expected[] = {4, 3, 2, 1, 0, 1, 2, 3};
    EXPECT_EQ(corner.column(0, i), expected[i]);
    EXPECT_EQ(corner.row(i, 0), expected[i]);
  }
  const Written other = written({.row = 8, .column = 8});
  const int expected[] = {30, 31, 30, 29, 28, 27};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(other.column(0, 26 + i), expected[i]);
    EXPECT_EQ(other.row(26 + i, 0), expected[i]);
  }
}

TEST(WritePicture, FlipMirrorsTheCrop) {
  const Written straight = written({.row = 2, .column = 7}), flipped = written({.row = 2, .column = 7, .flip = true});
  for (std::size_t x = 0; x < 32; ++x) EXPECT_EQ(flipped.column(3, x), straight.column(3, 31 - x));
  EXPECT_EQ(flipped.row(3, 0), straight.row(3, 31));
}

TEST(RandomCrop, ReachesEveryPlaceAboutEquallyOften) {
  int rows[9] = {}, columns[9] = {}, flips = 0;
  constexpr int kDraws = 9000;
  for (int i = 0; i < kDraws; ++i) {
    const Crop crop = random_crop(3, 1, i);
    ASSERT_TRUE(crop.row >= 0 && crop.row <= 8 && crop.column >= 0 && crop.column <= 8);
    ++rows[crop.row];
    ++columns[crop.column];
    flips += crop.flip;
  }
  for (int place = 0; place < 9; ++place) {
    EXPECT_NEAR(rows[place], kDraws / 9, 150);  // five standard deviations
    EXPECT_NEAR(columns[place], kDraws / 9, 150);
  }
  EXPECT_NEAR(flips, kDraws / 2, 240);
  EXPECT_NE(random_crop(3, 1, 0), random_crop(3, 2, 0));
}

struct Batch {
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  explicit Batch(std::size_t samples) : images(samples * kPictureBytes, -99.0f), labels(samples, -1) {}
};

TEST(TrainingBatch, DoesNotDependOnTheCut) {
  const Dataset data = synthetic_data(50, 0);
  Batch whole(20), parts(20);
  fill_training_batch(data, 9, 2, 10, true, whole.images, whole.labels);
  for (std::size_t begin : {0u, 7u, 13u}) {
    const std::size_t count = begin == 13 ? 7 : begin == 7 ? 6 : 7;
    fill_training_batch(data, 9, 2, 10 + static_cast<std::int64_t>(begin), true,
                        std::span(parts.images).subspan(begin * kPictureBytes, count * kPictureBytes),
                        std::span(parts.labels).subspan(begin, count));
  }
  EXPECT_EQ(whole.images, parts.images);
  EXPECT_EQ(whole.labels, parts.labels);
}

TEST(TrainingBatch, SeesEverySampleOnceAnEpochAndChangesWithIt) {
  const Dataset data = synthetic_data(40, 0);
  Batch plain(40), first(40), second(40), in_order(40);
  fill_training_batch(data, 1, 0, 0, false, plain.images, plain.labels);
  fill_training_batch(data, 1, 0, 0, true, first.images, first.labels);
  fill_training_batch(data, 1, 1, 0, true, second.images, second.labels);
  fill_evaluation_batch(data, 0, in_order.images, in_order.labels);
  EXPECT_EQ(plain.labels, first.labels);
  EXPECT_NE(plain.images, first.images);
  EXPECT_NE(first.images, second.images);
  const auto pictures = [](const Batch& batch) {
    std::multiset<std::vector<float>> all;
    for (std::size_t i = 0; i < batch.labels.size(); ++i)
      all.insert({batch.images.begin() + static_cast<std::ptrdiff_t>(i * kPictureBytes),
                  batch.images.begin() + static_cast<std::ptrdiff_t>((i + 1) * kPictureBytes)});
    return all;
  };
  EXPECT_EQ(pictures(plain), pictures(in_order));
  EXPECT_NE(plain.images, in_order.images);
}

TEST(TrainingBatch, RefusesSamplesThatAreNotThere) {
  const Dataset data = synthetic_data(10, 0);
  Batch batch(4);
  EXPECT_THROW(fill_training_batch(data, 0, 0, 7, true, batch.images, batch.labels), InvalidArgument);
  EXPECT_THROW(fill_evaluation_batch(data, -1, batch.images, batch.labels), InvalidArgument);
  EXPECT_THROW(fill_evaluation_batch(data, 0, std::span(batch.images).first(5), batch.labels), InvalidArgument);
  EXPECT_NO_THROW(fill_evaluation_batch(data, 6, batch.images, batch.labels));
}

}  // namespace
}  // namespace thimble
