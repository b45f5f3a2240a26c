#define OPENSSL_SUPPRESS_DEPRECATED  // the one-shot SHA-256 of OpenSSL 3 looks its algorithm up in each call
#include "pieces.h"

#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "async.h"
#include "blob_codec.h"
#include "blob_encoder.h"
#include "js_bytes.h"
#include "posix.h"
#include "tree_json.h"

namespace daybook {
namespace {

constexpr napi_type_tag kPiecesTag = {0x6461796270696563, 0x52e9c1f70b4d68a3};
// Plaintext of one piece of work: long enough to hide the cost of a hop to the pool, short enough to fill all cores.
constexpr size_t kWorkLength = 512 << 10;

// Each thread that runs JavaScript has an environment of its own.
struct JsThread {
  Napi::FunctionReference constructor;
  std::unique_ptr<std::vector<Piece>> pending;  // what the constructor takes; only Wrap() sets it
};
thread_local JsThread* js_thread = nullptr;

class EncodeTask : public AsyncTask {
 public:
  EncodeTask(Napi::Env env, const Napi::Value& keys, std::shared_ptr<std::vector<Piece>> list, std::vector<uint32_t> indexes, int level, bool verify)
      : AsyncTask(env), list_(std::move(list)), indexes_(std::move(indexes)), level_(level), verify_(verify) {
    const JsBytes bytes = BytesOf(keys, "keys");
    if (bytes.size != kKeysLength) throw Napi::TypeError::New(env, "keys must have 64 bytes");
    memcpy(keys_, bytes.data, kKeysLength);
    size_t length = 0;
    for (size_t i = 0; i < indexes_.size(); i++) {
      length += (*list_)[indexes_[i]].length;
      if (length < kWorkLength && i + 1 < indexes_.size()) continue;
      ends_.push_back(i + 1);
      length = 0;
    }
  }
  ~EncodeTask() override { explicit_bzero(keys_, sizeof keys_); }

  size_t parts() const { return ends_.size(); }

 protected:
  void Run(size_t part) override {
    for (size_t i = part == 0 ? 0 : ends_[part - 1]; i < ends_[part]; i++) {
      Piece& piece = (*list_)[indexes_[i]];
      if (piece.plain == nullptr || piece.length > kMaxPlainLength) continue;
      // Nothing compresses to nothing: restic leaves it as it is, for a plain length of 0 says "not compressed".
      piece.compressed = level_ != kStorePlain && piece.length > 0;
      piece.stored = EncodeBlob(keys_, piece.plain->data, piece.length, piece.id.data(), piece.compressed ? level_ : kStorePlain, verify_);
      piece.plain.reset();
    }
  }

  Napi::Value Result(Napi::Env env) override {
    auto lengths = Napi::Float64Array::New(env, indexes_.size());
    for (size_t i = 0; i < indexes_.size(); i++) {
      const Piece& piece = (*list_)[indexes_[i]];
      if (piece.stored == nullptr) throw Napi::Error::New(env, "a blob could not be encoded: out of memory, or memory that does not hold what is put there");
      lengths[i] = static_cast<double>(piece.stored->size);
    }
    return lengths;
  }

 private:
  uint8_t keys_[kKeysLength];
  std::shared_ptr<std::vector<Piece>> list_;
  std::vector<uint32_t> indexes_;
  std::vector<size_t> ends_;
  const int level_;
  const bool verify_;
};

// Puts encoded pieces into files.
class WriteTask : public AsyncTask {
 public:
  struct Place {
    size_t piece;
    int fd;
    off_t offset;
  };

  WriteTask(Napi::Env env, std::shared_ptr<std::vector<Piece>> list, std::vector<Place> places)
      : AsyncTask(env), list_(std::move(list)), places_(std::move(places)) {}

