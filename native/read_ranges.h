// Ranges of several files in one call.
#pragma once
#include <napi.h>

namespace daybook {

void RegisterReadRanges(Napi::Env env, Napi::Object exports);

}  // namespace daybook
