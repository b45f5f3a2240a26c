#define OPENSSL_SUPPRESS_DEPRECATED
#include "blob_codec.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "js_bytes.h"
#include "tree_json.h"
#include "tree_rows.h"

namespace daybook {
namespace {

constexpr size_t kIvLength = 16;
constexpr size_t kMacLength = 16;
constexpr size_t kKeyK = 32, kKeyR = 48;  // places of Poly1305's k and r in the keys
// Ciphertext of one piece of work: long enough to hide the cost of a hop to the pool, short enough to fill all cores.
constexpr size_t kWorkLength = 512 << 10;
constexpr size_t kMaxStoredLength = kMaxPlainLength + (1 << 20);
constexpr uint8_t kZstdMark = 2;
constexpr size_t kMaxScratch = 2 << 20;  // restic's chunks are 1 MiB on average

// Contexts with their key schedules. Fetching an algorithm and making a context costs more than decoding a small blob.
class Cipher {
 public:
  Cipher() {
    Algorithms& algorithms = Algorithms::Get();
    ctr_ = EVP_CIPHER_CTX_new();
    ecb_ = EVP_CIPHER_CTX_new();
    mac_ = algorithms.poly1305 == nullptr ? nullptr : EVP_MAC_CTX_new(algorithms.poly1305);
    zstd_ = ZSTD_createDCtx();
    good_ = ctr_ != nullptr && ecb_ != nullptr && mac_ != nullptr && zstd_ != nullptr &&
            EVP_EncryptInit_ex2(ctr_, algorithms.ctr, nullptr, nullptr, nullptr) == 1 &&
            EVP_EncryptInit_ex2(ecb_, algorithms.ecb, nullptr, nullptr, nullptr) == 1 && EVP_CIPHER_CTX_set_padding(ecb_, 0) == 1;
  }
  ~Cipher() {
    EVP_CIPHER_CTX_free(ctr_);
    EVP_CIPHER_CTX_free(ecb_);
    EVP_MAC_CTX_free(mac_);
    ZSTD_freeDCtx(zstd_);
    OPENSSL_cleanse(keys_, sizeof keys_);
  }
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  bool good() const { return good_; }

  // Memory for what is needed during one call: the same again and again, so that no fresh page is touched. Null if there is none.
  std::shared_ptr<Chunk> Scratch(size_t size) {
    if (size > kMaxScratch) return Chunk::Allocate(size);
    if (scratch_ == nullptr || scratch_->capacity < size) {
      scratch_.reset();
      scratch_ = Chunk::Allocate(size);
    }
    if (scratch_ != nullptr) scratch_->size = size;
    return scratch_;
  }

  ZSTD_DCtx* zstd() { return zstd_; }

  bool SetKeys(const uint8_t* keys) {
    if (keyed_ && memcmp(keys, keys_, kKeysLength) == 0) return true;
    memcpy(keys_, keys, kKeysLength);
    keyed_ = EVP_EncryptInit_ex2(ctr_, nullptr, keys_, nullptr, nullptr) == 1 && EVP_EncryptInit_ex2(ecb_, nullptr, keys_ + kKeyK, nullptr, nullptr) == 1;
    return keyed_;
  }

  // Poly1305 clamps r itself. Its other half is the IV encrypted with k.
  bool Mac(const uint8_t* iv, const uint8_t* ciphertext, size_t length, uint8_t* mac) {
    uint8_t key[32];
    memcpy(key, keys_ + kKeyR, 16);
    int written = 0;
    if (EVP_EncryptUpdate(ecb_, key + 16, &written, iv, kIvLength) != 1 || written != 16) return false;
    size_t mac_length = 0;
    return EVP_MAC_init(mac_, key, sizeof key, nullptr) == 1 && EVP_MAC_update(mac_, ciphertext, length) == 1 &&
           EVP_MAC_final(mac_, mac, &mac_length, kMacLength) == 1 && mac_length == kMacLength;
  }

  // CTR: decryption is encryption.
  bool Crypt(const uint8_t* iv, const uint8_t* from, size_t length, uint8_t* to) {
    if (length > INT_MAX) return false;
    int written = 0;
    return EVP_EncryptInit_ex2(ctr_, nullptr, nullptr, iv, nullptr) == 1 &&
           (length == 0 || (EVP_EncryptUpdate(ctr_, to, &written, from, static_cast<int>(length)) == 1 && static_cast<size_t>(written) == length));
  }