 protected:
  void Run(size_t) override {
    for (const Place& place : places_) {
      Piece& piece = (*list_)[place.piece];
      if (piece.stored == nullptr) {
        error_ = EINVAL;
        return;
      }
      for (size_t done = 0; done < piece.stored->size;) {
        const ssize_t count = pwrite(place.fd, piece.stored->data + done, piece.stored->size - done, place.offset + static_cast<off_t>(done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
          error_ = errno;
          return;
        }
        done += static_cast<size_t>(count);
      }
      piece.stored.reset();
    }
  }

  Napi::Value Result(Napi::Env env) override {
    if (error_ != 0) throw ErrnoError(env, error_, "pwrite");
    return env.Undefined();
  }

 private:
  std::shared_ptr<std::vector<Piece>> list_;
  std::vector<Place> places_;
  int error_ = 0;
};

}  // namespace

Piece Piece::Of(const uint8_t* bytes, size_t length) {
  Piece piece;
  piece.length = length;
  piece.plain = Chunk::Allocate(length);
  if (piece.plain == nullptr) throw std::bad_alloc();
  if (length > 0) memcpy(piece.plain->data, bytes, length);
  piece.Name();
  return piece;
}

void Piece::Name() {
  SHA256_CTX sha;
  SHA256_Init(&sha);
  SHA256_Update(&sha, plain->data, length);
  SHA256_Final(id.data(), &sha);
}

void Pieces::Register(Napi::Env env, Napi::Object) {
  if (js_thread == nullptr) js_thread = new JsThread;
  js_thread->constructor = Napi::Persistent(DefineClass(env, "Pieces", {
      InstanceAccessor("count", &Pieces::Count, nullptr),
      InstanceAccessor("ids", &Pieces::Ids, nullptr),
      InstanceAccessor("lengths", &Pieces::Lengths, nullptr),
      InstanceMethod("bytes", &Pieces::Bytes),
      InstanceMethod("rows", &Pieces::Rows),
      InstanceMethod("encode", &Pieces::Encode),
      InstanceMethod("write", &Pieces::Write),
      InstanceMethod("free", &Pieces::Free),
  }));
  js_thread->constructor.SuppressDestruct();
}

Napi::Object Pieces::Wrap(Napi::Env env, std::vector<Piece> pieces) {
  (void)env;
  js_thread->pending = std::make_unique<std::vector<Piece>>(std::move(pieces));
  return js_thread->constructor.New({});
}

Pieces::Pieces(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Pieces>(info) {
  if (js_thread->pending == nullptr) throw Napi::TypeError::New(info.Env(), "pieces come from the addon");
  list_ = std::shared_ptr<std::vector<Piece>>(js_thread->pending.release());
  napi_type_tag_object(info.Env(), info.This(), &kPiecesTag);
}

Napi::Value Pieces::Count(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(list_->size())); }

Napi::Value Pieces::Ids(const Napi::CallbackInfo& info) {
  auto ids = Napi::Buffer<uint8_t>::New(info.Env(), list_->size() * kIdLength);
  for (size_t i = 0; i < list_->size(); i++) memcpy(ids.Data() + i * kIdLength, (*list_)[i].id.data(), kIdLength);
  return ids;
}

Napi::Value Pieces::Lengths(const Napi::CallbackInfo& info) {
  auto lengths = Napi::Float64Array::New(info.Env(), list_->size());
  for (size_t i = 0; i < list_->size(); i++) lengths[i] = static_cast<double>((*list_)[i].length);
  return lengths;
}

Piece& Pieces::At(const Napi::Value& index) {
  const double at = index.IsNumber() ? index.As<Napi::Number>().DoubleValue() : -1;
  if (!(at >= 0 && at < static_cast<double>(list_->size()))) throw Napi::RangeError::New(index.Env(), "no such piece");
  return (*list_)[static_cast<size_t>(at)];
}

Napi::Value Pieces::Bytes(const Napi::CallbackInfo& info) {
  const Piece& piece = At(info[0]);
  const std::shared_ptr<Chunk>& chunk = piece.stored != nullptr ? piece.stored : piece.plain;
  if (chunk == nullptr) throw Napi::Error::New(info.Env(), "the piece was freed");
  return Napi::Buffer<uint8_t>::Copy(info.Env(), chunk->data, chunk->size);
}

Napi::Value Pieces::Rows(const Napi::CallbackInfo& info) {
  const Piece& piece = At(info[0]);
  if (piece.plain == nullptr) throw Napi::Error::New(info.Env(), "the piece was encoded");
  RowsBuffer rows;
  if (TreeToRows(piece.id.data(), piece.plain->data, piece.length, &rows) != TreeResult::kOk) return info.Env().Null();
  return Napi::Buffer<uint8_t>::Copy(info.Env(), rows.data.get(), rows.size);
}

Napi::Value Pieces::Encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) throw Napi::TypeError::New(env, "indexes must be a Uint32Array");
  const auto array = info[1].As<Napi::Uint32Array>();
  std::vector<uint32_t> indexes(array.Data(), array.Data() + array.ElementLength());
  for (const uint32_t index : indexes) {
    if (index >= list_->size()) throw Napi::RangeError::New(env, "no such piece");
  }
  const int level = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : kStorePlain;
  auto task = std::make_unique<EncodeTask>(env, info[0], list_, std::move(indexes), level, info[3].ToBoolean());
  task->Hold(info.This());
  const size_t parts = task->parts();
  return AsyncTask::Start(std::move(task), parts);
}

Napi::Value Pieces::Write(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) throw Napi::TypeError::New(env, "places must be a Float64Array");
  const auto array = info[0].As<Napi::Float64Array>();
  if (array.ElementLength() % 3 != 0) throw Napi::TypeError::New(env, "places are triples");
  std::vector<WriteTask::Place> places;
  for (size_t i = 0; i < array.ElementLength(); i += 3) {
    if (!(array[i] >= 0 && array[i] < static_cast<double>(list_->size()))) throw Napi::RangeError::New(env, "no such piece");
    places.push_back({static_cast<size_t>(array[i]), static_cast<int>(array[i + 1]), static_cast<off_t>(array[i + 2])});
  }
  return AsyncTask::Start(std::make_unique<WriteTask>(env, list_, std::move(places)));
}

void Pieces::Free(const Napi::CallbackInfo&) {
  for (Piece& piece : *list_) {
    piece.plain.reset();
    piece.stored.reset();
  }
}

}  // namespace daybook
