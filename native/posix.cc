#include "posix.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "js_bytes.h"

namespace daybook {
namespace {

std::string StringOf(const Napi::Value& value) {
  const JsBytes bytes = BytesOf(value, "a path, name or value");
  return {reinterpret_cast<const char*>(bytes.data), bytes.size};
}

// What the kernel takes as a string. It would stop at a NUL, at another file than meant.
std::string PathOf(const Napi::Value& value) {
  std::string path = StringOf(value);
  if (path.find('\0') != std::string::npos) throw Napi::TypeError::New(value.Env(), "a path must not contain NUL");
  return path;
}

double NumberOf(const Napi::Value& value) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), "expected a number");
  return value.As<Napi::Number>().DoubleValue();
}

Napi::Buffer<char> BufferOf(Napi::Env env, const char* data, size_t size) { return Napi::Buffer<char>::Copy(env, data, size); }

// Calls read(buffer, size) with a buffer that is big enough; the size may change between two calls.
template <typename Read>
std::vector<char> ReadAll(Read read, int* error) {
  std::vector<char> buffer(256);
  while (true) {
    const ssize_t length = read(buffer.data(), buffer.size());
    *error = length < 0 ? errno : 0;
    if (length >= 0) {
      buffer.resize(static_cast<size_t>(length));
      return buffer;
    }
    if (*error != ERANGE || buffer.size() > (1 << 20)) return {};
    buffer.resize(buffer.size() * 16);
  }
}

Napi::Value ListXattrs(const Napi::CallbackInfo& info) {
  const std::string path = PathOf(info[0]);
  int error = 0;
  const std::vector<char> names = ReadAll([&](char* to, size_t size) { return llistxattr(path.c_str(), to, size); }, &error);
  if (error != 0) throw ErrnoError(info.Env(), error, "llistxattr", path);
  Napi::Array array = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (size_t at = 0; at < names.size();) {
    const size_t length = strnlen(names.data() + at, names.size() - at);
    array.Set(count++, BufferOf(info.Env(), names.data() + at, length));
    at += length + 1;
  }
  return array;
}

Napi::Value GetXattr(const Napi::CallbackInfo& info) {
  const std::string path = PathOf(info[0]);
  const std::string name = PathOf(info[1]);
  int error = 0;
  const std::vector<char> value = ReadAll([&](char* to, size_t size) { return lgetxattr(path.c_str(), name.c_str(), to, size); }, &error);
  if (error != 0) throw ErrnoError(info.Env(), error, "lgetxattr", path);
  return BufferOf(info.Env(), value.data(), value.size());
}

void SetXattr(const Napi::CallbackInfo& info) {
  const std::string path = PathOf(info[0]);
  const std::string name = PathOf(info[1]);
  const std::string value = StringOf(info[2]);
  if (lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) throw ErrnoError(info.Env(), errno, "lsetxattr", path);
}

Napi::Value Seek(const Napi::CallbackInfo& info) {
  const off_t place = lseek(static_cast<int>(NumberOf(info[0])), static_cast<off_t>(NumberOf(info[1])), static_cast<int>(NumberOf(info[2])));
  if (place < 0) throw ErrnoError(info.Env(), errno, "lseek");
  return Napi::Number::New(info.Env(), static_cast<double>(place));
}

Napi::Value TimePair(Napi::Env env, const struct statx_timestamp& time) {
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, Napi::BigInt::New(env, static_cast<int64_t>(time.tv_sec)));
  pair.Set(1u, Napi::Number::New(env, time.tv_nsec));
  return pair;
}

Napi::Value Statx(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = PathOf(info[0]);
  struct statx stat;
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &stat) != 0) throw ErrnoError(env, errno, "statx", path);
  Napi::Object result = Napi::Object::New(env);
  result.Set("mode", Napi::Number::New(env, stat.stx_mode));
  result.Set("nlink", Napi::Number::New(env, stat.stx_nlink));
  result.Set("uid", Napi::Number::New(env, stat.stx_uid));
  result.Set("gid", Napi::Number::New(env, stat.stx_gid));
  result.Set("ino", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_ino)));
  result.Set("size", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_size)));
  result.Set("blocks", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_blocks)));
  result.Set("rdevMajor", Napi::Number::New(env, stat.stx_rdev_major));
  result.Set("rdevMinor", Napi::Number::New(env, stat.stx_rdev_minor));
  result.Set("atime", TimePair(env, stat.stx_atime));
  result.Set("mtime", TimePair(env, stat.stx_mtime));
  result.Set("ctime", TimePair(env, stat.stx_ctime));
  result.Set("btime", stat.stx_mask & STATX_BTIME ? TimePair(env, stat.stx_btime) : env.Null());
  return result;
}

