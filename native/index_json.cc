#include "index_json.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "js_bytes.h"
#include "json_reader.h"
#include "restic_values.h"

namespace daybook {
namespace {

constexpr int kMaxNesting = 1000;  // of what is not looked into
constexpr uint64_t kMaxSafeInteger = (uint64_t{1} << 53) - 1;
// src/format/limits.ts
constexpr uint64_t kBlobOverhead = 32;
constexpr uint64_t kMaxBlobLength = 1 << 30;
// The shortest blob that is kept, {"id":"…64…","type":"data","offset":0,"length":32} and a comma, bounds how many there can be.
constexpr size_t kMinBlobJson = 110;
constexpr uint32_t kData = 0, kTree = 1;
constexpr uint64_t kNone = UINT64_MAX;

enum Field { kId, kBlobs, kType, kOffset, kLength, kPlainLength, kPacks, kPacksToDelete, kOther };

Field FieldOfText(std::string_view key) {
  const auto is = [key](std::string_view name, Field field) { return key == name ? field : kOther; };
  switch (key.size()) {
    case 2: return is("id", kId);
    case 4: return is("type", kType);
    case 5: return key == "blobs" ? kBlobs : is("packs", kPacks);
    case 6: return key == "offset" ? kOffset : is("length", kLength);
    case 15: return is("packs_to_delete", kPacksToDelete);
    case 19: return is("uncompressed_length", kPlainLength);
    default: return kOther;
  }
}

Field FieldOfKey(std::string_view raw) {
  const Field field = FieldOfText(raw.substr(1, raw.size() - 2));
  return field == kOther && raw.find('\\') != std::string_view::npos ? FieldOfText(JsonText(raw).view()) : field;
}

bool TakeId(std::string_view raw, uint8_t* id) { return raw.size() == 66 && raw.front() == '"' && DecodeId(raw.substr(1, 64), id); }

// Whole numbers that JavaScript holds exactly; kNone for anything else.
uint64_t CountOf(std::string_view raw) {
  uint64_t value = 0;
  return DecodeUnsigned(raw, &value) && value <= kMaxSafeInteger ? value : kNone;
}

// One parse. Of a key that comes twice the last value counts, but lists add up.
class IndexBuilder {
 public:
  IndexBuilder(const uint8_t* json, size_t length) : json_({reinterpret_cast<const char*>(json), length}) {
    // What is not used of it is never touched.
    records_.blobs.reserve(length / kMinBlobJson + 1);
  }

  bool Read() {
    // Until 2015 an index file was the bare list of packs.
    const bool read = json_.Peek() == '[' ? ReadPacks(0) : json_.ReadObject([&](std::string_view key) {
      switch (FieldOfKey(key)) {
        case kPacks: return ReadPacks(0);
        case kPacksToDelete: return ReadPacks(1);
        default: return Skip();
      }
    });
    return read && json_.AtEnd();
  }

  size_t left() const { return json_.left(); }
  IndexRecords Finish();

 private:
  bool Skip() {
    std::string_view raw;
    return json_.ReadValue(&raw, kMaxNesting);
  }
  bool SkipEntry() {
    records_.skipped++;
    return Skip();
  }

  bool ReadPacks(uint8_t to_delete) {
    if (json_.Peek() == 'n') return Skip();
    return json_.ReadArray([&] { return json_.Peek() == '{' ? ReadPack(to_delete) : SkipEntry(); });
  }

  bool ReadPack(uint8_t to_delete) {
    const size_t first_blob = records_.blobs.size();
    std::array<uint8_t, kIdLength> id;
    bool valid = false;
    const bool read = json_.ReadObject([&](std::string_view key) {
      const Field field = FieldOfKey(key);
      if (field == kBlobs && json_.Peek() == '[') return json_.ReadArray([&] { return json_.Peek() == '{' ? ReadBlob() : SkipEntry(); });
      std::string_view raw;
      if (!json_.ReadValue(&raw, kMaxNesting)) return false;
      if (field == kId) valid = TakeId(raw, id.data());
      return true;
    });
    if (!read) return false;
    if (valid) {
      records_.packs.push_back(id);
      records_.to_delete.push_back(to_delete);
    } else {
      records_.skipped += 1 + records_.blobs.size() - first_blob;
      records_.blobs.resize(first_blob);
    }
    return true;
  }

  bool ReadBlob() {
    IndexRecord record;
    bool valid = false;
    uint64_t type = kNone, offset = kNone, length = kNone, plain_length = 0;
    const bool read = json_.ReadObject([&](std::string_view key) {
      const Field field = FieldOfKey(key);
      std::string_view raw;
      if (!json_.ReadValue(&raw, kMaxNesting)) return false;
      switch (field) {
        case kId: valid = TakeId(raw, record.id); break;
        case kType: type = TypeOf(raw); break;
        case kOffset: offset = CountOf(raw); break;
        case kLength: length = CountOf(raw); break;
        case kPlainLength: plain_length = CountOf(raw); break;
        default: break;
      }
      return true;
    });
    if (!read) return false;
    if (!valid || type == kNone || length < kBlobOverhead || length > kMaxBlobLength || plain_length > kMaxBlobLength ||
        offset > kMaxSafeInteger - length) {
      records_.skipped++;
      return true;
    }
    record.pack = static_cast<uint32_t>(records_.packs.size());
    record.type = static_cast<uint32_t>(type);
    record.length = static_cast<uint32_t>(length);
    record.plain_length = static_cast<uint32_t>(plain_length);
    record.offset = static_cast<double>(offset);
    records_.blobs.push_back(record);
    return true;
  }

