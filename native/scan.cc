#include "scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "async.h"
#include "chunker.h"
#include "file_stream.h"
#include "js_bytes.h"
#include "node_json.h"
#include "posix.h"
#include "tree_json.h"

namespace daybook {
namespace {

constexpr napi_type_tag kScanTag = {0x646179627363616e, 0x2a96c3d15e70f84b};
constexpr size_t kMaxXattr = 64 << 10;  // the kernel's own limit, of a value and of the list of names

thread_local Napi::FunctionReference* scan_constructor = nullptr;
thread_local std::shared_ptr<ScanData> pending;

// Calls read(buffer, size) with a buffer that is big enough, beginning with a small one. False with errno.
template <typename Read>
bool ReadGrowing(Read read, std::string* result) {
  char small[256];
  ssize_t length = read(small, sizeof small);
  if (length >= 0) {
    result->assign(small, static_cast<size_t>(length));
    return true;
  }
  if (errno != ERANGE) return false;
  result->resize(kMaxXattr);
  length = read(result->data(), result->size());
  if (length < 0) return false;
  result->resize(static_cast<size_t>(length));
  return true;
}

// restic takes a file system without extended attributes for a file without them.
bool HasNone(int error) { return error == ENOTSUP || error == EOPNOTSUPP || error == ENODATA; }

void ReadXattrs(ScanData* data, uint32_t position, const char* path) {
  ScanEntry& entry = data->entries[position];
  std::string names;
  if (!ReadGrowing([&](char* to, size_t size) { return llistxattr(path, to, size); }, &names)) {
    if (!HasNone(errno)) data->Tell({position, errno, "llistxattr"});
    return;
  }
  for (size_t at = 0; at < names.size();) {
    const std::string name(names.c_str() + at);
    at += name.size() + 1;
    ScanXattr xattr{name, {}, false};
    if (!ReadGrowing([&](char* to, size_t size) { return lgetxattr(path, name.c_str(), to, size); }, &xattr.value)) {
      if (!HasNone(errno)) {
        data->Tell({position, errno, "lgetxattr"});
        continue;
      }
      xattr.null = true;
    }
    entry.xattrs.push_back(std::move(xattr));
  }
}

struct PathToScan {
  std::string path, name;
  bool follow;
};

class ScanTask : public AsyncTask {
 public:
  ScanTask(Napi::Env env, std::string directory) : AsyncTask(env), data_(std::make_shared<ScanData>()) { data_->directory = std::move(directory); }
  ScanTask(Napi::Env env, std::vector<PathToScan> paths) : AsyncTask(env), data_(std::make_shared<ScanData>()), paths_(std::move(paths)), given_(true) {}

 protected:
  void Run(size_t) override {
    if (given_) return ScanPaths();
    const int fd = open(data_->directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
    const int directory = fd >= 0 || errno != EPERM ? fd : open(data_->directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0) return Fail("open");
    DIR* const stream = fdopendir(directory);
    if (stream == nullptr || fstat(directory, &data_->stat) != 0) {
      Fail("opendir");
      if (stream != nullptr) closedir(stream);
      else close(directory);
      return;
    }
    while (true) {
      errno = 0;
      const struct dirent* const found = readdir(stream);
      if (found == nullptr) break;
      if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
      ScanEntry entry;
      entry.name = found->d_name;
      data_->entries.push_back(std::move(entry));
    }
    if (errno != 0) Fail("readdir");
    closedir(stream);
    if (error_ != 0) return;
    Sort();
    for (uint32_t i = 0; i < data_->entries.size(); i++) ScanOne(data_.get(), i, false);
  }

  Napi::Value Result(Napi::Env env) override {
    if (error_ != 0) throw ErrnoError(env, error_, syscall_, data_->directory);
    return Scan::Wrap(env, std::move(data_));
  }

 private:
  void ScanPaths() {
    for (const PathToScan& wanted : paths_) {
      ScanEntry entry;
      entry.name = wanted.name;
      entry.path = wanted.path;
      data_->entries.push_back(std::move(entry));
    }
    for (uint32_t i = 0; i < paths_.size(); i++) {
      if (!paths_[i].path.empty()) ScanOne(data_.get(), i, paths_[i].follow);
    }
  }

  void Sort() {
    std::sort(data_->entries.begin(), data_->entries.end(), [](const ScanEntry& a, const ScanEntry& b) { return a.name < b.name; });
  }

  void Fail(const char* syscall) {
    error_ = errno;
    syscall_ = syscall;
  }

  std::shared_ptr<ScanData> data_;
  std::vector<PathToScan> paths_;
  const bool given_ = false;
  int error_ = 0;
  const char* syscall_ = "";
};

// Reads files that are one chunk each.
class ReadTask : public AsyncTask {
 public:
  ReadTask(Napi::Env env, std::shared_ptr<ScanData> data, std::vector<uint32_t> positions)
      : AsyncTask(env), data_(std::move(data)), positions_(std::move(positions)) {}

