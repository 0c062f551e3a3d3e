#include "thimble/checkpoint.h"

#include <algorithm>
#include <random>

#include "temporary_folder.h"
#include "thimble/error.h"
#include "thimble/safetensors.h"

namespace thimble {
namespace {

// Two weights, a statistic and a momentum, in storage of their own.
struct State {
  std::vector<float> weight, bias, mean, momentum;
  explicit State(float start) : weight(6), bias(2), mean(2), momentum(6) {
    for (auto* values : {&weight, &bias, &mean, &momentum})
      for (float& value : *values) value = start++;
  }
  std::vector<CheckpointTensor> views() {
    const auto view = [](const char* name, std::vector<std::int64_t> shape, Role role, std::vector<float>& values) {
      return CheckpointTensor{name, {DType::f32, std::move(shape)}, role, reinterpret_cast<std::byte*>(values.data())};
    };
    return {view("fc.weight", {2, 3}, Role::weight, weight), view("fc.bias", {2}, Role::weight, bias),
            view("bn.running_mean", {2}, Role::statistic, mean),
            view("fc.weight.momentum", {2, 3}, Role::optimizer, momentum)};
  }
  bool operator==(const State&) const = default;
};

const CheckpointRecord kRecord{.graph_hash = "g",
                               .arithmetic_hash = "a",
                               .data_name = "synthetic train",
                               .learning_rate = "0.1 constant",
                               .optimizer = "nesterov 0.9",
                               .regularization = "dropout 0",
                               .seed = ~std::uint64_t{0},
                               .step = 500,
                               .total_steps = 1000,
                               .batch = 128};

TEST(Checkpoint, GivesBackTensorsAndRecord) {
  TemporaryFolder folder;
  State saved(1), loaded(100);
  save_checkpoint(folder.file("c"), saved.views(), kRecord);
  EXPECT_EQ(load_checkpoint(folder.file("c"), loaded.views()), kRecord);
  EXPECT_EQ(loaded, saved);
}

TEST(Checkpoint, NamesTensorsThatDoNotMatchAndTouchesNone) {
  TemporaryFolder folder;
  State saved(1), target(100);
  const auto refused = [&](std::vector<CheckpointTensor> in_file, std::vector<CheckpointTensor> wanted,
                           const char* part) {
    save_checkpoint(folder.file("c"), in_file, kRecord);
    const std::string message = message_of<BadInput>([&] { load_checkpoint(folder.file("c"), wanted); });
    EXPECT_TRUE(holds(message, part)) << message;
    EXPECT_EQ(target, State(100));
  };
  const auto without = [](std::vector<CheckpointTensor> views, std::size_t i) {
    views.erase(views.begin() + static_cast<std::ptrdiff_t>(i));
    return views;
  };
  refused(without(saved.views(), 1), target.views(), "lacks tensors that the run needs: 'fc.bias'");
  refused(without(saved.views(), 3), target.views(), "'fc.weight.momentum'");
  refused(saved.views(), without(target.views(), 2), "does not know: 'bn.running_mean'");
  auto turned = target.views();
  turned[0].type.shape = {3, 2};
  refused(saved.views(), turned, "'fc.weight' is F32[2,3], the model needs F32[3,2]");
  auto whole = target.views();
  whole[1].type.dtype = DType::i32;
  refused(saved.views(), whole, "'fc.bias' is F32[2], the model needs I32[2]");
}

TEST(Checkpoint, RefusesARecordThatLies) {
  TemporaryFolder folder;
  State state(1);
  save_checkpoint(folder.file("c"), state.views(), kRecord);
  const auto good = SafetensorsReader(folder.file("c")).header().metadata;
  std::vector<NamedBytes> tensors;
  for (const CheckpointTensor& view : state.views())
    tensors.push_back({view.name, view.type, {view.data, static_cast<std::size_t>(bytes_of(view.type).value)}});
  const auto refused = [&](const char* key, const char* value) {
    auto metadata = good;
    if (value == nullptr)
      metadata.erase(key);
    else
      metadata[key] = value;
    write_safetensors(folder.file("c"), tensors, metadata);
    const std::string message = message_of<BadInput>([&] { load_checkpoint(folder.file("c"), state.views()); });
    EXPECT_TRUE(holds(message, std::string("'") + key + "'")) << key << ": " << message;
  };
  for (const auto& entry : good) refused(entry.first.c_str(), nullptr);
  refused("format", "another");
  refused("version", "2");
  refused("step", "1001");
  refused("step", "-1");
  refused("step", "5 ");
  refused("step", "");
  refused("total_steps", "99999999999999999999");
  refused("batch", "0");
  refused("seed", "-1");
  refused("seed", "18446744073709551616");
}

TEST(Checkpoint, KeepsTheOldFileWhereTheNewOneCannotBeWritten) {
  TemporaryFolder folder;
  State state(1);
  EXPECT_THROW(save_checkpoint(folder.file("no/such"), state.views(), kRecord), EnvironmentError);
  EXPECT_EQ(folder.file_count(), 0u);
}

TEST(InitialWeights, NeedNoMomentumAndReportTheRest) {
  TemporaryFolder folder;
  State saved(1), target(100);
  auto views = saved.views();
  views.pop_back();
  views.push_back(
      {"bn.num_batches_tracked", {DType::f32, {2}}, Role::other, reinterpret_cast<std::byte*>(saved.bias.data())});
  std::vector<NamedBytes> tensors;
  for (const CheckpointTensor& view : views)
    tensors.push_back({view.name, view.type, {view.data, static_cast<std::size_t>(bytes_of(view.type).value)}});
  write_safetensors(folder.file("w"), tensors, {});
  const InitialWeights report = load_weights(folder.file("w"), target.views());
  EXPECT_EQ(report.missing, std::vector<std::string>{"fc.weight.momentum"});
  EXPECT_EQ(report.unused, std::vector<std::string>{"bn.num_batches_tracked"});
  EXPECT_EQ(target.weight, saved.weight);
  EXPECT_EQ(target.mean, saved.mean);
  EXPECT_EQ(target.momentum, State(100).momentum);
  EXPECT_TRUE(holds(message_of<BadInput>([&] { load_checkpoint(folder.file("w"), target.views()); }), "--init"));
}

TEST(InitialWeights, RefuseAFileWithoutAWeightOrStatistic) {
  TemporaryFolder folder;
  State saved(1), target(100);
  for (std::size_t i : {0u, 1u, 2u}) {
    auto views = saved.views();
    const std::string name = views[i].name;
    views.erase(views.begin() + static_cast<std::ptrdiff_t>(i));
    save_checkpoint(folder.file("w"), views, kRecord);
    EXPECT_TRUE(holds(message_of<BadInput>([&] { load_weights(folder.file("w"), target.views()); }), name));
    EXPECT_EQ(target, State(100));
  }
}

// Numbers whose sum in float would round differently.
State drawn(std::uint32_t seed) {
  State state(0);
  std::mt19937 random(seed);
  for (auto* values : {&state.weight, &state.bias, &state.mean, &state.momentum})
    for (float& value : *values) value = (static_cast<float>(random() >> 8) - 8e6f) * (seed == 1 ? 1.0f : 1e-7f);
  return state;
}

TEST(AverageCheckpoints, GiveTheMeanInDoubleAndNoState) {
  TemporaryFolder folder;
  std::vector<State> states;
  std::vector<std::string> files;
  for (std::uint32_t i = 1; i <= 3; ++i) {
    states.push_back(drawn(i));
    files.push_back(folder.file("c" + std::to_string(i)));
    save_checkpoint(files.back(), states.back().views(), kRecord);
    State loaded(100);
    average_checkpoints(files, folder.file("mean"));
    const InitialWeights report = load_weights(folder.file("mean"), loaded.views());
    EXPECT_EQ(report.missing, std::vector<std::string>{"fc.weight.momentum"});
    EXPECT_EQ(report.unused, std::vector<std::string>{});
    EXPECT_EQ(loaded.momentum, State(100).momentum);
    bool differs_from_float = false;
    for (auto part : {&State::weight, &State::bias, &State::mean})
      for (std::size_t k = 0; k < (loaded.*part).size(); ++k) {
        double sum = 0;
        float rounded = 0;
        for (const State& state : states) sum += static_cast<double>((state.*part)[k]);
        for (const State& state : states) rounded += (state.*part)[k] / static_cast<float>(states.size());
        EXPECT_EQ((loaded.*part)[k], static_cast<float>(sum / static_cast<double>(states.size()))) << k;
        differs_from_float |= (loaded.*part)[k] != rounded;
      }
    EXPECT_EQ(differs_from_float, i > 2) << "two numbers halve exactly";
    EXPECT_THROW(load_checkpoint(folder.file("mean"), loaded.views()), BadInput) << "nothing to go on from";
  }
  average_checkpoints({files[0], files[0]}, files[0]);  // over one of its own
  State same(100);
  load_weights(files[0], same.views());
  EXPECT_EQ(same.weight, states[0].weight);
}

TEST(AverageCheckpoints, RefuseWhatIsOfAnotherModelByName) {
  TemporaryFolder folder;
  State state(1);
  save_checkpoint(folder.file("a"), state.views(), kRecord);
  const auto refused = [&](const std::vector<CheckpointTensor>& views, const std::string& part) {
    save_checkpoint(folder.file("b"), views, kRecord);
    const std::string message = message_of<BadInput>([&] {
      average_checkpoints({folder.file("a"), folder.file("b")}, folder.file("mean"));
    });
    EXPECT_TRUE(holds(message, folder.file("b") + ": ")) << message;
    EXPECT_TRUE(holds(message, part)) << message;
    EXPECT_FALSE(std::filesystem::exists(folder.file("mean")));
  };
  auto views = state.views();
  views[1].name = "fc.offset";
  refused(views, "that has no 'fc.offset'");
  views = state.views();
  views[0].type.shape = {3, 2};
  refused(views, "'fc.weight' is to be F32[2,3]");
  views = state.views();
  views[2].type.dtype = DType::i32;
  refused(views, "'bn.running_mean' is to be F32[2]");
  views = state.views();
  views.erase(views.begin());
  refused(views, "'fc.weight'");
  views = state.views();
  views.push_back({"fc.gain", {DType::f32, {2}}, Role::weight, reinterpret_cast<std::byte*>(state.bias.data())});
  refused(views, "that has no 'fc.gain'");
  EXPECT_THROW(average_checkpoints({}, folder.file("mean")), InvalidArgument);
  EXPECT_THROW(average_checkpoints({folder.file("a"), folder.file("none")}, folder.file("mean")), EnvironmentError);
  folder.write("b", "no safetensors");
  EXPECT_THROW(average_checkpoints({folder.file("a"), folder.file("b")}, folder.file("mean")), BadInput);
}

}  // namespace
}  // namespace thimble