 private:
  struct Algorithms {
    EVP_CIPHER* ctr = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
    EVP_CIPHER* ecb = EVP_CIPHER_fetch(nullptr, "AES-128-ECB", nullptr);
    EVP_MAC* poly1305 = EVP_MAC_fetch(nullptr, "POLY1305", nullptr);
    static Algorithms& Get() {
      static Algorithms* algorithms = new Algorithms;
      return *algorithms;
    }
  };

  EVP_CIPHER_CTX* ctr_;
  EVP_CIPHER_CTX* ecb_;
  EVP_MAC_CTX* mac_;
  ZSTD_DCtx* zstd_;
  std::shared_ptr<Chunk> scratch_;
  uint8_t keys_[kKeysLength];
  bool good_ = false;
  bool keyed_ = false;
};

// Borrows a Cipher, one per call at work. They are kept in a list rather than in thread-local storage, because pool threads end after
// OpenSSL has cleaned up when the process exits.
class CipherLease {
 public:
  CipherLease() {
    {
      std::lock_guard lock(Idle().mutex);
      if (!Idle().ciphers.empty()) {
        cipher_ = std::move(Idle().ciphers.back());
        Idle().ciphers.pop_back();
      }
    }
    if (cipher_ == nullptr) cipher_ = std::make_unique<Cipher>();
  }
  ~CipherLease() {
    if (!cipher_->good()) return;
    std::lock_guard lock(Idle().mutex);
    if (Idle().ciphers.size() < kMaxIdle) Idle().ciphers.push_back(std::move(cipher_));
  }
  CipherLease(const CipherLease&) = delete;
  CipherLease& operator=(const CipherLease&) = delete;

  explicit operator bool() const { return cipher_->good(); }
  Cipher* operator->() { return cipher_.get(); }

 private:
  static constexpr size_t kMaxIdle = 8;
  struct List {
    std::mutex mutex;
    std::vector<std::unique_ptr<Cipher>> ciphers;
    List() { ciphers.reserve(kMaxIdle); }
  };
  static List& Idle() {
    static List* list = new List;
    return *list;
  }

