// THIMBLE_PASSED_PLACES=FILE: which barriers each test has passed, a line each, for barriers_test.cpp.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "simt_places.h"

namespace {

class PlaceRecorder final : public testing::EmptyTestEventListener {
 public:
  explicit PlaceRecorder(const char* file) : out_(file) {}

 private:
  void OnTestStart(const testing::TestInfo&) override { thimble::simt::record_places(true); }
  void OnTestEnd(const testing::TestInfo& test) override {
    out_ << "test " << test.test_suite_name() << '.' << test.name() << ' ' << test.result()->elapsed_time() << '\n';
    for (const std::string& place : thimble::simt::passed_places()) out_ << "barrier " << place << '\n';
    thimble::simt::record_places(false);
    out_.flush();
  }

  std::ofstream out_;
};

[[maybe_unused]] const bool is_recorded = [] {
  const char* file = std::getenv("THIMBLE_PASSED_PLACES");
  if (file != nullptr) testing::UnitTest::GetInstance()->listeners().Append(new PlaceRecorder(file));
  return file != nullptr;
}();

}  // namespace
