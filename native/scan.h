// A directory as the archiver finds it: names, attributes, contents by and by, and at the end the tree that restic would make of it.
#pragma once
#include <napi.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pieces.h"

namespace daybook {

struct ScanError {
  uint32_t entry;
  int error;  // errno
  const char* syscall;
};

struct ScanXattr {
  std::string name, value;
  bool null;  // listed, but not there when it was read
};

struct ScanEntry {
  std::string name;
  std::string path;  // '' : in the scan's directory
  struct stat stat{};
  std::string target;
  std::vector<ScanXattr> xattrs;
  std::vector<uint8_t> content;  // ids, 32 bytes each
  std::array<uint8_t, kIdLength> subtree{};
  bool has_subtree = false;
  bool left_out = false;
  bool grown = false;  // not read: it had become too long for one chunk
};

// Shared by its JavaScript object and by work on the thread pool. Each entry is touched by one piece of work at a time: JavaScript sees to that.
struct ScanData {
  std::string directory;
  struct stat stat{};
  std::vector<ScanEntry> entries;
  std::mutex mutex;
  std::vector<ScanError> errors;  // told so far and not yet taken by JavaScript; under the mutex

  void Tell(ScanError error) {
    std::lock_guard lock(mutex);
    errors.push_back(error);
  }

  std::string PathOf(const ScanEntry& entry) const { return entry.path.empty() ? directory + "/" + entry.name : entry.path; }
};

class Scan : public Napi::ObjectWrap<Scan> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  static Napi::Object Wrap(Napi::Env env, std::shared_ptr<ScanData> data);
  // Made by Wrap() only.
  explicit Scan(const Napi::CallbackInfo& info);

 private:
  Napi::Value Names(const Napi::CallbackInfo& info);
  Napi::Value Kinds(const Napi::CallbackInfo& info);
  Napi::Value Sizes(const Napi::CallbackInfo& info);
  Napi::Value Devices(const Napi::CallbackInfo& info);
  Napi::Value TakeErrors(const Napi::CallbackInfo& info);
  Napi::Value Match(const Napi::CallbackInfo& info);
  Napi::Value Content(const Napi::CallbackInfo& info);
  Napi::Value Grown(const Napi::CallbackInfo& info);
  void SetContent(const Napi::CallbackInfo& info);
  void SetSubtree(const Napi::CallbackInfo& info);
  void LeaveOut(const Napi::CallbackInfo& info);
  void SetMade(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Tree(const Napi::CallbackInfo& info);
  Napi::Value TreeLater(const Napi::CallbackInfo& info);
  ScanEntry& At(const Napi::Value& index, uint32_t* position = nullptr);

  std::shared_ptr<ScanData> data_;
};

// Pool thread. Fills in what an entry with a path has besides its contents; what is missing is told in data->errors. `follow`: what a symbolic link leads to.
bool ScanOne(ScanData* data, uint32_t position, bool follow);

}  // namespace daybook