  static uint64_t TypeOf(std::string_view raw) {
    if (raw == "\"data\"") return kData;
    if (raw == "\"tree\"") return kTree;
    const JsonText text(raw);
    return text.view() == "data" ? kData : text.view() == "tree" ? kTree : kNone;
  }

  JsonReader json_;
  IndexRecords records_;
};

// Sorted by keys of their first eight bytes: a quarter of the memory is moved, and all but a few pairs are told apart without a look at the ids.
IndexRecords IndexBuilder::Finish() {
  struct Key {
    uint64_t first;
    uint32_t ordinal;
  };
  const std::vector<IndexRecord>& unsorted = records_.blobs;
  const auto before = [&](const Key& a, const Key& b) {
    if (a.first != b.first) return a.first < b.first;
    const int order = memcmp(unsorted[a.ordinal].id, unsorted[b.ordinal].id, kIdLength);
    return order != 0 ? order < 0 : a.ordinal < b.ordinal;
  };
  std::vector<Key> keys;
  keys.reserve(unsorted.size());
  for (const uint32_t type : {kTree, kData}) {
    const auto start = static_cast<ptrdiff_t>(keys.size());
    for (uint32_t i = 0; i < unsorted.size(); i++) {
      if (unsorted[i].type != type) continue;
      uint64_t first;
      memcpy(&first, unsorted[i].id, sizeof first);
      keys.push_back({__builtin_bswap64(first), i});
    }
    std::sort(keys.begin() + start, keys.end(), before);
    if (type == kTree) records_.trees = keys.size();
  }
  std::vector<IndexRecord> sorted;
  sorted.reserve(keys.size());
  for (const Key& key : keys) sorted.push_back(unsorted[key.ordinal]);
  records_.blobs = std::move(sorted);
  return std::move(records_);
}

}  // namespace

std::optional<IndexRecords> DecodeIndex(const uint8_t* json, size_t length, size_t* fault) {
  IndexBuilder builder(json, length);
  if (builder.Read()) return builder.Finish();
  *fault = length - builder.left();
  return std::nullopt;
}

namespace {

// Made and destroyed on the JS thread.
class IndexWork : public Napi::AsyncWorker {
 public:
  IndexWork(Napi::Env env, const Napi::Value& json, JsBytes bytes)
      : AsyncWorker(env, "daybook:index"), bytes_(bytes), deferred_(Napi::Promise::Deferred::New(env)),
        json_reference_(Napi::Persistent(json.As<Napi::Object>())) {}

  Napi::Promise Start() {
    Queue();
    return deferred_.Promise();
  }

 protected:
  // Pool thread. What it throws arrives at OnError.
  void Execute() override { records_ = DecodeIndex(bytes_.data, bytes_.size, &fault_); }

  // While the environment is torn down nothing can be told to JavaScript, and nobody waits.
  void OnOK() override {
    try {
      deferred_.Resolve(Result());
    } catch (const Napi::Error& error) {
      Reject(error);
    }
  }
  void OnError(const Napi::Error& error) override { Reject(error); }

 private:
  Napi::Value Result() const {
    if (!records_) return Napi::Number::New(Env(), static_cast<double>(fault_));
    Napi::Object file = Napi::Object::New(Env());
    file.Set("packs", Copy(records_->packs));
    file.Set("toDelete", Copy(records_->to_delete));
    file.Set("blobs", Copy(records_->blobs));
    file.Set("treeCount", Napi::Number::New(Env(), static_cast<double>(records_->trees)));
    file.Set("skipped", Napi::Number::New(Env(), static_cast<double>(records_->skipped)));
    return file;
  }

  // Into memory of V8: a buffer of ours could not be transferred to another thread.
  template <typename T>
  Napi::Value Copy(const std::vector<T>& items) const {
    return Napi::Buffer<uint8_t>::Copy(Env(), reinterpret_cast<const uint8_t*>(items.data()), items.size() * sizeof(T));
  }

  void Reject(const Napi::Error& error) {
    try {
      deferred_.Reject(error.Value());
    } catch (const Napi::Error&) {
    }
  }

  JsBytes bytes_;
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference json_reference_;
  std::optional<IndexRecords> records_;
  size_t fault_ = 0;
};

Napi::Value JsDecodeIndexFile(const Napi::CallbackInfo& info) {
  const JsBytes bytes = BytesOf(info[0], "json");
  return (new IndexWork(info.Env(), info[0], bytes))->Start();
}

}  // namespace

void RegisterIndexJson(Napi::Env env, Napi::Object exports) {
  exports.Set("decodeIndexFile", Napi::Function::New(env, JsDecodeIndexFile, "decodeIndexFile"));
}

}  // namespace daybook
