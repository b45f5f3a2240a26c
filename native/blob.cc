#include "blob.h"

#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "js_bytes.h"

namespace daybook {
namespace {

// Below this a page fault costs less than the search for an idle piece.
constexpr size_t kSmall = 64 << 10;
constexpr size_t kLarge = 8 << 20;
constexpr size_t kMaxIdle = 6 << 20;
// Telling V8 can start a garbage collection, so it is told of big changes only.
constexpr int64_t kReportStep = 16 << 20;

constexpr napi_type_tag kBlobTag = {0x6461796264626c6f, 0x8f1c5a90b3e24d17};

// Mapped pieces are kept and handed out again: the first touch of a fresh page on a virtual machine costs more than decoding into it.
class Recycler {
 public:
  // Never destroyed: pool threads may still give memory back while the process exits.
  static Recycler& Get() {
    static Recycler* recycler = new Recycler;
    return *recycler;
  }

  uint8_t* Take(size_t size, size_t* capacity) {
    uint8_t* data = nullptr;
    if (size < kSmall) {
      *capacity = size;
      data = static_cast<uint8_t*>(malloc(size > 0 ? size : 1));
    } else {
      *capacity = Round(size);
      data = size <= kLarge ? TakeIdle(capacity) : nullptr;
      if (data == nullptr) data = Map(*capacity);
    }
    if (data != nullptr) live_ += *capacity;
    return data;
  }

  void Give(uint8_t* data, size_t capacity) {
    live_ -= capacity;
    if (capacity < kSmall) {
      free(data);
    } else if (capacity > kLarge) {
      munmap(data, capacity);
    } else {
      Keep(data, capacity);
    }
  }

  size_t live() const { return live_; }
  size_t idle() const { return idle_bytes_; }

 private:
  struct Piece {
    uint8_t* data;
    size_t capacity;
  };

  Recycler() { idle_.reserve(kMaxIdle / kSmall + 1); }

  // Four sizes per power of two: at most a quarter is never touched, and blobs of similar length share pieces.
  static size_t Round(size_t size) {
    if (size > kLarge) return (size + 4095) & ~size_t{4095};
    size_t step = kSmall / 4;
    while (step * 8 < size) step *= 2;
    return (size + step - 1) & ~(step - 1);
  }

  static uint8_t* Map(size_t capacity) {
    void* data = mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? nullptr : static_cast<uint8_t*>(data);
  }

  // The newest piece that fits without wasting more than half: its pages are the likeliest to be in the CPU's cache.
  uint8_t* TakeIdle(size_t* capacity) {
    std::lock_guard lock(mutex_);
    for (size_t i = idle_.size(); i-- > 0;) {
      const Piece piece = idle_[i];
      if (piece.capacity < *capacity || piece.capacity > *capacity + *capacity / 2) continue;
      idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(i));
      idle_bytes_ -= piece.capacity;
      *capacity = piece.capacity;
      return piece.data;
    }
    return nullptr;
  }

  void Keep(uint8_t* data, size_t capacity) {
    std::lock_guard lock(mutex_);
    while (!idle_.empty() && idle_bytes_ + capacity > kMaxIdle) {
      munmap(idle_.front().data, idle_.front().capacity);
      idle_bytes_ -= idle_.front().capacity;
      idle_.erase(idle_.begin());
    }
    idle_.push_back({data, capacity});
    idle_bytes_ += capacity;
  }

  std::mutex mutex_;
  std::vector<Piece> idle_;  // oldest first
  std::atomic<size_t> idle_bytes_ = 0;
  std::atomic<size_t> live_ = 0;
};

// Each thread that runs JavaScript has an environment of its own.
struct JsThread {
  Napi::FunctionReference constructor;
  std::shared_ptr<Chunk> pending;  // what the constructor takes; only Wrap() sets it
  int64_t held = 0;
  int64_t reported = 0;
};
thread_local JsThread* js_thread = nullptr;

void ReportMemory(Napi::Env env, int64_t change) {
  if (js_thread == nullptr) return;
  js_thread->held += change;
  const int64_t unreported = js_thread->held - js_thread->reported;
  if (unreported < kReportStep && unreported > -kReportStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, unreported);
  js_thread->reported = js_thread->held;
}

// The process must stay small: few arenas, and big allocations go back to the kernel when freed, whatever lies behind them in the heap.
void ConfigureMalloc() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

Napi::Error FreedError(Napi::Env env) {
  Napi::Error error = Napi::Error::New(env, "blob was freed, or is not a blob");
  error.Set("code", Napi::String::New(env, "ERR_FREED"));
  return error;
}

}  // namespace