 protected:
  void Run(size_t) override {
    for (const uint32_t position : positions_) ReadOne(position);
  }
  Napi::Value Result(Napi::Env env) override { return Pieces::Wrap(env, std::move(pieces_)); }

 private:
  void ReadOne(uint32_t position) {
    ScanEntry& entry = data_->entries[position];
    ScanError failure{position, 0, ""};
    const int fd = OpenEntry(data_.get(), position, &failure.error, &failure.syscall);
    if (fd < 0) return data_->Tell(failure);
    // One byte more than it had shows whether it has grown.
    size_t capacity = std::min<size_t>(static_cast<size_t>(entry.stat.st_size) + 1, Chunker::kMinLength);
    std::shared_ptr<Chunk> buffer = Chunk::Allocate(capacity);
    size_t filled = 0;
    while (buffer != nullptr && filled < Chunker::kMinLength) {
      if (filled == buffer->size) {
        std::shared_ptr<Chunk> larger = Chunk::Allocate(Chunker::kMinLength);
        if (larger != nullptr) memcpy(larger->data, buffer->data, filled);
        buffer = std::move(larger);
        continue;
      }
      const ssize_t count = read(fd, buffer->data + filled, buffer->size - filled);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) failure.error = errno, failure.syscall = "read";
      if (count <= 0) break;
      filled += static_cast<size_t>(count);
    }
    close(fd);
    if (buffer == nullptr) failure.error = ENOMEM, failure.syscall = "read";
    if (failure.error != 0) return data_->Tell(failure);
    entry.grown = filled >= Chunker::kMinLength;
    if (entry.grown) return;
    entry.stat.st_size = static_cast<off_t>(filled);
    if (filled == 0) return;
    Piece piece;
    piece.length = buffer->size = filled;
    piece.plain = std::move(buffer);
    piece.Name();
    entry.content.assign(piece.id.begin(), piece.id.end());
    pieces_.push_back(std::move(piece));
  }

  std::shared_ptr<ScanData> data_;
  std::vector<uint32_t> positions_;
  std::vector<Piece> pieces_;
};

std::vector<Piece> TreeOf(const ScanData& data) {
  const std::string json = TreeJson(data);
  std::vector<Piece> pieces;
  pieces.push_back(Piece::Of(reinterpret_cast<const uint8_t*>(json.data()), json.size()));
  return pieces;
}

class TreeTask : public AsyncTask {
 public:
  TreeTask(Napi::Env env, std::shared_ptr<ScanData> data) : AsyncTask(env), data_(std::move(data)) {}

 protected:
  void Run(size_t) override { pieces_ = TreeOf(*data_); }
  Napi::Value Result(Napi::Env env) override { return Pieces::Wrap(env, std::move(pieces_)); }

