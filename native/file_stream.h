// A long file, read from its beginning to its end and cut into chunks.
#pragma once
#include <napi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "chunker.h"
#include "scan.h"

namespace daybook {

// JS thread. A stream over an entry of a scan (a regular file), or over `fd` where that is not negative: then the entry's time and owner stay as they are.
// The descriptor is closed at the end, by close(), or with the last reference. Ids are added to the entry's content; its size is that of what was read.
Napi::Object OpenFileStream(Napi::Env env, std::shared_ptr<ScanData> data, uint32_t position, std::shared_ptr<const Chunker> chunker, int fd);

// Pool thread. Opens an entry for reading, without following a link, and brings its attributes up to date. The descriptor, or -1 with what went wrong.
int OpenEntry(ScanData* data, uint32_t position, int* error, const char** syscall);

void RegisterFileStream(Napi::Env env, Napi::Object exports);

}  // namespace daybook