  std::unique_ptr<Cipher> cipher_;
};

// Checks IV, MAC and lengths. `ciphertext` of length - kCryptoOverhead bytes lies behind the IV.
DecodeError CheckMac(CipherLease& cipher, const uint8_t* keys, const uint8_t* stored, size_t length) {
  if (length < kCryptoOverhead) return DecodeError::kRange;
  if (length > kMaxStoredLength) return DecodeError::kMemory;
  if (!cipher || !cipher->SetKeys(keys)) return DecodeError::kMemory;
  static constexpr uint8_t kZero[kIvLength] = {};
  if (memcmp(stored, kZero, kIvLength) == 0) return DecodeError::kMac;
  uint8_t mac[kMacLength];
  if (!cipher->Mac(stored, stored + kIvLength, length - kCryptoOverhead, mac)) return DecodeError::kMemory;
  return CRYPTO_memcmp(mac, stored + length - kMacLength, kMacLength) == 0 ? DecodeError::kNone : DecodeError::kMac;
}

// Decrypts what CheckMac has found good, into `plain`, which has the right size unless there was no memory for it.
DecodeError Decrypt(CipherLease& cipher, const uint8_t* stored, const std::shared_ptr<Chunk>& plain) {
  if (plain == nullptr || !cipher->Crypt(stored, stored + kIvLength, plain->size, plain->data)) return DecodeError::kMemory;
  return DecodeError::kNone;
}

// To exactly `plain_length` bytes.
DecodeError Decompress(CipherLease& cipher, const Chunk& frame, size_t plain_length, std::shared_ptr<Chunk>* plain) {
  const unsigned long long announced = ZSTD_getFrameContentSize(frame.data, frame.size);
  if (announced == ZSTD_CONTENTSIZE_ERROR) return DecodeError::kZstd;
  if (announced != ZSTD_CONTENTSIZE_UNKNOWN && announced > plain_length) return DecodeError::kZstd;
  *plain = Chunk::Allocate(plain_length);
  if (*plain == nullptr) return DecodeError::kMemory;
  const size_t written = ZSTD_decompressDCtx(cipher->zstd(), (*plain)->data, plain_length, frame.data, frame.size);
  return !ZSTD_isError(written) && written == plain_length ? DecodeError::kNone : DecodeError::kZstd;
}

bool HasId(const Chunk& plain, const uint8_t* id) {
  SHA256_CTX sha;
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256_Init(&sha);
  SHA256_Update(&sha, plain.data, plain.size);
  SHA256_Final(digest, &sha);
  return memcmp(digest, id, sizeof digest) == 0;
}

// A frame of unknown length. The content size it announces is believed only as far as it saves copies.
DecodeError DecompressUpTo(CipherLease& cipher, const uint8_t* frame, size_t length, size_t max_length, std::shared_ptr<Chunk>* plain) {
  constexpr size_t kFirst = 256 << 10;
  const unsigned long long announced = ZSTD_getFrameContentSize(frame, length);
  if (announced == ZSTD_CONTENTSIZE_ERROR) return DecodeError::kZstd;
  size_t capacity = std::min({std::max(kFirst, 8 * length), max_length, size_t{kMaxPlainLength}});
  if (announced != ZSTD_CONTENTSIZE_UNKNOWN) {
    if (announced > max_length) return DecodeError::kMemory;
    // One byte more than announced proves that there is no more, without a second round.
    capacity = std::min<size_t>(capacity, static_cast<size_t>(announced) + 1);
  }
  ZSTD_DCtx* const zstd = cipher->zstd();
  ZSTD_DCtx_reset(zstd, ZSTD_reset_session_only);
  std::shared_ptr<Chunk> output = Chunk::Allocate(capacity);
  if (output == nullptr) return DecodeError::kMemory;
  ZSTD_inBuffer in{frame, length, 0};
  ZSTD_outBuffer out{output->data, output->size, 0};
  while (true) {
    const size_t wanted = ZSTD_decompressStream(zstd, &out, &in);
    if (ZSTD_isError(wanted)) {
      return ZSTD_getErrorCode(wanted) == ZSTD_error_memory_allocation ? DecodeError::kMemory : DecodeError::kZstd;
    }
    if (in.pos == in.size && wanted == 0) break;
    if (out.pos < out.size) {
      if (in.pos == in.size) return DecodeError::kZstd;
      continue;
    }
    if (output->size >= std::min(max_length, size_t{kMaxPlainLength})) return DecodeError::kMemory;
    std::shared_ptr<Chunk> bigger = Chunk::Allocate(std::min({output->size * 2, max_length, size_t{kMaxPlainLength}}));
    if (bigger == nullptr) return DecodeError::kMemory;
    memcpy(bigger->data, output->data, out.pos);
    output = std::move(bigger);
    out = {output->data, output->size, out.pos};
  }
  output->size = out.pos;
  *plain = std::move(output);
  return DecodeError::kNone;
}

}  // namespace

DecodeError DecodeBlob(const uint8_t* keys, const uint8_t* stored, size_t length, uint32_t plain_length, const uint8_t* id,
                       std::shared_ptr<Chunk>* plain) {
  if (plain_length > kMaxPlainLength) return DecodeError::kMemory;
  CipherLease cipher;
  DecodeError error = CheckMac(cipher, keys, stored, length);
  if (error == DecodeError::kNone && plain_length == 0) {
    *plain = Chunk::Allocate(length - kCryptoOverhead);
    error = Decrypt(cipher, stored, *plain);
  }
  if (error == DecodeError::kNone && plain_length > 0) {
    const std::shared_ptr<Chunk> frame = cipher->Scratch(length - kCryptoOverhead);
    error = Decrypt(cipher, stored, frame);
    if (error == DecodeError::kNone) error = Decompress(cipher, *frame, plain_length, plain);
  }
  if (error == DecodeError::kNone && !HasId(**plain, id)) error = DecodeError::kHash;
  if (error != DecodeError::kNone) plain->reset();
  return error;
}

DecodeError DecryptFile(const uint8_t* keys, const uint8_t* stored, size_t length, bool zstd, size_t max_length, std::shared_ptr<Chunk>* plain) {
  CipherLease cipher;
  std::shared_ptr<Chunk> decrypted;
  DecodeError error = CheckMac(cipher, keys, stored, length);
  if (error == DecodeError::kNone) {
    decrypted = Chunk::Allocate(length - kCryptoOverhead);
    error = Decrypt(cipher, stored, decrypted);
  }
  if (error != DecodeError::kNone) return error;
  if (zstd && decrypted->size > 0 && decrypted->data[0] == kZstdMark) {
    return DecompressUpTo(cipher, decrypted->data + 1, decrypted->size - 1, max_length, plain);
  }
  if (decrypted->size > max_length) return DecodeError::kMemory;
  *plain = std::move(decrypted);
  return DecodeError::kNone;
}

bool Encrypt(const uint8_t* keys, const uint8_t* plain, size_t length, uint8_t* stored) {
  CipherLease cipher;
  if (!cipher || !cipher->SetKeys(keys) || RAND_bytes(stored, kIvLength) != 1) return false;
  return cipher->Crypt(stored, plain, length, stored + kIvLength) && cipher->Mac(stored, stored + kIvLength, length, stored + kIvLength + length);
}

namespace {

std::array<uint8_t, kKeysLength> KeysOf(const Napi::Value& value) {
  const JsBytes bytes = BytesOf(value, "keys");
  if (bytes.size != kKeysLength) throw Napi::TypeError::New(value.Env(), "keys must have 64 bytes");
  std::array<uint8_t, kKeysLength> keys;
  memcpy(keys.data(), bytes.data, kKeysLength);
  return keys;
}

// Several works on the thread pool with one promise. Made and destroyed on the JS thread; works touch only their own results.
class Batch {
 public:
  Batch(Napi::Env env, const Napi::Value& keys, const Napi::Value& source)
      : env_(env), keys_(KeysOf(keys)), source_(BytesOf(source, "source")), deferred_(Napi::Promise::Deferred::New(env)),
        source_reference_(Napi::Persistent(source.As<Napi::Object>())) {}
  virtual ~Batch() { OPENSSL_cleanse(keys_.data(), keys_.size()); }