 private:
  std::shared_ptr<ScanData> data_;
  std::vector<Piece> pieces_;
};

std::string PathOf(const Napi::Value& value) {
  const JsBytes bytes = BytesOf(value, "a path");
  const std::string path(reinterpret_cast<const char*>(bytes.data), bytes.size);
  if (path.find('\0') != std::string::npos) throw Napi::TypeError::New(value.Env(), "a path must not contain NUL");
  return path;
}

Napi::Value ScanDirectory(const Napi::CallbackInfo& info) { return AsyncTask::Start(std::make_unique<ScanTask>(info.Env(), PathOf(info[0]))); }

Napi::Value ScanPaths(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "paths must be an array");
  const Napi::Array array = info[0].As<Napi::Array>();
  std::vector<PathToScan> paths;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Object item = array.Get(i).As<Napi::Object>();
    paths.push_back({PathOf(item.Get("path")), PathOf(item.Get("name")), item.Get("follow").ToBoolean()});
  }
  return AsyncTask::Start(std::make_unique<ScanTask>(env, std::move(paths)));
}

// Of a row in the parent's tree: what is needed to say that a file is the same. The inode's number is only in the hash that the row has for its own.
enum MatchFlags : uint32_t { kIgnoreInode = 1, kIgnoreCtime = 2 };

bool IsSame(const ScanEntry& entry, const RowsView& rows, const Record& record, uint32_t flags) {
  const struct stat& stat = entry.stat;
  const bool regular = S_ISREG(stat.st_mode);
  if ((stat.st_mode & S_IFMT) != (record.mode & S_IFMT)) return false;
  if (regular && (record.flags & kRowDamaged || record.size != static_cast<uint64_t>(stat.st_size))) return false;
  if (record.mtime != stat.st_mtim.tv_sec || record.mtime_ns != static_cast<uint32_t>(stat.st_mtim.tv_nsec)) return false;
  const bool same_ctime = record.ctime == stat.st_ctim.tv_sec && record.ctime_ns == static_cast<uint32_t>(stat.st_ctim.tv_nsec);
  if (!regular) return same_ctime && stat.st_mode == record.mode && stat.st_uid == record.uid && stat.st_gid == record.gid;
  if (!same_ctime && !(flags & kIgnoreCtime)) return false;
  if (flags & kIgnoreInode) return true;
  const std::string_view content = rows.Content(record);
  return InoOfNode(stat.st_dev, stat.st_ino, S_IFREG, record, reinterpret_cast<const uint8_t*>(content.data()), content.size()) == record.ino;
}

}  // namespace

bool ScanOne(ScanData* data, uint32_t position, bool follow) {
  ScanEntry& entry = data->entries[position];
  const std::string path = data->PathOf(entry);
  if ((follow ? stat(path.c_str(), &entry.stat) : lstat(path.c_str(), &entry.stat)) != 0) {
    data->Tell({position, errno, "lstat"});
    entry.stat = {};
    entry.left_out = true;
    return false;
  }
  if (S_ISLNK(entry.stat.st_mode)) {
    char target[PATH_MAX];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length < 0) data->Tell({position, errno, "readlink"});
    else entry.target.assign(target, static_cast<size_t>(length));
  }
  if (!S_ISSOCK(entry.stat.st_mode)) ReadXattrs(data, position, path.c_str());
  return true;
}

void Scan::Register(Napi::Env env, Napi::Object exports) {
  scan_constructor = new Napi::FunctionReference(Napi::Persistent(DefineClass(env, "Scan", {
      InstanceMethod("names", &Scan::Names), InstanceMethod("kinds", &Scan::Kinds), InstanceMethod("sizes", &Scan::Sizes),
      InstanceMethod("devices", &Scan::Devices), InstanceMethod("takeErrors", &Scan::TakeErrors), InstanceMethod("match", &Scan::Match),
      InstanceMethod("content", &Scan::Content), InstanceMethod("grown", &Scan::Grown), InstanceMethod("setContent", &Scan::SetContent),
      InstanceMethod("setSubtree", &Scan::SetSubtree), InstanceMethod("leaveOut", &Scan::LeaveOut), InstanceMethod("setMade", &Scan::SetMade), InstanceMethod("read", &Scan::Read),
      InstanceMethod("open", &Scan::Open), InstanceMethod("tree", &Scan::Tree), InstanceMethod("treeLater", &Scan::TreeLater),
  })));
  scan_constructor->SuppressDestruct();
  exports.Set("scanDirectory", Napi::Function::New(env, ScanDirectory, "scanDirectory"));
  exports.Set("scanPaths", Napi::Function::New(env, ScanPaths, "scanPaths"));
}

