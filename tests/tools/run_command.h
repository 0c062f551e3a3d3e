// Runs the command as its users do, in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace thimble {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Command : public ::testing::Test {
 protected:
  Command() : folder_(fs::temp_directory_path() / ("thimble-command-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~Command() override { fs::remove_all(folder_); }

  struct Result {
    int code;
    std::string output;
  };
  // Standard output; diagnostics go into it too where `both`.
  Result thimble(const std::string& arguments, bool both = false) const {
    const std::string line = std::string(THIMBLE_COMMAND) + " " + arguments + (both ? " 2>&1" : " 2>/dev/null");
    std::FILE* pipe = popen(line.c_str(), "r");
    std::string output;
    std::array<char, 4096> buffer;
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
    const int status = pclose(pipe);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
  }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  // The tensors of a checkpoint without its header, whose metadata may name another plan.
  static std::string weights(const std::string& path) {
    const std::string text = read(path);
    std::uint64_t header = 0;
    for (std::size_t i = 0; i < 8; ++i) header |= std::uint64_t{static_cast<unsigned char>(text.at(i))} << 8 * i;
    return text.substr(8 + header);
  }
  static Json last_line(const std::string& path) {
    std::istringstream lines(read(path));
    std::string line, last;
    while (std::getline(lines, line)) last = line;
    return Json::parse(last);
  }
  static constexpr const char* kSmall =
      "train wrn-10-1 --batch 32 --data synthetic --schedule constant --lr 0.05 --seed 5 ";

  fs::path folder_;
};

}  // namespace thimble