  // Takes `batch`; splits at `ends`, the first index behind each work.
  static Napi::Value Start(std::unique_ptr<Batch> batch, const std::vector<size_t>& ends) {
    const Napi::Env env = batch->env_;
    const Napi::Promise promise = batch->deferred_.Promise();
    if (ends.empty()) {
      batch->Settle();
      return promise;
    }
    batch->open_ = ends.size();
    Batch* const shared = batch.release();
    size_t begin = 0;
    for (const size_t end : ends) {
      auto* work = new Work{shared, begin, end, nullptr};
      const Napi::String name = Napi::String::New(env, "daybook:decode");
      const bool made = napi_create_async_work(env, nullptr, name, Execute, Complete, work, &work->handle) == napi_ok;
      if (!made || napi_queue_async_work(env, work->handle) != napi_ok) {
        Napi::Error::Fatal("Batch::Start", "no work can be queued");
      }
      begin = end;
    }
    return promise;
  }

 protected:
  // Pool thread. Must not throw but std::bad_alloc.
  virtual void Run(size_t begin, size_t end) = 0;
  // Pool thread, where Run threw.
  virtual void Fail(size_t begin, size_t end) = 0;
  // JS thread.
  virtual Napi::Value Result() = 0;

  Napi::Env env_;
  std::array<uint8_t, kKeysLength> keys_;
  JsBytes source_;

 private:
  struct Work {
    Batch* batch;
    size_t begin, end;
    napi_async_work handle;
  };

  static void Execute(napi_env, void* data) {
    Work* work = static_cast<Work*>(data);
    try {
      work->batch->Run(work->begin, work->end);
    } catch (...) {
      work->batch->Fail(work->begin, work->end);
    }
  }

  static void Complete(napi_env env, napi_status, void* data) {
    Work* work = static_cast<Work*>(data);
    Batch* batch = work->batch;
    napi_delete_async_work(env, work->handle);
    delete work;
    if (--batch->open_ > 0) return;
    std::unique_ptr<Batch> owned(batch);
    Napi::HandleScope scope(env);
    // While the environment is torn down nothing can be told to JavaScript, and nobody waits.
    try {
      owned->Settle();
    } catch (const Napi::Error& error) {
      try {
        owned->deferred_.Reject(error.Value());
      } catch (const Napi::Error&) {
      }
    }
  }

