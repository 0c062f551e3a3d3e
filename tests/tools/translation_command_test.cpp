// Translation models from the command line: text is prepared, planned for, trained on, evaluated and translated; what
// is for another kind of model is refused.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "text_command.h"

namespace thimble {
namespace {

class TranslationCommand : public TextCommand {
 protected:
  using Lines = std::vector<std::string>;

  static Lines lines_of(const std::string& text) {
    Lines lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  // Enough for most words to be right.
  static constexpr const char* kLearned = "--steps 150 --dropout 0 --attention-dropout 0 --tap-dropout 0 --smoothing 0";
  // A run of its own: in(run)/plan.json and checkpoint.safetensors.
  void train_run(const std::string& options, const std::string& run = "run") const {
    ASSERT_EQ(thimble(train(options + " --out " + in(run))).code, 0);
  }
  std::string model(const std::string& run = "run") const {
    return in(run + "/plan.json") + " " + in(run + "/checkpoint.safetensors") + " --threads 1 ";
  }
  Json eval(const std::string& options) const {
    const Result result = thimble("eval " + options, true);
    EXPECT_EQ(result.code, 0) << result.output;
    return Json::parse(result.output);
  }
  // What becomes of the text on standard output and, where `both`, in what is said about it.
  Result translate(const std::string& text, const std::string& options = "", bool both = false) const {
    write("input", text);
    return thimble("translate " + model() + options + " <" + in("input"), both);
  }
};

TEST_F(TranslationCommand, PlansAllBucketsInOneArenaAndReplaysThem) {
  const Result result = thimble("plan dynamicconv-iwslt --max-tokens 352 --chunk 176 --json -o " + in("plan.json"));
  ASSERT_EQ(result.code, 0) << result.output;
  const Json report = Json::parse(result.output);
  EXPECT_EQ(report.at("bytes_by_role").at("weights"), 4 * 38'685'184);
  std::int64_t most = 0;
  for (const Json& program : report.at("programs"))
    most = std::max(most, program.at("planned_bytes").get<std::int64_t>());
  EXPECT_EQ(report.at("arena_bytes"), most);
  EXPECT_EQ(report.at("programs").size(), 25U);  // 12 buckets trained and evaluated, and saving
  EXPECT_EQ(report.at("microbatches").size(), 2U);
  EXPECT_EQ(thimble("replay " + in("plan.json")).code, 0);
}

TEST_F(TranslationCommand, RefusesWhatIsForAnotherKindOfModel) {
  for (const char* arguments :
       {"plan dynamicconv-iwslt --batch 5", "plan lightconv-iwslt --norm group",
        "plan dynamicconv-iwslt --optimizer momentum", "plan wrn-28-2 --chunk 5", "plan wrn-28-2 --optimizer adam",
        "plan dynamicconv-iwslt --chunk 4001", "plan dynamicconv-iwslt --chunk x",
        "plan dynamicconv-iwslt --max-tokens 100", "plan dynamicconv-small", "plan wrn-28-2 --channels 64"}) {
    const Result result = thimble(arguments, true);
    EXPECT_EQ(result.code, 2) << arguments << ": " << result.output;
  }
}

TEST_F(TranslationCommand, RefusesOptionsThatWouldDoNothing) {
  const std::string pictures = "train wrn-10-1 --batch 32 --data synthetic --steps 1 ";
  ASSERT_EQ(thimble(pictures + "--out " + in("pictures")).code, 0);
  const std::string evaluated = "eval " + model("pictures") + "--data synthetic ";
  for (const auto& [arguments, option] :
       {std::pair{pictures + "--warmup 5", "--warmup"},
        {pictures + "--keep-epochs 2", "--keep-epochs"},
        {train("--steps 1 --no-augment"), "--no-augment"},
        {"eval " + in("pictures/plan.json") + " x --data synthetic --beam 2", "--beam"},
        {evaluated + "--set test", "--"}}) {
    const Result result = thimble(arguments, true);
    EXPECT_EQ(result.code, 2) << arguments << ": " << result.output;
    EXPECT_NE(result.output.find(option), std::string::npos) << result.output;
  }
}

TEST_F(TranslationCommand, SaysWhatTextItNeeds) {
  ASSERT_EQ(thimble("plan " + std::string(kTiny) + "--data " + in("text") + " -o " + in("plan.json")).code, 0);
  for (const std::string& model : {std::string("dynamicconv"), in("plan.json")})
    for (const char* data : {"", " --data synthetic"}) {
      const std::string full = "train " + model + " --steps 1" + data;
      const Result result = thimble(full + " --out " + in("run"), true);
      EXPECT_EQ(result.code, 2) << full;
      EXPECT_NE(result.output.find("--data FOLDER, which `thimble prepare` makes"), std::string::npos) << result.output;
      EXPECT_FALSE(fs::exists(in("run"))) << full;
    }
  const Result none = thimble("train dynamicconv --steps 1 --data " + in("none"), true);
  EXPECT_EQ(none.code, 1);
  EXPECT_NE(none.output.find("none/source.dict"), std::string::npos) << none.output;
}

TEST_F(TranslationCommand, PreparesAFolderAndCountsWhatIsInIt) {
  write("odd.de", "ka me\n\nso ta\n");
  write("odd.en", "em ak\nak\nat ox\n");
  const Result result = thimble(prepare("text") + " --test " + in("odd"));
  ASSERT_EQ(result.code, 0);
  const Json report = Json::parse(result.output);
  EXPECT_EQ(report.at("source_pieces"), 4 + 12);
  EXPECT_EQ(report.at("target_pieces"), 4 + 12);
  EXPECT_EQ(report.at("train").at("pairs"), kTrainPairs);
  EXPECT_EQ(
      report.at("test"),
      (Json{{"pairs", 2}, {"empty", 1}, {"too_long", 0}, {"unknown_source_pieces", 0}, {"unknown_target_pieces", 1}}));
}

TEST_F(TranslationCommand, RefusesTextThatIsNoParallelText) {
  write("uneven.de", "ka\nme\nso\n");
  write("uneven.en", "ak\n");
  const Result uneven = thimble(prepare("other", "uneven"), true);
  EXPECT_EQ(uneven.code, 1);
  EXPECT_NE(uneven.output.find("uneven.de has 3 lines, "), std::string::npos) << uneven.output;
  EXPECT_NE(uneven.output.find("uneven.en has 1;"), std::string::npos) << uneven.output;
  write("wrong.de", "ka\nme \xe9t\xe9\n");
  write("wrong.en", "ak\nem\n");
  const Result wrong = thimble(prepare("other", "wrong"), true);
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.output.find("wrong.de: line 2: byte 4 (0xe9) is not UTF-8"), std::string::npos) << wrong.output;
  EXPECT_EQ(thimble(prepare("other") + " --byte-pairs " + in("train.de") + " --sentence-pieces 30").code, 2);
  write("text/train.target", "ak\n");  // by hand, once it was prepared
  const Result damaged = thimble(train("--steps 1 --out " + in("run")), true);
  EXPECT_EQ(damaged.code, 1);
  EXPECT_NE(damaged.output.find("train.source has 300 lines"), std::string::npos) << damaged.output;
  EXPECT_FALSE(fs::exists(in("run")));
}

TEST_F(TranslationCommand, TrainsInThePlannedBytesWithoutAnAllocation) {
  const Result result = thimble(train("--epochs 2 --out " + in("run")), true);
  ASSERT_EQ(result.code, 0) << result.output;
  std::int64_t steps = 0, epochs = 0, tokens = 0;
  for (const std::string& text : lines_of(read(in("run/metrics.jsonl")))) {
    const Json line = Json::parse(text);
    epochs += line.contains("epoch_end") ? 1 : 0;
    if (!line.contains("step")) continue;
    EXPECT_EQ(line.at("step"), ++steps);
    for (const char* key : {"epoch", "loss", "nll", "learning_rate", "tokens_per_second"})
      EXPECT_TRUE(line.at(key).is_number()) << key;
    tokens += line.at("target_tokens").get<std::int64_t>();
  }
  const Json last = last_line(in("run/metrics.jsonl"));
  EXPECT_EQ(last.at("steps"), steps);
  EXPECT_EQ(epochs, 1) << "the last one's end is the summary";
  std::int64_t targets = 0;  // words and ends
  for (const std::string& line : CipherText(kTrainPairs, 8, 1).targets)
    targets += 2 + std::count(line.begin(), line.end(), ' ');
  EXPECT_EQ(tokens, 2 * targets);
  EXPECT_EQ(last.at("arena_high_water_bytes"), last.at("arena_bytes"));
  EXPECT_EQ(last.at("allocations_during_steps"), 0);
  EXPECT_TRUE(last.at("allocations_counted"));
  EXPECT_EQ(last.at("valid_pairs"), kValidPairs);
  EXPECT_NEAR(last.at("valid_perplexity").get<double>(), std::exp(last.at("valid_loss").get<double>()), 1e-6);
  EXPECT_NE(result.output.find("text: train: 300 of 300 pairs; left out: 0 empty, 0 too long"), std::string::npos);
  for (const char* file : {"source.dict", "target.dict"})
    EXPECT_EQ(read(in("run/" + std::string(file))), read(in("text/" + std::string(file)))) << file;
}

TEST_F(TranslationCommand, LeavesOutWhatIsTooLongAndSaysSo) {
  CipherText text(40, 8, 1);
  std::string source = "ka", target = "ak";
  for (int i = 0; i < 20; ++i) (source += " me", target += " em");
  for (std::size_t i : {3U, 17U}) (text.sources[i] = source, text.targets[i + 1] = target);
  write_pairs("train", text);
  ASSERT_EQ(thimble(prepare("text")).code, 0);
  const auto said = [&](const std::string& arguments) {
    const Result result = thimble(arguments, true);
    EXPECT_EQ(result.code, 0) << result.output;
    return result.output;
  };
  EXPECT_NE(said(train("--longest 15 --steps 2")).find("train: 36 of 40 pairs; left out: 0 empty, 4 too long"),
            std::string::npos);
  // A plan that has no room for them leaves them out as well.
  ASSERT_EQ(thimble("plan " + std::string(kTiny) + "--longest 15 --data " + in("text") + " -o " + in("p.json")).code,
            0);
  EXPECT_NE(said("train " + in("p.json") + " --steps 2 --data " + in("text")).find("4 too long"), std::string::npos);
  EXPECT_EQ(thimble(train("--longest 2 --steps 2")).code, 0) << "single words are left";
  write_pairs("train", CipherText(0, 8, 1));
  ASSERT_EQ(thimble(prepare("text")).code, 0);
  const Result nothing = thimble(train("--steps 2"), true);
  EXPECT_EQ(nothing.code, 2);
  EXPECT_NE(nothing.output.find("has no sentence pair of at most 128 ids in its set 'train'"), std::string::npos)
      << nothing.output;
}

TEST_F(TranslationCommand, TrainsByAPlanFile) {
  const std::string plan = "plan " + std::string(kTiny) + "--data " + in("text");
  ASSERT_EQ(thimble(plan + " --chunk 64 --loops block -o " + in("plan.json")).code, 0);
  const std::string options = " --data " + in("text") + " --seed 5 --lr 0.01 --warmup 20 --steps 30 --out ";
  const Result result = thimble("train " + in("plan.json") + options + in("by_plan"), true);
  ASSERT_EQ(result.code, 0) << result.output;
  const Json last = last_line(in("by_plan/metrics.jsonl"));
  EXPECT_EQ(last.at("arena_high_water_bytes"), last.at("arena_bytes"));
  EXPECT_EQ(last.at("allocations_during_steps"), 0);
  train_run("--steps 30 --chunk 64 --loops microbatch", "by_name");
  EXPECT_NE(read(in("by_plan/plan.json")), read(in("by_name/plan.json")));
  EXPECT_TRUE(weights(in("by_plan/checkpoint.safetensors")) == weights(in("by_name/checkpoint.safetensors")));
}

TEST_F(TranslationCommand, KeepsTheLastEpochsAndAveragesThem) {
  fs::create_directories(in("run"));
  std::ofstream(in("run/checkpoint.epoch9.safetensors")) << "of a longer run before this one";
  train_run("--epochs 5 --keep-epochs 2");
  Lines kept;
  for (const fs::directory_entry& entry : fs::directory_iterator(in("run")))
    if (const std::string name = entry.path().filename().string(); name.starts_with("checkpoint.epoch"))
      kept.push_back(name);
  std::sort(kept.begin(), kept.end());
  ASSERT_EQ(kept, (Lines{"checkpoint.epoch4.safetensors", "checkpoint.epoch5.safetensors"}));
  ASSERT_EQ(thimble("average " + in("run/" + kept[0]) + " " + in("run/" + kept[1]) + " -o " + in("mean")).code, 0);
  const std::string at_set = " --bleu off --set valid --data " + in("text");
  const auto loss = [&](const std::string& file) {
    return eval(in("run/plan.json") + " " + in(file) + at_set).at("valid_loss").get<double>();
  };
  const double last = loss("run/" + kept[1]), mean = loss("mean");
  EXPECT_EQ(last, last_line(in("run/metrics.jsonl")).at("valid_loss").get<double>());
  EXPECT_NE(mean, last);
  EXPECT_NEAR(mean, last, 0.5);
  ASSERT_EQ(thimble("average " + in("run/" + kept[1]) + " -o " + in("same")).code, 0);
  EXPECT_EQ(loss("same"), last);
  EXPECT_EQ(thimble("average " + in("run/plan.json") + " -o " + in("none")).code, 1);
}

TEST_F(TranslationCommand, EvaluatesLossPerplexityAndBleu) {
  train_run(kLearned);
  const std::string data = "--data " + in("text");
  const Json report = eval(model() + data + " --output " + in("out"));
  EXPECT_EQ(report.at("set"), "valid");
  EXPECT_EQ(report.at("valid_pairs"), kValidPairs);
  EXPECT_EQ(report.at("valid_loss"), last_line(in("run/metrics.jsonl")).at("valid_loss"));
  EXPECT_NEAR(report.at("valid_perplexity").get<double>(), std::exp(report.at("valid_loss").get<double>()), 1e-6);
  EXPECT_EQ(report.at("bleu_signature"), "nrefs:1|case:mixed|eff:no|tok:none|smooth:none|version:thimble-0.1.0");
  EXPECT_GT(report.at("bleu"), 25);
  EXPECT_LE(report.at("search_high_water_bytes"), report.at("search_arena_bytes"));
  EXPECT_EQ(lines_of(read(in("out"))).size(), kValidPairs);
  EXPECT_EQ(read(in("out")), translate(read(in("valid.de"))).output);
  const Json as_sacrebleu = eval(model() + data + " --bleu 13a");
  EXPECT_EQ(as_sacrebleu.at("bleu_signature"), "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:thimble-0.1.0");
  EXPECT_FALSE(eval(model() + data + " --bleu off").contains("bleu"));
  const Json on_train = eval(model() + data + " --bleu off --set train");
  EXPECT_EQ(on_train.at("train_pairs"), kTrainPairs);
  EXPECT_LT(on_train.at("train_loss"), report.at("valid_loss"));
  EXPECT_EQ(thimble("eval " + model() + data + " --set none").code, 1);
  EXPECT_EQ(thimble("eval " + model()).code, 2);
}

TEST_F(TranslationCommand, EvaluatesRawTextByPiecesOfItsOwn) {
  ASSERT_EQ(thimble(prepare("text") + " --sentence-pieces 40").code, 0);
  train_run("--steps 40");
  EXPECT_EQ(read(in("run/pieces.model")), read(in("text/pieces.model")));
  const Json report = eval(model() + "--data " + in("text") + " --output " + in("out"));
  EXPECT_EQ(report.at("bleu_signature"), "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:thimble-0.1.0");
  EXPECT_EQ(read(in("out")).find("\xe2\x96\x81"), std::string::npos) << "pieces are joined";
  EXPECT_EQ(read(in("out")), translate(read(in("valid.de"))).output) << "the run's folder has all it needs";
}

TEST_F(TranslationCommand, TranslatesLinesInOrder) {
  train_run(kLearned);
  const CipherText text(12, 8, 7);
  std::string input;
  for (std::size_t i = 0; i < text.sources.size(); ++i) input += (i == 4 ? "\n" : "") + text.sources[i] + "\n";
  const Result all = translate(input);
  ASSERT_EQ(all.code, 0);
  const Lines lines = lines_of(all.output);
  ASSERT_EQ(lines.size(), text.sources.size() + 1);
  EXPECT_EQ(lines[4], "");
  std::size_t right = 0;  // lines whose first word is the last one's counterpart
  for (std::size_t i = 0; i < text.targets.size(); ++i)
    right += lines[i < 4 ? i : i + 1].starts_with(text.targets[i].substr(0, 2)) ? 1 : 0;
  EXPECT_GE(right, text.targets.size() / 2) << all.output;
  for (const char* buffer : {"--buffer 1", "--buffer 5", "--buffer 512"})
    EXPECT_EQ(translate(input, buffer).output, all.output) << buffer;
  EXPECT_EQ(translate("").output, "");
  EXPECT_EQ(translate("\n\n").output, "\n\n");
  EXPECT_EQ(lines_of(translate("ka me").output).size(), 1U) << "a last line without an end";
  EXPECT_EQ(translate("ka me\r\nso\r\n").output, translate("ka me\nso\n").output);
  const std::string expected = translate("ka me\nso\n").output;
  const auto on_device = [&](const std::string& device) {
    return thimble("translate " + in("run/plan.json") + " " + in("run/checkpoint.safetensors") + " --device " + device +
                       " <" + in("input"),
                   true);
  };
  EXPECT_THAT(on_device("emulated").output, ::testing::HasSubstr(expected));
  const Result absent = on_device("h100");
  if (absent.code == 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.output, ::testing::HasSubstr("device 'h100': "));
}

TEST_F(TranslationCommand, SaysWhatItCannotTranslateWhole) {
  train_run("--steps 20");
  const auto said = [&](const std::string& text) { return translate(text, "--max-length 8", true).output; };
  std::string words = "ka";
  for (int i = 1; i < 2000; ++i) words += " me";
  const Result cut = translate(words + "\nka\n", "--max-length 8");
  EXPECT_EQ(cut.code, 0);
  EXPECT_EQ(lines_of(cut.output).size(), 2U);
  EXPECT_EQ(lines_of(cut.output).at(0),
            lines_of(translate(words.substr(0, 3 * 1023 - 1), "--max-length 8").output).at(0));
  EXPECT_NE(said(words + "\n").find("translate: 1 line cut after 1024 ids"), std::string::npos);
  EXPECT_EQ(said(words.substr(0, 3 * 1023 - 1) + "\n").find("1024 ids"), std::string::npos) << "it fits";
  EXPECT_NE(said("ka xx\nyy yy\n").find("3 unknown pieces"), std::string::npos);
  EXPECT_EQ(said("ka xx\n").find(" ids"), std::string::npos) << "nothing was cut";
  EXPECT_EQ(said("ka me\n").find("unknown"), std::string::npos);
  EXPECT_EQ(lines_of(translate("xx\nka\n", "--max-length 8").output).size(), 2U);
}

TEST_F(TranslationCommand, TranslatesWhatComesBeforeALineThatIsNoText) {
  train_run("--steps 20");
  for (const char* buffer : {"--buffer 1", "--buffer 512"}) {
    const Result result = translate("ka me\nso\nme \xff\nta\n", buffer);
    EXPECT_EQ(result.code, 1) << buffer;
    EXPECT_EQ(result.output, translate("ka me\nso\n").output) << buffer;
    EXPECT_NE(result.output, "");
  }
  const Result said = translate("ka me\nso\nme \xff\nta\n", "", true);
  EXPECT_NE(said.output.find("line 3: byte 4 (0xff) is not UTF-8"), std::string::npos) << said.output;
}

}  // namespace
}  // namespace thimble
