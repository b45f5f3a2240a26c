#define OPENSSL_SUPPRESS_DEPRECATED  // the one-shot SHA-256 of OpenSSL 3 looks its algorithm up in each call
#include "blob_encoder.h"

#include <openssl/sha.h>
#include <zstd.h>

#include <cstring>

#include <mutex>
#include <vector>

#include "async.h"
#include "blob_codec.h"
#include "js_bytes.h"

namespace daybook {
namespace {

// As restic's: blobs are not longer than 8 MiB, and a reader needs no more memory than this beside them.
constexpr int kWindowLog = 19;

// Borrows a compressor, one per call at work: making one costs more than compressing a small blob. Kept in a list rather than in thread-local storage,
// as the threads of the pool live as long as the process.
class CompressorLease {
 public:
  CompressorLease() {
    {
      std::lock_guard lock(Idle().mutex);
      if (!Idle().list.empty()) {
        context_ = Idle().list.back();
        Idle().list.pop_back();
      }
    }
    if (context_ == nullptr) context_ = ZSTD_createCCtx();
  }
  ~CompressorLease() {
    if (context_ == nullptr) return;
    std::lock_guard lock(Idle().mutex);
    Idle().list.push_back(context_);
  }
  CompressorLease(const CompressorLease&) = delete;
  CompressorLease& operator=(const CompressorLease&) = delete;

  // Bytes written, 0 if it failed.
  size_t Compress(const uint8_t* plain, size_t length, int level, uint8_t* to, size_t capacity) {
    if (context_ == nullptr) return 0;
    ZSTD_CCtx_reset(context_, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_windowLog, kWindowLog);
    const size_t written = ZSTD_compress2(context_, to, capacity, plain, length);
    return ZSTD_isError(written) ? 0 : written;
  }

 private:
  struct IdleList {
    std::mutex mutex;
    std::vector<ZSTD_CCtx*> list;
  };
  // Never destroyed: pool threads may still be at work while the process exits.
  static IdleList& Idle() {
    static IdleList* idle = new IdleList;
    return *idle;
  }

  ZSTD_CCtx* context_ = nullptr;
};

}  // namespace

std::shared_ptr<Chunk> EncodeBlob(const uint8_t* keys, const uint8_t* plain, size_t length, const uint8_t* id, int level, bool verify) {
  const uint8_t* source = plain;
  size_t source_length = length;
  std::shared_ptr<Chunk> frame;
  if (level != kStorePlain) {
    const size_t bound = ZSTD_compressBound(length);
    frame = Chunk::Allocate(bound);
    if (frame == nullptr) return nullptr;
    source_length = CompressorLease().Compress(plain, length, level, frame->data, bound);
    if (source_length == 0) return nullptr;
    source = frame->data;
  }
  std::shared_ptr<Chunk> stored = Chunk::Allocate(source_length + kCryptoOverhead);
  if (stored == nullptr || !Encrypt(keys, source, source_length, stored->data)) return nullptr;
  if (verify) {
    frame.reset();
    std::shared_ptr<Chunk> again;
    const uint32_t plain_length = level == kStorePlain ? 0 : static_cast<uint32_t>(length);
    if (DecodeBlob(keys, stored->data, stored->size, plain_length, id, &again) != DecodeError::kNone) return nullptr;
  }
  return stored;
}

namespace {

constexpr uint8_t kZstdMark = 2;

class EncryptFileTask : public AsyncTask {
 public:
  EncryptFileTask(const Napi::CallbackInfo& info) : AsyncTask(info.Env()), plain_(BytesOf(info[1], "plain")) {
    const JsBytes keys = BytesOf(info[0], "keys");
    if (keys.size != kKeysLength) throw Napi::TypeError::New(info.Env(), "keys must have 64 bytes");
    memcpy(keys_, keys.data, kKeysLength);
    compress_ = info[2].IsNumber();
    if (compress_) level_ = info[2].As<Napi::Number>().Int32Value();
    Hold(info[1]);
  }
  ~EncryptFileTask() override { explicit_bzero(keys_, sizeof keys_); }

 protected:
  void Run(size_t) override {
    const uint8_t* source = plain_.data;
    size_t length = plain_.size;
    std::shared_ptr<Chunk> frame;
    if (compress_) {
      const size_t bound = ZSTD_compressBound(plain_.size);
      frame = Chunk::Allocate(1 + bound);
      if (frame == nullptr) return;
      frame->data[0] = kZstdMark;
      const size_t written = CompressorLease().Compress(plain_.data, plain_.size, level_, frame->data + 1, bound);
      if (written == 0) return;
      source = frame->data;
      length = 1 + written;
    }
    std::shared_ptr<Chunk> stored = Chunk::Allocate(length + kCryptoOverhead);
    if (stored == nullptr || !Encrypt(keys_, source, length, stored->data)) return;
    // As of blobs: what cannot be read back is not given out.
    std::shared_ptr<Chunk> again;
    if (DecryptFile(keys_, stored->data, stored->size, compress_, plain_.size + 1, &again) != DecodeError::kNone) return;
    if (again->size != plain_.size || (plain_.size > 0 && memcmp(again->data, plain_.data, plain_.size) != 0)) return;
    stored_ = std::move(stored);
  }

  Napi::Value Result(Napi::Env env) override {
    if (stored_ == nullptr) throw Napi::Error::New(env, "a file could not be encoded: out of memory, or memory that does not hold what is put there");
    return Napi::Buffer<uint8_t>::Copy(env, stored_->data, stored_->size);
  }

 private:
  uint8_t keys_[kKeysLength];
  JsBytes plain_;
  bool compress_ = false;
  int level_ = 0;
  std::shared_ptr<Chunk> stored_;
};

class HashTask : public AsyncTask {
 public:
  HashTask(const Napi::CallbackInfo& info) : AsyncTask(info.Env()), bytes_(BytesOf(info[0], "bytes")) { Hold(info[0]); }

 protected:
  void Run(size_t) override {
    SHA256_CTX sha;
    SHA256_Init(&sha);
    SHA256_Update(&sha, bytes_.data, bytes_.size);
    SHA256_Final(digest_, &sha);
  }
  Napi::Value Result(Napi::Env env) override { return Napi::Buffer<uint8_t>::Copy(env, digest_, sizeof digest_); }

 private:
  JsBytes bytes_;
  uint8_t digest_[SHA256_DIGEST_LENGTH];
};

Napi::Value JsEncryptFile(const Napi::CallbackInfo& info) { return AsyncTask::Start(std::make_unique<EncryptFileTask>(info)); }
Napi::Value JsSha256(const Napi::CallbackInfo& info) { return AsyncTask::Start(std::make_unique<HashTask>(info)); }

}  // namespace

void RegisterBlobEncoder(Napi::Env env, Napi::Object exports) {
  exports.Set("encryptFile", Napi::Function::New(env, JsEncryptFile, "encryptFile"));
  exports.Set("sha256", Napi::Function::New(env, JsSha256, "sha256"));
}

}  // namespace daybook