  void Settle() { deferred_.Resolve(Result()); }

  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference source_reference_;
  size_t open_ = 0;
};

struct Entry {
  uint32_t offset, length, plain_length;
};

enum class Wanted { kBlobs, kRows, kFlags };

// Blobs of one range of a pack.
class BlobBatch : public Batch {
 public:
  BlobBatch(Napi::Env env, const Napi::CallbackInfo& info, Wanted wanted) : Batch(env, info[0], info[1]), wanted_(wanted) {
    if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
      throw Napi::TypeError::New(env, "entries must be a Uint32Array");
    }
    const auto entries = info[2].As<Napi::Uint32Array>();
    const JsBytes ids = BytesOf(info[3], "ids");
    const size_t count = entries.ElementLength() / 3;
    if (count * 3 != entries.ElementLength() || ids.size != count * kIdLength) throw Napi::TypeError::New(env, "entries and ids do not fit");
    entries_.resize(count);
    if (count > 0) memcpy(entries_.data(), entries.Data(), count * sizeof(Entry));
    ids_.assign(ids.data, ids.data + ids.size);
    results_.resize(count);
  }

  std::vector<size_t> Split() const {
    std::vector<size_t> ends;
    size_t length = 0;
    for (size_t i = 0; i < entries_.size(); i++) {
      length += entries_[i].length;
      if (length < kWorkLength && i + 1 < entries_.size()) continue;
      ends.push_back(i + 1);
      length = 0;
    }
    return ends;
  }

 protected:
  void Run(size_t begin, size_t end) override {
    for (size_t i = begin; i < end; i++) results_[i].error = Decode(entries_[i], ids_.data() + i * kIdLength, &results_[i]);
  }

  void Fail(size_t begin, size_t end) override {
    for (size_t i = begin; i < end; i++) results_[i] = {DecodeError::kMemory, nullptr, {}, 0};
  }

  // Rows of many trees are views of one piece of memory: thousands of pieces of their own would keep the collector busy longer than the decoding took.
  Napi::Value Result() override {
    if (wanted_ == Wanted::kFlags) return Flags();
    Napi::Array array = Napi::Array::New(env_, results_.size());
    size_t total = 0, at = 0;
    for (const Slot& slot : results_) total += slot.rows.size;
    Napi::Buffer<uint8_t> all;
    Napi::Function subarray;
    if (wanted_ == Wanted::kRows) {
      all = Napi::Buffer<uint8_t>::New(env_, total);
      subarray = all.Get("subarray").As<Napi::Function>();
    }
    for (uint32_t i = 0; i < results_.size(); i++) {
      // A scope each, or thousands of handles pile up.
      Napi::HandleScope scope(env_);
      Slot& slot = results_[i];
      if (slot.error != DecodeError::kNone) {
        array.Set(i, Napi::Number::New(env_, static_cast<double>(slot.error)));
      } else if (wanted_ == Wanted::kRows) {
        memcpy(all.Data() + at, slot.rows.data.get(), slot.rows.size);
        const size_t end = at + slot.rows.size;
        array.Set(i, subarray.Call(all, {Napi::Number::New(env_, static_cast<double>(at)), Napi::Number::New(env_, static_cast<double>(end))}));
        at = end;
        slot.rows.data.reset();
      } else {
        array.Set(i, Blob::Wrap(env_, std::move(slot.plain)));
      }
    }
    return array;
  }

 private:
  struct Slot {
    DecodeError error = DecodeError::kNone;
    std::shared_ptr<Chunk> plain;
    RowsBuffer rows;
    uint32_t flags = 0;
  };

  Napi::Value Flags() const {
    uint32_t flags = 0;
    for (const Slot& slot : results_) {
      if (slot.error != DecodeError::kNone) return Napi::Number::New(env_, -1);
      flags |= slot.flags;
    }
    return Napi::Number::New(env_, flags);
  }

