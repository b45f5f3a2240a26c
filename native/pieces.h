// What becomes blobs: plaintext with its id, made on pool threads (chunks of files, trees), encoded there, and written into packs.
#pragma once
#include <napi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "blob.h"
#include "tree_rows.h"

namespace daybook {

struct Piece {
  std::array<uint8_t, kIdLength> id{};  // SHA-256 of the plaintext
  size_t length = 0;                    // of the plaintext
  std::shared_ptr<Chunk> plain;         // until it is encoded
  std::shared_ptr<Chunk> stored;        // from then on
  bool compressed = false;

  // Any thread. A copy of these bytes, with their id; throws std::bad_alloc.
  static Piece Of(const uint8_t* bytes, size_t length);
  // Any thread. The id of `plain`.
  void Name();
};

class Pieces : public Napi::ObjectWrap<Pieces> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  // JS thread.
  static Napi::Object Wrap(Napi::Env env, std::vector<Piece> pieces);
  // Made by Wrap() only.
  explicit Pieces(const Napi::CallbackInfo& info);

 private:
  using List = std::shared_ptr<std::vector<Piece>>;

  Napi::Value Count(const Napi::CallbackInfo& info);
  Napi::Value Ids(const Napi::CallbackInfo& info);
  Napi::Value Lengths(const Napi::CallbackInfo& info);
  Napi::Value Bytes(const Napi::CallbackInfo& info);
  Napi::Value Rows(const Napi::CallbackInfo& info);
  Napi::Value Encode(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  void Free(const Napi::CallbackInfo& info);
  Piece& At(const Napi::Value& index);

  List list_;
};

}  // namespace daybook
