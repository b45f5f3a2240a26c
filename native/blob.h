// Decoded bytes that live outside of V8: made on pool threads, shown to JavaScript as Blob, and sent to the kernel by the session.
#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace daybook {

// A piece of memory from the recycler. Whoever reads it holds a shared_ptr; the last one gives it back. Any thread.
struct Chunk {
  uint8_t* data = nullptr;
  size_t size = 0;      // bytes in use
  size_t capacity = 0;  // bytes owned, at least size

  Chunk() = default;
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  ~Chunk();
  // `size` bytes, uninitialised; null if there is no memory. Any thread.
  static std::shared_ptr<Chunk> Allocate(size_t size);
};

class Blob : public Napi::ObjectWrap<Blob> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  // JS thread. A JavaScript Blob that shares `chunk`.
  static Napi::Object Wrap(Napi::Env env, std::shared_ptr<Chunk> chunk);
  // JS thread. What a Blob holds, never null; throws Error with code ERR_FREED if it was freed or is no Blob.
  static std::shared_ptr<Chunk> Get(Napi::Value value);

  explicit Blob(const Napi::CallbackInfo& info);
  ~Blob() override;

 private:
  static Napi::Value From(const Napi::CallbackInfo& info);
  static Napi::Value Memory(const Napi::CallbackInfo& info);
  Napi::Value Length(const Napi::CallbackInfo& info);
  Napi::Value Bytes(const Napi::CallbackInfo& info);
  Napi::Value Share(const Napi::CallbackInfo& info);
  void Free(const Napi::CallbackInfo& info);
  void Hold(std::shared_ptr<Chunk> chunk);
  void Drop();

  std::shared_ptr<Chunk> chunk_;
};

}  // namespace daybook