void Mknod(const Napi::CallbackInfo& info) {
  const std::string path = PathOf(info[0]);
  const dev_t device = makedev(static_cast<unsigned>(NumberOf(info[2])), static_cast<unsigned>(NumberOf(info[3])));
  if (mknod(path.c_str(), static_cast<mode_t>(NumberOf(info[1])), device) != 0) throw ErrnoError(info.Env(), errno, "mknod", path);
}

struct timespec TimeOf(const Napi::Value& value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "a time is [seconds, nanoseconds]");
  const Napi::Array pair = value.As<Napi::Array>();
  const Napi::Value seconds = pair.Get(0u);
  if (!seconds.IsBigInt()) throw Napi::TypeError::New(value.Env(), "seconds must be a bigint");
  bool lossless = false;
  return {static_cast<time_t>(seconds.As<Napi::BigInt>().Int64Value(&lossless)), static_cast<long>(NumberOf(pair.Get(1u)))};
}

void Utimensat(const Napi::CallbackInfo& info) {
  const std::string path = PathOf(info[0]);
  const struct timespec times[2] = {TimeOf(info[1]), TimeOf(info[2])};
  if (utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) throw ErrnoError(info.Env(), errno, "utimensat", path);
}

void Umount2(const Napi::CallbackInfo& info) {
  const std::string target = PathOf(info[0]);
  if (umount2(target.c_str(), static_cast<int>(NumberOf(info[1]))) != 0) throw ErrnoError(info.Env(), errno, "umount2", target);
}

Napi::Value Pipe(const Napi::CallbackInfo& info) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw ErrnoError(info.Env(), errno, "pipe2");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("read", Napi::Number::New(info.Env(), ends[0]));
  result.Set("write", Napi::Number::New(info.Env(), ends[1]));
  return result;
}

void ForbidCoreDumps(const Napi::CallbackInfo& info) {
  const struct rlimit none = {0, 0};
  if (prctl(PR_SET_DUMPABLE, 0) != 0) throw ErrnoError(info.Env(), errno, "prctl");
  if (setrlimit(RLIMIT_CORE, &none) != 0) throw ErrnoError(info.Env(), errno, "setrlimit");
}

}  // namespace

Napi::Error ErrnoError(Napi::Env env, int error, const char* syscall, const std::string& path) {
  // libuv's errors are negative errnos on Linux.
  const std::string code = uv_err_name(-error);
  std::string message = code + ": " + uv_strerror(-error) + ", " + syscall;
  if (!path.empty()) message += " '" + path + "'";
  Napi::Error result = Napi::Error::New(env, message);
  result.Set("errno", Napi::Number::New(env, -error));
  result.Set("code", Napi::String::New(env, code));
  result.Set("syscall", Napi::String::New(env, syscall));
  if (!path.empty()) result.Set("path", Napi::String::New(env, path));
  return result;
}

void RegisterPosix(Napi::Env env, Napi::Object exports) {
  exports.Set("listXattrs", Napi::Function::New(env, ListXattrs, "listXattrs"));
  exports.Set("getXattr", Napi::Function::New(env, GetXattr, "getXattr"));
  exports.Set("setXattr", Napi::Function::New(env, SetXattr, "setXattr"));
  exports.Set("seek", Napi::Function::New(env, Seek, "seek"));
  exports.Set("statx", Napi::Function::New(env, Statx, "statx"));
  exports.Set("mknod", Napi::Function::New(env, Mknod, "mknod"));
  exports.Set("utimensat", Napi::Function::New(env, Utimensat, "utimensat"));
  exports.Set("umount2", Napi::Function::New(env, Umount2, "umount2"));
  exports.Set("pipe", Napi::Function::New(env, Pipe, "pipe"));
  exports.Set("forbidCoreDumps", Napi::Function::New(env, ForbidCoreDumps, "forbidCoreDumps"));
}

}  // namespace daybook
