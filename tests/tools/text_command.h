// The command in a folder with parallel text that is prepared for training.
#pragma once

#include "../cipher_text.h"
#include "run_command.h"

namespace thimble {

class TextCommand : public Command {
 protected:
  static constexpr std::int64_t kTrainPairs = 300, kValidPairs = 20;

  void SetUp() override {
    write_pairs("train", CipherText(kTrainPairs, 8, 1));
    write_pairs("valid", CipherText(kValidPairs, 8, 2));
    ASSERT_EQ(thimble(prepare("text")).code, 0);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(in(name), std::ios::binary) << text;
  }
  // Files name.de and name.en.
  void write_pairs(const std::string& name, const CipherText& text) const {
    write(name + ".de", CipherText::text(text.sources));
    write(name + ".en", CipherText::text(text.targets));
  }
  std::string prepare(const std::string& folder, const std::string& train = "train") const {
    return "prepare --train " + in(train) + " --valid " + in("valid") + " --source de --target en -o " + in(folder);
  }
  // A model that a step takes milliseconds of.
  static constexpr const char* kTiny =
      "dynamicconv --channels 32 --hidden 32 --heads 2 --encoder-kernels 3 --decoder-kernels 3 --max-tokens 128 "
      "--threads 1 ";
  std::string train(const std::string& options) const {
    return "train " + std::string(kTiny) + "--data " + in("text") + " --seed 5 --lr 0.01 --warmup 20 " + options;
  }
};

}  // namespace thimble