Napi::Object Scan::Wrap(Napi::Env env, std::shared_ptr<ScanData> data) {
  (void)env;
  pending = std::move(data);
  return scan_constructor->New({});
}

Scan::Scan(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Scan>(info), data_(std::move(pending)) {
  if (data_ == nullptr) throw Napi::TypeError::New(info.Env(), "scans come from the addon");
  napi_type_tag_object(info.Env(), info.This(), &kScanTag);
}

ScanEntry& Scan::At(const Napi::Value& index, uint32_t* position) {
  const double at = index.IsNumber() ? index.As<Napi::Number>().DoubleValue() : -1;
  if (!(at >= 0 && at < static_cast<double>(data_->entries.size()))) throw Napi::RangeError::New(index.Env(), "no such entry");
  if (position != nullptr) *position = static_cast<uint32_t>(at);
  return data_->entries[static_cast<size_t>(at)];
}

// Each ends with a NUL, which no name holds.
Napi::Value Scan::Names(const Napi::CallbackInfo& info) {
  size_t length = 0;
  for (const ScanEntry& entry : data_->entries) length += entry.name.size() + 1;
  auto names = Napi::Buffer<char>::New(info.Env(), length);
  char* at = names.Data();
  for (const ScanEntry& entry : data_->entries) {
    memcpy(at, entry.name.c_str(), entry.name.size() + 1);
    at += entry.name.size() + 1;
  }
  return names;
}

Napi::Value Scan::Kinds(const Napi::CallbackInfo& info) {
  auto kinds = Napi::Uint8Array::New(info.Env(), data_->entries.size());
  for (size_t i = 0; i < data_->entries.size(); i++) kinds[i] = static_cast<uint8_t>((data_->entries[i].stat.st_mode & S_IFMT) >> 12);
  return kinds;
}

Napi::Value Scan::Sizes(const Napi::CallbackInfo& info) {
  auto sizes = Napi::Float64Array::New(info.Env(), data_->entries.size());
  for (size_t i = 0; i < data_->entries.size(); i++) sizes[i] = static_cast<double>(data_->entries[i].stat.st_size);
  return sizes;
}

Napi::Value Scan::Devices(const Napi::CallbackInfo& info) {
  auto devices = Napi::Float64Array::New(info.Env(), data_->entries.size());
  for (size_t i = 0; i < data_->entries.size(); i++) devices[i] = static_cast<double>(data_->entries[i].stat.st_dev);
  return devices;
}

Napi::Value Scan::TakeErrors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<ScanError> errors;
  {
    std::lock_guard lock(data_->mutex);
    errors.swap(data_->errors);
  }
  Napi::Array array = Napi::Array::New(env, errors.size());
  for (uint32_t i = 0; i < errors.size(); i++) {
    const ScanError& error = errors[i];
    Napi::Error object = ErrnoError(env, error.error, error.syscall, data_->PathOf(data_->entries[error.entry]));
    object.Set("entry", Napi::Number::New(env, error.entry));
    array.Set(i, object.Value());
  }
  return array;
}