  DecodeError Decode(const Entry& entry, const uint8_t* id, Slot* slot) {
    if (entry.offset > source_.size || entry.length > source_.size - entry.offset) return DecodeError::kRange;
    const DecodeError error = DecodeBlob(keys_.data(), source_.data + entry.offset, entry.length, entry.plain_length, id, &slot->plain);
    if (error != DecodeError::kNone || wanted_ == Wanted::kBlobs) return error;
    const std::shared_ptr<Chunk> json = std::move(slot->plain);
    switch (TreeToRows(id, json->data, json->size, &slot->rows)) {
      case TreeResult::kTree: return DecodeError::kTree;
      case TreeResult::kMemory: return DecodeError::kMemory;
      case TreeResult::kOk: break;
    }
    if (wanted_ == Wanted::kFlags) {
      memcpy(&slot->flags, slot->rows.data.get() + offsetof(RowsHeader, flags), sizeof slot->flags);
      slot->rows.data.reset();
    }
    return DecodeError::kNone;
  }

  const Wanted wanted_;
  std::vector<Entry> entries_;
  std::vector<uint8_t> ids_;
  std::vector<Slot> results_;
};

class FileBatch : public Batch {
 public:
  FileBatch(Napi::Env env, const Napi::CallbackInfo& info) : Batch(env, info[0], info[1]) {
    if (!info[2].IsObject()) throw Napi::TypeError::New(env, "options must be an object");
    const Napi::Object options = info[2].As<Napi::Object>();
    zstd_ = options.Get("zstd").ToBoolean();
    const Napi::Value max_length = options.Get("maxLength");
    if (!max_length.IsNumber() || max_length.As<Napi::Number>().DoubleValue() < 0) throw Napi::TypeError::New(env, "maxLength must be a number");
    max_length_ = static_cast<size_t>(std::min(max_length.As<Napi::Number>().DoubleValue(), static_cast<double>(kMaxPlainLength)));
  }

 protected:
  void Run(size_t, size_t) override { error_ = DecryptFile(keys_.data(), source_.data, source_.size, zstd_, max_length_, &plain_); }
  void Fail(size_t, size_t) override { error_ = DecodeError::kMemory; }
  Napi::Value Result() override {
    if (error_ != DecodeError::kNone) return Napi::Number::New(env_, static_cast<double>(error_));
    return Napi::Buffer<uint8_t>::Copy(env_, plain_->data, plain_->size);
  }

 private:
  bool zstd_ = false;
  size_t max_length_ = 0;
  DecodeError error_ = DecodeError::kNone;
  std::shared_ptr<Chunk> plain_;
};

Napi::Value DecodeEntries(const Napi::CallbackInfo& info, Wanted wanted) {
  auto batch = std::make_unique<BlobBatch>(info.Env(), info, wanted);
  const std::vector<size_t> ends = batch->Split();
  return Batch::Start(std::move(batch), ends);
}

Napi::Value DecodeBlobs(const Napi::CallbackInfo& info) { return DecodeEntries(info, Wanted::kBlobs); }
Napi::Value DecodeTrees(const Napi::CallbackInfo& info) { return DecodeEntries(info, Wanted::kRows); }
Napi::Value TreeFlags(const Napi::CallbackInfo& info) { return DecodeEntries(info, Wanted::kFlags); }
Napi::Value JsDecryptFile(const Napi::CallbackInfo& info) { return Batch::Start(std::make_unique<FileBatch>(info.Env(), info), {1}); }

Napi::Value JsEncrypt(const Napi::CallbackInfo& info) {
  const auto keys = KeysOf(info[0]);
  const JsBytes plain = BytesOf(info[1], "plain");
  if (plain.size > kMaxPlainLength) throw Napi::RangeError::New(info.Env(), "plain is too long");
  auto stored = Napi::Buffer<uint8_t>::New(info.Env(), plain.size + kCryptoOverhead);
  if (!Encrypt(keys.data(), plain.data, plain.size, stored.Data())) throw Napi::Error::New(info.Env(), "no random bytes");
  return stored;
}

}  // namespace

void RegisterBlobCodec(Napi::Env env, Napi::Object exports) {
  exports.Set("decodeBlobs", Napi::Function::New(env, DecodeBlobs, "decodeBlobs"));
  exports.Set("decodeTrees", Napi::Function::New(env, DecodeTrees, "decodeTrees"));
  exports.Set("treeFlags", Napi::Function::New(env, TreeFlags, "treeFlags"));
  exports.Set("decryptFile", Napi::Function::New(env, JsDecryptFile, "decryptFile"));
  exports.Set("encrypt", Napi::Function::New(env, JsEncrypt, "encrypt"));
}

}  // namespace daybook
