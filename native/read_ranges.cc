#include "read_ranges.h"

#include <errno.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "js_bytes.h"

namespace daybook {
namespace {

struct Range {
  int fd;
  off_t offset;
  size_t length;
  size_t at;
};

bool IsCount(double value, double limit) { return value >= 0 && value <= limit && value == std::floor(value); }

// One hop to the thread pool for many small reads, where each would cost two wake-ups of a sleeping thread: more than the read itself.
class ReadRanges : public Napi::AsyncWorker {
 public:
  ReadRanges(const Napi::CallbackInfo& info)
      : Napi::AsyncWorker(info.Env(), "daybook:read"), deferred_(Napi::Promise::Deferred::New(info.Env())), into_(BytesOf(info[1], "into")) {
    const Napi::Env env = info.Env();
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) throw Napi::TypeError::New(env, "ranges must be a Float64Array");
    const auto ranges = info[0].As<Napi::Float64Array>();
    const size_t count = ranges.ElementLength() / 4;
    if (count * 4 != ranges.ElementLength()) throw Napi::TypeError::New(env, "ranges must be quadruples");
    for (size_t i = 0; i < count; i++) {
      const double fd = ranges[i * 4], offset = ranges[i * 4 + 1], length = ranges[i * 4 + 2], at = ranges[i * 4 + 3];
      const double size = static_cast<double>(into_.size);
      if (!IsCount(fd, INT32_MAX) || !IsCount(offset, 9007199254740991.0) || !IsCount(length, size) || !IsCount(at, size - length)) {
        throw Napi::RangeError::New(env, "a range lies outside");
      }
      ranges_.push_back({static_cast<int>(fd), static_cast<off_t>(offset), static_cast<size_t>(length), static_cast<size_t>(at)});
    }
    read_.resize(count);
    reference_ = Napi::Persistent(info[1].As<Napi::Object>());
  }

  Napi::Promise Promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    for (size_t i = 0; i < ranges_.size(); i++) {
      const Range& range = ranges_[i];
      size_t done = 0;
      while (done < range.length) {
        const ssize_t n = pread(range.fd, into_.data + range.at + done, range.length - done, range.offset + static_cast<off_t>(done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<size_t>(n);
      }
      read_[i] = done == range.length;
    }
  }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    auto result = Napi::Uint8Array::New(Env(), read_.size());
    for (size_t i = 0; i < read_.size(); i++) result[i] = read_[i];
    deferred_.Resolve(result);
  }

 private:
  Napi::Promise::Deferred deferred_;
  JsBytes into_;
  Napi::ObjectReference reference_;  // keeps it alive
  std::vector<Range> ranges_;
  std::vector<uint8_t> read_;
};

Napi::Value JsReadRanges(const Napi::CallbackInfo& info) {
  auto* worker = new ReadRanges(info);
  const Napi::Promise promise = worker->Promise();
  worker->Queue();
  return promise;
}

}  // namespace

void RegisterReadRanges(Napi::Env env, Napi::Object exports) { exports.Set("readRanges", Napi::Function::New(env, JsReadRanges, "readRanges")); }

}  // namespace daybook
