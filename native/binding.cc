// Registers the addon's parts; each lives in the file of its name.
#include <napi.h>

#include "blob.h"
#include "blob_codec.h"
#include "blob_encoder.h"
#include "chunker.h"
#include "file_stream.h"
#include "index_json.h"
#include "pieces.h"
#include "posix.h"
#include "read_ranges.h"
#include "scan.h"
#include "session.h"
#include "tree_rows.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  daybook::Blob::Register(env, exports);
  daybook::RegisterBlobCodec(env, exports);
  daybook::RegisterTreeRows(env, exports);
  daybook::RegisterIndexJson(env, exports);
  daybook::RegisterPosix(env, exports);
  daybook::RegisterReadRanges(env, exports);
  daybook::RegisterBlobEncoder(env, exports);
  daybook::RegisterChunker(env, exports);
  daybook::Pieces::Register(env, exports);
  daybook::Scan::Register(env, exports);
  daybook::RegisterFileStream(env, exports);
  daybook::Session::Register(env, exports);
  return exports;
}

NODE_API_MODULE(daybook, Init)
