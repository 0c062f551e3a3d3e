// A file under a temporary name that gets its own name once it is complete, and disappears otherwise.
#pragma once

#include <cstddef>
#include <string>

namespace thimble {

/// Every function throws EnvironmentError where the file cannot be written; the old file then stays as it was.
class PendingFile {
 public:
  explicit PendingFile(const std::string& path);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(const void* data, std::size_t size);
  /// To disk, then to its own name.
  void commit();

 private:
  [[noreturn]] void fail();

  std::string path_, temporary_;
  int file_ = -1;
  bool committed_ = false;
};

}  // namespace thimble
