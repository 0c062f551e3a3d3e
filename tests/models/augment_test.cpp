#include "thimble/augment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "thimble/error.h"

namespace thimble {
namespace {

TEST(RandomCrop, ReachesEveryPlaceAboutEquallyOften) {
  int rows[9] = {}, columns[9] = {}, flips = 0;
  constexpr int kDraws = 9000;
  for (int i = 0; i < kDraws; ++i) {
    const Crop crop = random_crop(3, 1, i);
    const auto [row, column, is_mirrored] = crop;
    ASSERT_TRUE(std::abs(row) <= kCropPadding && std::abs(column) <= kCropPadding);
    ASSERT_TRUE(is_mirrored == 0 || is_mirrored == 1);
    ++rows[row + kCropPadding];
    ++columns[column + kCropPadding];
    flips += is_mirrored;
  }
  for (int place = 0; place < 9; ++place) {
    EXPECT_NEAR(rows[place], kDraws / 9, 150);  // five standard deviations
    EXPECT_NEAR(columns[place], kDraws / 9, 150);
  }
  EXPECT_NEAR(flips, kDraws / 2, 240);
  EXPECT_NE(random_crop(3, 1, 0), random_crop(3, 2, 0));
}

struct Batch {
  std::vector<std::uint8_t> pictures;
  std::vector<std::int32_t> crops, labels;
  explicit Batch(std::size_t samples)
      : pictures(samples * kPictureBytes, 99), crops(samples * kCropValues, -99), labels(samples, -1) {}
  PictureBatch samples(std::size_t begin, std::size_t end) {
    const auto part = [&](auto& all, std::size_t of_sample) {
      return std::span(all).subspan(begin * of_sample, (end - begin) * of_sample);
    };
    return {part(pictures, kPictureBytes), part(crops, kCropValues), part(labels, 1)};
  }
  PictureBatch all() { return samples(0, labels.size()); }
  bool operator==(const Batch&) const = default;
};

TEST(TrainingBatch, DoesNotDependOnTheCut) {
  const Dataset data = synthetic_data(50, 0);
  Batch whole(20), parts(20);
  fill_training_batch(data, 9, 2, 10, true, whole.all());
  for (const auto& [begin, end] : {std::pair{0u, 7u}, {7u, 13u}, {13u, 20u}})
    fill_training_batch(data, 9, 2, 10 + static_cast<std::int64_t>(begin), true, parts.samples(begin, end));
  EXPECT_TRUE(whole == parts);
}

TEST(TrainingBatch, SeesEverySampleOnceAnEpochAndChangesWithIt) {
  const Dataset data = synthetic_data(40, 0);
  Batch plain(40), first(40), second(40), in_order(40);
  fill_training_batch(data, 1, 0, 0, false, plain.all());
  fill_training_batch(data, 1, 0, 0, true, first.all());
  fill_training_batch(data, 1, 1, 0, true, second.all());
  fill_evaluation_batch(data, 0, in_order.all());
  EXPECT_EQ(plain.labels, first.labels);
  EXPECT_EQ(plain.pictures, first.pictures);
  EXPECT_EQ(plain.crops, std::vector<std::int32_t>(plain.crops.size(), 0));
  EXPECT_NE(plain.crops, first.crops);
  EXPECT_NE(first.pictures, second.pictures);
  const auto pictures = [](const Batch& batch) {
    std::multiset<std::vector<std::uint8_t>> all;
    for (std::size_t i = 0; i < batch.labels.size(); ++i)
      all.insert({batch.pictures.begin() + static_cast<std::ptrdiff_t>(i * kPictureBytes),
                  batch.pictures.begin() + static_cast<std::ptrdiff_t>((i + 1) * kPictureBytes)});
    return all;
  };
  EXPECT_EQ(pictures(plain), pictures(in_order));
  EXPECT_NE(plain.pictures, in_order.pictures);
}

TEST(TrainingBatch, RefusesSamplesThatAreNotThere) {
  const Dataset data = synthetic_data(10, 0);
  Batch batch(4);
  EXPECT_THROW(fill_training_batch(data, 0, 0, 7, true, batch.all()), InvalidArgument);
  EXPECT_THROW(fill_evaluation_batch(data, -1, batch.all()), InvalidArgument);
  EXPECT_NO_THROW(fill_evaluation_batch(data, 6, batch.all()));
}

TEST(TrainingBatch, FillsWhatIsAskedForAndRefusesSpansThatDisagree) {
  const Dataset data = synthetic_data(10, 0);
  Batch all(4), some(4);
  fill_training_batch(data, 3, 0, 2, true, all.all());
  fill_training_batch(data, 3, 0, 2, true, {.pictures = {}, .crops = some.crops, .labels = {}});
  EXPECT_EQ(some.crops, all.crops);
  EXPECT_EQ(some.labels, Batch(4).labels);
  const auto refused = [&](const PictureBatch& batch) {
    EXPECT_THROW(fill_evaluation_batch(data, 0, batch), InvalidArgument);
  };
  refused({std::span(all.pictures).first(5), {}, {}});
  refused({all.pictures, std::span(all.crops).first(9), {}});
  refused({all.pictures, all.crops, std::span(all.labels).first(3)});
}

}  // namespace
}  // namespace thimble
