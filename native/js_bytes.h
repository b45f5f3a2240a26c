#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace daybook {

// Memory of a Uint8Array or Buffer, valid while JavaScript holds it.
struct JsBytes {
  uint8_t* data;
  size_t size;
};

// JS thread. Throws TypeError, naming `what`.
inline JsBytes BytesOf(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(value.Env(), std::string(what) + " must be a Uint8Array");
  }
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

}  // namespace daybook