// Per entry where it stands in the parent's rows, -1 if it does not. With 2^30 added where it is the same; a file has the content of the parent's then.
Napi::Value Scan::Match(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const JsBytes bytes = BytesOf(info[0], "rows");
  const uint32_t flags = info[1].IsNumber() ? info[1].As<Napi::Number>().Uint32Value() : 0;
  const std::optional<RowsView> rows = RowsView::Parse(bytes.data, bytes.size);
  auto found = Napi::Int32Array::New(env, data_->entries.size());
  uint32_t row = 0;
  for (size_t i = 0; i < data_->entries.size(); i++) {
    ScanEntry& entry = data_->entries[i];
    found[i] = -1;
    if (!rows) continue;
    int order = 1;
    for (; row < rows->count(); row++) {
      order = std::string_view(entry.name).compare(rows->Name(row));
      if (order <= 0) break;
    }
    if (row == rows->count() || order != 0) continue;
    found[i] = static_cast<int32_t>(row);
    const Record record = rows->At(row);
    if (!IsSame(entry, *rows, record, flags)) continue;
    if (S_ISREG(entry.stat.st_mode)) {
      const std::string_view content = rows->Content(record);
      entry.content.assign(content.begin(), content.end());
    }
    found[i] = static_cast<int32_t>(row | 1u << 30);
  }
  return found;
}

Napi::Value Scan::Content(const Napi::CallbackInfo& info) {
  const ScanEntry& entry = At(info[0]);
  return Napi::Buffer<uint8_t>::Copy(info.Env(), entry.content.data(), entry.content.size());
}

Napi::Value Scan::Grown(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), At(info[0]).grown); }

void Scan::SetContent(const Napi::CallbackInfo& info) {
  ScanEntry& entry = At(info[0]);
  const JsBytes ids = BytesOf(info[1], "ids");
  if (ids.size % kIdLength != 0) throw Napi::TypeError::New(info.Env(), "an id has 32 bytes");
  entry.content.assign(ids.data, ids.data + ids.size);
}

void Scan::SetSubtree(const Napi::CallbackInfo& info) {
  ScanEntry& entry = At(info[0]);
  const JsBytes id = BytesOf(info[1], "id");
  if (id.size != kIdLength) throw Napi::TypeError::New(info.Env(), "an id has 32 bytes");
  memcpy(entry.subtree.data(), id.data, kIdLength);
  entry.has_subtree = true;
}

void Scan::LeaveOut(const Napi::CallbackInfo& info) { At(info[0]).left_out = true; }

void Scan::SetMade(const Napi::CallbackInfo& info) {
  struct stat& stat = At(info[0]).stat;
  const auto number = [&](size_t i) { return info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : 0; };
  stat = {};
  stat.st_mode = static_cast<mode_t>(number(1));
  stat.st_uid = static_cast<uid_t>(number(2));
  stat.st_gid = static_cast<gid_t>(number(3));
  stat.st_mtim = stat.st_ctim = {static_cast<time_t>(number(4)), static_cast<long>(number(5))};
}

Napi::Value Scan::Read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) throw Napi::TypeError::New(env, "positions must be a Uint32Array");
  const auto array = info[0].As<Napi::Uint32Array>();
  std::vector<uint32_t> positions(array.Data(), array.Data() + array.ElementLength());
  for (const uint32_t position : positions) {
    if (position >= data_->entries.size()) throw Napi::RangeError::New(env, "no such entry");
  }
  return AsyncTask::Start(std::make_unique<ReadTask>(env, data_, std::move(positions)));
}

Napi::Value Scan::Open(const Napi::CallbackInfo& info) {
  uint32_t position = 0;
  At(info[0], &position);
  const int fd = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : -1;
  return OpenFileStream(info.Env(), data_, position, ChunkerOf(info[1]), fd);
}

Napi::Value Scan::Tree(const Napi::CallbackInfo& info) { return Pieces::Wrap(info.Env(), TreeOf(*data_)); }
Napi::Value Scan::TreeLater(const Napi::CallbackInfo& info) { return AsyncTask::Start(std::make_unique<TreeTask>(info.Env(), data_)); }

}  // namespace daybook
