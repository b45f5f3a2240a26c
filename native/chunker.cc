#include "chunker.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "async.h"
#include "js_bytes.h"

namespace daybook {
namespace {

constexpr uint64_t kSplitMask = (1 << 20) - 1;
// Fingerprints of one place depend on each other, byte after byte, so several places are worked on at the same time: the processor waits for tables in one
// lane while it computes in another. Bytes per lane: short enough to stay in the first cache, long against the 64 bytes each lane begins with.
constexpr size_t kLanes = 4;
constexpr size_t kLaneLength = 4096;

int Degree(uint64_t polynomial) { return std::bit_width(polynomial) - 1; }

uint64_t Remainder(uint64_t value, uint64_t polynomial) {
  const int degree = Degree(polynomial);
  for (int at = Degree(value); at >= degree; at = Degree(value)) value ^= polynomial << (at - degree);
  return value;
}

}  // namespace

std::optional<Chunker> Chunker::Make(uint64_t polynomial) {
  const int degree = Degree(polynomial);
  if (degree < 8 || degree > 53) return std::nullopt;
  Chunker chunker;
  chunker.shift_ = degree - 8;
  for (uint64_t byte = 0; byte < 256; byte++) {
    // What a byte has become when 63 more have followed: taken away with one XOR when it leaves the window.
    uint64_t hash = Remainder(byte, polynomial);
    for (size_t i = 1; i < kWindow; i++) hash = Remainder(hash << 8, polynomial);
    chunker.out_[byte] = hash;
    // What the 8 bits above the degree leave behind, and these bits themselves, so that one XOR reduces.
    chunker.mod_[byte] = Remainder(byte << degree, polynomial) | byte << degree;
  }
  return chunker;
}

// A fingerprint is that of the 64 bytes before a place and of nothing else: restic starts each chunk with an empty window and looks at none before
// kMinLength, when the window holds 64 bytes of the chunk.
size_t Chunker::Cut(const uint8_t* data, size_t length, size_t searched) const {
  const size_t end = std::min(length, kMaxLength);
  const size_t from = std::max(kMinLength, searched + 1);
  const size_t hit = from <= end ? FirstHit(data, from, end) : 0;
  return hit > 0 ? hit : length >= kMaxLength ? kMaxLength : 0;
}

// The first place in from..to behind which a chunk ends, 0 if there is none. from >= kWindow.
size_t Chunker::FirstHit(const uint8_t* data, size_t from, size_t to) const {
  const int shift = shift_;
  const auto slide = [&](uint64_t digest, uint8_t in) { return (digest << 8 | in) ^ mod_[digest >> shift]; };
  const auto fingerprint = [&](size_t place) {
    uint64_t digest = 0;
    for (size_t i = place - kWindow; i < place; i++) digest = slide(digest, data[i]);
    return digest;
  };
  size_t place = from;
  for (; place + kLanes * kLaneLength <= to + 1; place += kLanes * kLaneLength) {
    uint64_t digest[kLanes];
    size_t hit[kLanes] = {};
    const uint8_t* lane[kLanes];
    for (size_t k = 0; k < kLanes; k++) {
      lane[k] = data + place + k * kLaneLength;
      digest[k] = fingerprint(place + k * kLaneLength);
      if ((digest[k] & kSplitMask) == 0) hit[k] = place + k * kLaneLength;
    }
    for (size_t i = 0; i + 1 < kLaneLength; i++) {
      for (size_t k = 0; k < kLanes; k++) {
        const uint8_t* const next = lane[k] + i;
        digest[k] = slide(digest[k] ^ out_[*(next - kWindow)], *next);
        if ((digest[k] & kSplitMask) == 0 && hit[k] == 0) [[unlikely]] hit[k] = static_cast<size_t>(next - data) + 1;
      }
    }
    for (size_t k = 0; k < kLanes; k++) {
      if (hit[k] > 0) return hit[k];
    }
  }
  if (place > to) return 0;
  for (uint64_t digest = fingerprint(place);; place++) {
    if ((digest & kSplitMask) == 0) return place;
    if (place == to) return 0;
    digest = slide(digest ^ out_[data[place - kWindow]], data[place]);
  }
}

namespace {

constexpr napi_type_tag kChunkerTag = {0x6461796264636875, 0x1d2be8a04c5f9371};

// All cuts of a buffer, for those who have everything in memory.
class SplitTask : public AsyncTask {
 public:
  SplitTask(Napi::Env env, std::shared_ptr<const Chunker> chunker, const Napi::Value& bytes)
      : AsyncTask(env), chunker_(std::move(chunker)), bytes_(BytesOf(bytes, "bytes")) {
    Hold(bytes);
  }

 protected:
  void Run(size_t) override {
    for (size_t at = 0; at < bytes_.size;) {
      const size_t cut = chunker_->Cut(bytes_.data + at, bytes_.size - at);
      at = cut > 0 ? at + cut : bytes_.size;
      ends_.push_back(static_cast<double>(at));
    }
  }

  Napi::Value Result(Napi::Env env) override {
    auto ends = Napi::Float64Array::New(env, ends_.size());
    std::copy(ends_.begin(), ends_.end(), ends.Data());
    return ends;
  }

 private:
  std::shared_ptr<const Chunker> chunker_;
  JsBytes bytes_;
  std::vector<double> ends_;
};

class JsChunker : public Napi::ObjectWrap<JsChunker> {
 public:
  explicit JsChunker(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsChunker>(info) {
    const Napi::Env env = info.Env();
    bool lossless = false;
    const uint64_t polynomial = info[0].IsBigInt() ? info[0].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
    const std::optional<Chunker> made = Chunker::Make(lossless ? polynomial : 0);
    if (!made) throw Napi::TypeError::New(env, "a chunker's polynomial has a degree of 8 to 53");
    chunker_ = std::make_shared<const Chunker>(*made);
    napi_type_tag_object(env, info.This(), &kChunkerTag);
  }

  Napi::Value Split(const Napi::CallbackInfo& info) { return AsyncTask::Start(std::make_unique<SplitTask>(info.Env(), chunker_, info[0])); }
  const std::shared_ptr<const Chunker>& chunker() const { return chunker_; }

 private:
  std::shared_ptr<const Chunker> chunker_;
};

}  // namespace

std::shared_ptr<const Chunker> ChunkerOf(const Napi::Value& value) {
  bool tagged = false;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kChunkerTag, &tagged) != napi_ok || !tagged) {
    throw Napi::TypeError::New(value.Env(), "expected a Chunker");
  }
  return JsChunker::Unwrap(value.As<Napi::Object>())->chunker();
}

void RegisterChunker(Napi::Env env, Napi::Object exports) {
  exports.Set("Chunker", JsChunker::DefineClass(env, "Chunker", {JsChunker::InstanceMethod("split", &JsChunker::Split)}));
}

}  // namespace daybook