Chunk::~Chunk() {
  if (data != nullptr) Recycler::Get().Give(data, capacity);
}

std::shared_ptr<Chunk> Chunk::Allocate(size_t size) {
  try {
    auto chunk = std::make_shared<Chunk>();
    chunk->data = Recycler::Get().Take(size, &chunk->capacity);
    chunk->size = size;
    if (chunk->data == nullptr) return nullptr;
    return chunk;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void Blob::Register(Napi::Env env, Napi::Object exports) {
  static std::once_flag once;
  std::call_once(once, ConfigureMalloc);
  Napi::Function constructor = DefineClass(env, "Blob", {
    StaticMethod("from", &Blob::From),
    StaticMethod("memory", &Blob::Memory),
    InstanceAccessor("length", &Blob::Length, nullptr),
    InstanceMethod("bytes", &Blob::Bytes),
    InstanceMethod("share", &Blob::Share),
    InstanceMethod("free", &Blob::Free),
  });
  js_thread = new JsThread;
  js_thread->constructor = Napi::Persistent(constructor);
  env.AddCleanupHook([] {
    delete js_thread;
    js_thread = nullptr;
  });
  exports.Set("Blob", constructor);
}

Napi::Object Blob::Wrap(Napi::Env, std::shared_ptr<Chunk> chunk) {
  js_thread->pending = std::move(chunk);
  return js_thread->constructor.New({});
}

std::shared_ptr<Chunk> Blob::Get(Napi::Value value) {
  Napi::Env env = value.Env();
  bool is_blob = false;
  if (!value.IsObject() || napi_check_object_type_tag(env, value, &kBlobTag, &is_blob) != napi_ok || !is_blob) throw FreedError(env);
  Blob* blob = Unwrap(value.As<Napi::Object>());
  if (blob->chunk_ == nullptr) throw FreedError(env);
  return blob->chunk_;
}

Blob::Blob(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Blob>(info) {
  if (js_thread->pending == nullptr) throw Napi::TypeError::New(info.Env(), "blobs are made by Blob.from and the decoders");
  Hold(std::move(js_thread->pending));
  napi_type_tag_object(info.Env(), info.This(), &kBlobTag);
}

Blob::~Blob() { Drop(); }

void Blob::Hold(std::shared_ptr<Chunk> chunk) {
  chunk_ = std::move(chunk);
  ReportMemory(Env(), static_cast<int64_t>(chunk_->capacity));
}

void Blob::Drop() {
  if (chunk_ == nullptr) return;
  ReportMemory(Env(), -static_cast<int64_t>(chunk_->capacity));
  chunk_.reset();
}

Napi::Value Blob::From(const Napi::CallbackInfo& info) {
  const JsBytes bytes = BytesOf(info[0], "bytes");
  std::shared_ptr<Chunk> chunk = Chunk::Allocate(bytes.size);
  if (chunk == nullptr) throw Napi::RangeError::New(info.Env(), "no memory for a blob");
  if (chunk->size > 0) memcpy(chunk->data, bytes.data, chunk->size);
  return Wrap(info.Env(), std::move(chunk));
}

Napi::Value Blob::Memory(const Napi::CallbackInfo& info) {
  Napi::Object memory = Napi::Object::New(info.Env());
  memory.Set("live", static_cast<double>(Recycler::Get().live()));
  memory.Set("idle", static_cast<double>(Recycler::Get().idle()));
  return memory;
}

Napi::Value Blob::Length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), chunk_ == nullptr ? 0.0 : static_cast<double>(chunk_->size));
}

Napi::Value Blob::Bytes(const Napi::CallbackInfo& info) {
  if (chunk_ == nullptr) throw FreedError(info.Env());
  return Napi::Buffer<uint8_t>::Copy(info.Env(), chunk_->data, chunk_->size);
}

Napi::Value Blob::Share(const Napi::CallbackInfo& info) {
  if (chunk_ == nullptr) throw FreedError(info.Env());
  return Wrap(info.Env(), chunk_);
}

void Blob::Free(const Napi::CallbackInfo&) { Drop(); }

}  // namespace daybook
