// One mount: a connection to the kernel, polled on Node's loop. It passes requests to JavaScript handlers and their answers back;
// what the requests mean is decided there. The interface is documented in src/native.ts.
#pragma once
#include <fuse_lowlevel.h>
#include <napi.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuse_mount.h"
#include "notifier.h"
#include "tree_rows.h"

struct fuse_attr;

namespace daybook {

// Node ids are shared with src/fs/node-id.ts. They stay below 2^53, so that a double holds them.
constexpr uint64_t kDirectoryBit = uint64_t{1} << 51;  // forgets of these are reported
constexpr uint64_t kNoXattrBit = uint64_t{1} << 50;    // has no extended attributes

// Everything runs on the thread of its loop, but for the notifier's done callback.
class Session : public Napi::ObjectWrap<Session> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  explicit Session(const Napi::CallbackInfo& info);
  ~Session() override;

 private:
  // Requests that JavaScript answers, then the handlers that are told something.
  enum Handler : uint8_t {
    kLookup, kGetattr, kReadlink, kRead, kReaddirplus, kGetxattr, kListxattr, kLseek, kStatfs,
    kForget, kInterrupt, kClosed, kFailed, kListed, kHandlers
  };
  static const char* const kHandlerNames[kHandlers];
  enum class State { kNew, kServing, kClosing, kEnded };
  // Who ends it: a script which is on the stack, the loop, or the end of the environment, when no script may run any more.
  enum class Ending { kByScript, kByLoop, kTeardown };

  // An open request. A RequestId is generation * 2^20 + index, so an id whose request was answered never fits again.
  struct Slot {
    fuse_req_t request = nullptr;  // null: free
    uint32_t generation = 0;
    Handler operation = kLookup;
    uint32_t size = 0;  // most bytes of an answer
    uint64_t node = 0;
    uint64_t offset = 0;    // of a listing
  };
  // The place behind the last entry of a directory that never changes.
  struct End {
    uint64_t node = 0;
    uint64_t offset = 0;
  };
  struct Operations;  // libfuse's callbacks

  // JavaScript's methods
  void Mount(const Napi::CallbackInfo& info);
  Napi::Value Device(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void ReplyError(const Napi::CallbackInfo& info);
  void ReplyEntry(const Napi::CallbackInfo& info);
  void ReplyNegative(const Napi::CallbackInfo& info);
  void ReplyAttr(const Napi::CallbackInfo& info);
  Napi::Value ReplyDirents(const Napi::CallbackInfo& info);
  void ReplyBytes(const Napi::CallbackInfo& info);
  void ReplyBlobs(const Napi::CallbackInfo& info);
  void ReplySize(const Napi::CallbackInfo& info);
  void ReplyOffset(const Napi::CallbackInfo& info);
  void ReplyStatfs(const Napi::CallbackInfo& info);
  void SetAbsentXattrs(const Napi::CallbackInfo& info);
  Napi::Value Push(const Napi::CallbackInfo& info);
  Napi::Value InvalidateEntry(const Napi::CallbackInfo& info);
  Napi::Value InvalidateNode(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);

  // From the kernel to JavaScript
  void Serve();
  ssize_t Receive();
  void Process(void* message, size_t length);
  void Ask(fuse_req_t request, Handler operation, uint64_t node, uint32_t size, napi_value* arguments, size_t count, uint64_t offset = 0);
  void TellInterrupted(uint32_t index);
  bool Call(Handler handler, const napi_value* arguments, size_t count);
  void Report(const char* operation, napi_value error);
  void FlushForgets();
  void AddForget(uint64_t node, uint64_t count);
  bool TakeLog(std::string* text);
  napi_value Number(double value);
  napi_value Bytes(std::string_view text);
  double IdOf(uint32_t index) const;

  // From JavaScript to the kernel. Find throws unless the request is open and of one of `operations` (a bit set).
  uint32_t Find(const Napi::CallbackInfo& info, uint32_t operations);
  fuse_req_t Take(uint32_t index);
  void FillAttr(const Record& record, uint64_t ino, ::fuse_attr* attr) const;
  void RememberEnd(uint64_t node, uint64_t offset);
  bool IsEnd(uint64_t node, uint64_t offset) const;
  Napi::Value Enqueue(std::unique_ptr<Notifier::Job> job);
  void SettleJobs();
  void OnNotified();

  // End of life
  void AnswerAll(int error);
  void StopNotifier();
  // Once. `error`: what to tell `closed`.
  void Finish(std::optional<int> error, Ending ending);
  static void OnPoll(uv_poll_t* handle, int status, int events);
  static void OnAsync(uv_async_t* handle);
  static void OnHandleClosed(uv_handle_t* handle);
  static void OnTeardown(napi_async_cleanup_hook_handle handle, void* data);

  // What the options said
  std::string mountpoint_;
  std::vector<std::string> mount_options_;
  bool posix_acl_ = false;
  std::optional<Owner> owner_;
  Napi::ObjectReference receiver_;
  std::array<Napi::FunctionReference, kHandlers> handlers_;
  napi_async_context context_ = nullptr;

  State state_ = State::kNew;
  uint64_t last_served_ = 0;         // when the last request had been dealt with, uv_hrtime()
  uint64_t expected_gap_ = 1 << 20;  // ns from then to the next one
  bool busy_ = false;          // Serve() is on the stack
  bool registering_ = false;   // libfuse holds a request's lock, which an answer would free
  bool interrupted_ = false;   // ... and wanted to report it interrupted
  bool no_opendir_ = true;     // the kernel understands ENOSYS for OPENDIR
  bool no_open_ = true;
  uint64_t init_unique_ = 0;   // of the INIT under way
  uint32_t init_flags_ = 0;    // what the kernel offers in it
  MountPoint mount_point_;
  fuse_session* session_ = nullptr;
  uv_poll_t* poll_ = nullptr;
  uv_async_t* async_ = nullptr;
  int open_handles_ = 0;
  napi_async_cleanup_hook_handle teardown_ = nullptr;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<double> forgets_;
  std::vector<std::string> absent_xattrs_;
  std::array<End, 64> ends_;
  size_t next_end_ = 0;
  std::unique_ptr<Notifier> notifier_;

  std::array<uint64_t, 64> requests_{};  // by opcode
  uint64_t other_requests_ = 0, answered_natively_ = 0, bytes_read_ = 0, items_pushed_ = 0, bytes_pushed_ = 0, failures_ = 0;
};

}  // namespace daybook
