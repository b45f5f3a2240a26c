#include "index_json.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <string_view>
#include <utility>

#include "blob_codec.h"
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

  // A blob as restic writes it, as nearly all are, in less than half the time. False, with nothing read, if anything in it is otherwise.
  bool ReadUsualBlob() {
    JsonReader json = json_;
    IndexRecord record;
    if (!json.TakeText("{\"id\":\"") || !DecodeId(json.TakeBytes(2 * kIdLength), record.id) || !json.TakeText("\",\"type\":\"")) return false;
    const bool tree = json.TakeText("tree");
    if (!tree && !json.TakeText("data")) return false;
    uint64_t offset, length, plain_length = 0;
    if (!json.TakeText("\",\"offset\":") || !json.TakeCount(&offset) || !json.TakeText(",\"length\":") || !json.TakeCount(&length)) return false;
    if (json.TakeText(",\"uncompressed_length\":") && !json.TakeCount(&plain_length)) return false;
    if (!json.TakeText("}") || !IsPossible(offset, length, plain_length)) return false;
    AddBlob(&record, tree ? kTree : kData, offset, length, plain_length);
    json_ = json;
    return true;
  }

  bool ReadBlob() {
    if (ReadUsualBlob()) return true;
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
    if (valid && type != kNone && IsPossible(offset, length, plain_length)) {
      AddBlob(&record, static_cast<uint32_t>(type), offset, length, plain_length);
    } else {
      records_.skipped++;
    }
    return true;
  }

  static bool IsPossible(uint64_t offset, uint64_t length, uint64_t plain_length) {
    return length >= kBlobOverhead && length <= kMaxBlobLength && plain_length <= kMaxBlobLength && offset <= kMaxSafeInteger - length;
  }

  void AddBlob(IndexRecord* record, uint32_t type, uint64_t offset, uint64_t length, uint64_t plain_length) {
    record->pack = static_cast<uint32_t>(records_.packs.size());
    record->type = type;
    record->length = static_cast<uint32_t>(length);
    record->plain_length = static_cast<uint32_t>(plain_length);
    record->offset = static_cast<double>(offset);
    records_.blobs.push_back(*record);
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

// Ids are hashes, so a deal by type and first bits leaves only a few in each heap to be sorted: a third of the time of sorting them all.
IndexRecords IndexBuilder::Finish() {
  struct Key {
    uint64_t first;  // the first bytes of the id, which nearly always decide
    uint32_t ordinal;
  };
  const std::vector<IndexRecord>& unsorted = records_.blobs;
  const int bits = std::clamp(static_cast<int>(std::bit_width(unsorted.size())) - 2, 1, 16);
  const size_t first_of_data = size_t{1} << bits;
  const auto first_bytes = [](const IndexRecord& blob) {
    uint64_t first;
    memcpy(&first, blob.id, sizeof first);
    return __builtin_bswap64(first);
  };
  const auto heap_of = [&](const IndexRecord& blob) { return (blob.type == kTree ? 0 : first_of_data) + (first_bytes(blob) >> (64 - bits)); };
  const auto before = [&](const Key& a, const Key& b) {
    if (a.first != b.first) return a.first < b.first;
    const int order = memcmp(unsorted[a.ordinal].id, unsorted[b.ordinal].id, kIdLength);
    return order != 0 ? order < 0 : a.ordinal < b.ordinal;
  };

  std::vector<uint32_t> ends(2 * first_of_data + 1);  // of each heap the place behind its last, once all are dealt
  for (const IndexRecord& blob : unsorted) ends[heap_of(blob) + 1]++;
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  records_.trees = ends[first_of_data];
  std::vector<Key> keys(unsorted.size());
  for (uint32_t i = 0; i < unsorted.size(); i++) keys[ends[heap_of(unsorted[i])]++] = {first_bytes(unsorted[i]), i};
  auto start = keys.begin();
  for (size_t heap = 0; heap < 2 * first_of_data; heap++) {
    const auto end = keys.begin() + ends[heap];
    std::sort(start, end, before);
    start = end;
  }

  // In place, each cycle of moves at once: fresh memory would cost more than the sorting.
  std::vector<IndexRecord>& blobs = records_.blobs;
  for (uint32_t i = 0; i < keys.size(); i++) {
    if (keys[i].ordinal == i) continue;
    const IndexRecord first = blobs[i];
    uint32_t to = i;
    for (uint32_t from = keys[to].ordinal; from != i; from = keys[to].ordinal) {
      blobs[to] = blobs[from];
      keys[to].ordinal = to;
      to = from;
    }
    blobs[to] = first;
    keys[to].ordinal = to;
  }
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

// How a file is stored.
struct Stored {
  std::array<uint8_t, kKeysLength> keys;
  bool zstd;
  size_t max_length;
};

// Made and destroyed on the JS thread.
class IndexWork : public Napi::AsyncWorker {
 public:
  // `stored`: null if `source` is the JSON itself.
  IndexWork(Napi::Env env, const Napi::Value& source, JsBytes bytes, std::optional<Stored> stored)
      : AsyncWorker(env, "daybook:index"), bytes_(bytes), stored_(std::move(stored)), deferred_(Napi::Promise::Deferred::New(env)),
        source_reference_(Napi::Persistent(source.As<Napi::Object>())) {}
  ~IndexWork() override {
    if (stored_) OPENSSL_cleanse(stored_->keys.data(), stored_->keys.size());
  }

  Napi::Promise Start() {
    Queue();
    return deferred_.Promise();
  }

 protected:
  // Pool thread. What it throws arrives at OnError.
  void Execute() override {
    if (!stored_) {
      records_ = DecodeIndex(bytes_.data, bytes_.size, &fault_);
      return;
    }
    // The JSON is three times as large as the file and the records, and gone before anybody else needs memory.
    std::shared_ptr<Chunk> json;
    error_ = DecryptFile(stored_->keys.data(), bytes_.data, bytes_.size, stored_->zstd, stored_->max_length, &json);
    if (error_ == DecodeError::kNone) records_ = DecodeIndex(json->data, json->size, &fault_);
  }

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
    if (error_ != DecodeError::kNone) return Napi::Number::New(Env(), -static_cast<double>(error_));
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
  std::optional<Stored> stored_;
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference source_reference_;
  DecodeError error_ = DecodeError::kNone;
  std::optional<IndexRecords> records_;
  size_t fault_ = 0;
};

Napi::Value JsDecodeIndexFile(const Napi::CallbackInfo& info) {
  const JsBytes bytes = BytesOf(info[0], "source");
  std::optional<Stored> stored;
  if (!info[1].IsUndefined()) {
    const JsBytes keys = BytesOf(info[1], "keys");
    if (keys.size != kKeysLength || !info[2].IsObject()) throw Napi::TypeError::New(info.Env(), "keys must have 64 bytes, and options must be an object");
    const auto options = info[2].As<Napi::Object>();
    const double max_length = options.Get("maxLength").ToNumber().DoubleValue();
    stored.emplace();
    memcpy(stored->keys.data(), keys.data, kKeysLength);
    stored->zstd = options.Get("zstd").ToBoolean();
    stored->max_length = max_length > 0 ? static_cast<size_t>(std::min(max_length, static_cast<double>(kMaxPlainLength))) : 0;
  }
  return (new IndexWork(info.Env(), info[0], bytes, std::move(stored)))->Start();
}

}  // namespace

void RegisterIndexJson(Napi::Env env, Napi::Object exports) {
  exports.Set("decodeIndexFile", Napi::Function::New(env, JsDecodeIndexFile, "decodeIndexFile"));
}

}  // namespace daybook
