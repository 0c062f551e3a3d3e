#include "pending_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "thimble/error.h"

namespace thimble {

PendingFile::PendingFile(const std::string& path)
    : path_(path), temporary_(path + ".tmp." + std::to_string(::getpid())) {
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) fail();
}

PendingFile::~PendingFile() {
  if (file_ >= 0) ::close(file_);
  if (!committed_) ::unlink(temporary_.c_str());
}

void PendingFile::write(const void* data, std::size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(file_, from, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail();
    from += written;
    size -= static_cast<std::size_t>(written);
  }
}

void PendingFile::commit() {
  if (::fsync(file_) != 0) fail();
  const int closed = ::close(file_);
  file_ = -1;
  if (closed != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) fail();
  committed_ = true;
  // The rename itself survives a power cut only once its folder is on disk; that is best effort.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  ::fsync(directory);
  ::close(directory);
}

void PendingFile::fail() { throw EnvironmentError("cannot write '" + path_ + "': " + std::strerror(errno)); }

}  // namespace thimble
