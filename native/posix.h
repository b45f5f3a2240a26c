// System calls that Node lacks.
#pragma once
#include <napi.h>

#include <string>

namespace daybook {

// An Error as node:fs makes it: code 'ENOENT', errno -2, syscall, message, and path unless empty. JS thread.
Napi::Error ErrnoError(Napi::Env env, int error, const char* syscall, const std::string& path = {});

void RegisterPosix(Napi::Env env, Napi::Object exports);

}  // namespace daybook
