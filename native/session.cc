#include "session.h"

#include <errno.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "blob.h"

namespace daybook {
namespace {

constexpr uint32_t kMaxReply = 1 << 20;  // largest READ, from max_pages, which libfuse derives from max_write
// The kernel demands room for the largest WRITE although none comes. Only the first page of it is ever touched.
constexpr size_t kReceiveLength = kMaxReply + 8192;
constexpr int kBatch = 32;               // requests of one session before others on the loop get their turn
constexpr uint64_t kBatchNs = 2'000'000;
constexpr uint32_t kIndexBits = 20;      // of a RequestId
constexpr double kMaxSafe = 9007199254740991.0;
constexpr size_t kMaxParts = 1000;       // IOV_MAX is 1024

// Of the thread, not of the session: a message is processed before the next one is read, whichever session it is for.
// Time between an answer and the next request, averaged, below which the next one is waited for without sleeping; and for how long.
constexpr uint64_t kMaxGap = 200'000, kSpinNs = 100'000;

// Does somebody else run while we wait?
bool SpareProcessor() {
  static const bool spare = [] {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 1;
  }();
  return spare;
}

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void* ReceiveBuffer() {
  static thread_local std::unique_ptr<char[]> buffer(new char[kReceiveLength]);
  return buffer.get();
}

char* DirentBuffer() {
  static thread_local std::unique_ptr<char[]> buffer(new char[kMaxReply]);
  return buffer.get();
}

// Pages that are never written to, so the kernel maps its one page of zeros for all of them.
const void* Zeros() {
  static const void* zeros = mmap(nullptr, kMaxReply, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return zeros;
}

// What libfuse logged while this thread processed a message; it would go to stderr.
thread_local std::string* log_target = nullptr;

void Log(fuse_log_level level, const char* format, va_list arguments) {
  if (!log_target || level > FUSE_LOG_WARNING || !log_target->empty()) return;
  char text[512];
  vsnprintf(text, sizeof text, format, arguments);
  *log_target = text;
  while (!log_target->empty() && log_target->back() == '\n') log_target->pop_back();
}

Napi::Error CodedError(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

// As node:fs throws them: `errno` is negative.
Napi::Error SystemError(Napi::Env env, int number, const std::string& message) {
  Napi::Error error = CodedError(env, uv_err_name(-number), message);
  error.Set("errno", Napi::Number::New(env, -number));
  error.Set("syscall", Napi::String::New(env, "mount"));
  return error;
}

double NumberOf(Napi::Value value, const char* what) {
  double number;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok) throw Napi::TypeError::New(value.Env(), std::string(what) + " must be a number");
  return number;
}

uint64_t IntegerOf(Napi::Value value, const char* what, double most = kMaxSafe) {
  double number = NumberOf(value, what);
  if (!(number >= 0 && number <= most) || number != std::floor(number)) {
    throw CodedError(value.Env(), "ERR_OUT_OF_RANGE", std::string(what) + " is out of range");
  }
  return static_cast<uint64_t>(number);
}

double SecondsOf(Napi::Value value, const char* what) {
  double seconds = NumberOf(value, what);
  if (!(seconds >= 0)) throw CodedError(value.Env(), "ERR_OUT_OF_RANGE", std::string(what) + " is out of range");
  return seconds;
}

uint64_t InoOf(Napi::Value value, const char* what) {
  uint64_t ino;
  bool lossless;
  if (napi_get_value_bigint_uint64(value.Env(), value, &ino, &lossless) != napi_ok) {
    throw Napi::TypeError::New(value.Env(), std::string(what) + " must be a bigint");
  }
  return ino;
}

std::string_view BytesOf(Napi::Value value, const char* what) {
  if (!value.IsTypedArray()) throw Napi::TypeError::New(value.Env(), std::string(what) + " must be a Uint8Array");
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) {
    throw Napi::TypeError::New(value.Env(), std::string(what) + " must be a Uint8Array");
  }
  return {static_cast<const char*>(data), length};
}

RowsView RowsOf(Napi::Value value) {
  std::string_view bytes = BytesOf(value, "rows");
  std::optional<RowsView> rows = RowsView::Parse(bytes.data(), bytes.size());
  if (!rows) throw CodedError(value.Env(), "ERR_ROWS", "rows are damaged");
  return *rows;
}

// Seconds as the protocol has them. The kernel takes anything beyond its clock's range for "never expires", so Infinity stays what it is.
void SetTimeout(double seconds, uint64_t* whole, uint32_t* ns) {
  if (seconds >= 1e15) {
    *whole = UINT64_MAX;
    *ns = 0;
    return;
  }
  *whole = static_cast<uint64_t>(seconds);
  *ns = std::min(static_cast<uint32_t>((seconds - static_cast<double>(*whole)) * 1e9), uint32_t{999999999});
}

const char* OpcodeName(uint32_t opcode) {
  switch (opcode) {
    case FUSE_LOOKUP: return "lookup";
    case FUSE_FORGET: return "forget";
    case FUSE_GETATTR: return "getattr";
    case FUSE_SETATTR: return "setattr";
    case FUSE_READLINK: return "readlink";
    case FUSE_OPEN: return "open";
    case FUSE_READ: return "read";
    case FUSE_WRITE: return "write";
    case FUSE_STATFS: return "statfs";
    case FUSE_RELEASE: return "release";
    case FUSE_SETXATTR: return "setxattr";
    case FUSE_GETXATTR: return "getxattr";
    case FUSE_LISTXATTR: return "listxattr";
    case FUSE_FLUSH: return "flush";
    case FUSE_INIT: return "init";
    case FUSE_OPENDIR: return "opendir";
    case FUSE_READDIR: return "readdir";
    case FUSE_RELEASEDIR: return "releasedir";
    case FUSE_ACCESS: return "access";
    case FUSE_INTERRUPT: return "interrupt";
    case FUSE_BMAP: return "bmap";
    case FUSE_DESTROY: return "destroy";
    case FUSE_IOCTL: return "ioctl";
    case FUSE_POLL: return "poll";
    case FUSE_BATCH_FORGET: return "batchForget";
    case FUSE_READDIRPLUS: return "readdirplus";
    case FUSE_LSEEK: return "lseek";
    default: return nullptr;
  }
}

}  // namespace

const char* const Session::kHandlerNames[kHandlers] = {"lookup",  "getattr", "readlink",  "read",   "readdirplus", "getxattr", "listxattr",
                                                       "lseek",   "statfs",  "forget",    "interrupt", "closed",   "failed",   "listed"};

// libfuse calls these from fuse_session_process_buf, so on the loop's thread unless said otherwise. `name` dies when one returns.
struct Session::Operations {
  static Session& Of(fuse_req_t request) { return *static_cast<Session*>(fuse_req_userdata(request)); }

  static void Init(void* data, fuse_conn_info* connection) {
    auto& self = *static_cast<Session*>(data);
    auto set = [&](uint32_t capability, bool on) {
      if (on) connection->want |= connection->capable & capability;
      else connection->want &= ~capability;
    };
    set(FUSE_CAP_ASYNC_READ, true);
    set(FUSE_CAP_CACHE_SYMLINKS, true);
    set(FUSE_CAP_NO_OPEN_SUPPORT, true);
    set(FUSE_CAP_NO_OPENDIR_SUPPORT, true);
    // Every listing brings attributes. "Auto" would do without them at times, and then each stat() is a request.
    set(FUSE_CAP_READDIRPLUS, true);
    set(FUSE_CAP_READDIRPLUS_AUTO, false);
    // A cached listing is compared with the directory's mtime only if this is on (fs/fuse/readdir.c).
    set(FUSE_CAP_AUTO_INVAL_DATA, true);
    set(FUSE_CAP_POSIX_ACL, self.posix_acl_);
    set(FUSE_CAP_EXPORT_SUPPORT, false);  // a nodeid means nothing after a remount
    set(FUSE_CAP_WRITEBACK_CACHE, false);
    // Answers are gathered from many small places, and notifications come from another thread than libfuse's pipe belongs to.
    set(FUSE_CAP_SPLICE_READ, false);
    set(FUSE_CAP_SPLICE_WRITE, false);
    set(FUSE_CAP_SPLICE_MOVE, false);
    self.no_open_ = connection->capable & FUSE_CAP_NO_OPEN_SUPPORT;
    self.no_opendir_ = connection->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
    connection->max_write = kMaxReply;  // also the largest READ
    // Read-ahead and asynchronous reads beyond this wait in the kernel; the default of 12 would let a few slow files hold up all others.
    connection->max_background = 256;
    connection->congestion_threshold = 192;
    connection->time_gran = 1;
  }

  static void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    Session& self = Of(request);
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(parent)), self.Bytes(name)};
    self.Ask(request, kLookup, parent, 0, arguments, 3);
  }
  static void Getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
    Session& self = Of(request);
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node))};
    self.Ask(request, kGetattr, node, 0, arguments, 2);
  }
  static void Readlink(fuse_req_t request, fuse_ino_t node) {
    Session& self = Of(request);
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node))};
    self.Ask(request, kReadlink, node, 4095, arguments, 2);  // the kernel gives one page
  }
  static void Read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
    Session& self = Of(request);
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node)), self.Number(static_cast<double>(offset)), self.Number(static_cast<double>(size))};
    self.Ask(request, kRead, node, static_cast<uint32_t>(size), arguments, 4);
  }
  static void Readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
    Session& self = Of(request);
    if (self.IsEnd(node, static_cast<uint64_t>(offset))) {
      self.answered_natively_++;
      fuse_reply_buf(request, nullptr, 0);
      if (self.handlers_[kListed].IsEmpty() || self.state_ != State::kServing) return;
      napi_value argument = self.Number(static_cast<double>(node));
      self.Call(kListed, &argument, 1);
      return;
    }
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node)), self.Number(static_cast<double>(offset)), self.Number(static_cast<double>(size))};
    self.Ask(request, kReaddirplus, node, static_cast<uint32_t>(size), arguments, 4, static_cast<uint64_t>(offset));
  }
  static void Getxattr(fuse_req_t request, fuse_ino_t node, const char* name, size_t size) {
    Session& self = Of(request);
    int error = 0;
    for (const std::string& absent : self.absent_xattrs_) {
      if (absent != name) continue;
      error = EOPNOTSUPP;  // `ls` then stops asking this device for the name
      // With POSIX ACLs on, the kernel itself asks before it checks a permission: "none" lets it go on (and is cached), any other error is the result.
      if (self.posix_acl_ && absent.starts_with("system.posix_acl_")) error = ENODATA;
      break;
    }
    if (error == 0 && (node & kNoXattrBit)) error = ENODATA;
    if (error != 0) {
      self.answered_natively_++;
      fuse_reply_err(request, error);
      return;
    }
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node)), self.Bytes(name), self.Number(static_cast<double>(size))};
    self.Ask(request, kGetxattr, node, static_cast<uint32_t>(size), arguments, 4);
  }
  static void Listxattr(fuse_req_t request, fuse_ino_t node, size_t size) {
    Session& self = Of(request);
    if (node & kNoXattrBit) {
      self.answered_natively_++;
      if (size == 0) fuse_reply_xattr(request, 0);
      else fuse_reply_buf(request, nullptr, 0);
      return;
    }
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node)), self.Number(static_cast<double>(size))};
    self.Ask(request, kListxattr, node, static_cast<uint32_t>(size), arguments, 3);
  }
  static void Lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence, fuse_file_info*) {
    Session& self = Of(request);
    napi_value arguments[] = {nullptr, self.Number(static_cast<double>(node)), self.Number(static_cast<double>(offset)), self.Number(whence)};
    self.Ask(request, kLseek, node, 0, arguments, 4);
  }
  static void Statfs(fuse_req_t request, fuse_ino_t node) {
    napi_value arguments[] = {nullptr};
    Of(request).Ask(request, kStatfs, node, 0, arguments, 1);
  }
  static void Forget(fuse_req_t request, fuse_ino_t node, uint64_t count) {
    Of(request).AddForget(node, count);
    fuse_reply_none(request);
  }
  static void ForgetMulti(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
    for (size_t i = 0; i < count; i++) Of(request).AddForget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
  }
  // ENOSYS once: from then on the kernel opens without asking, keeps the page cache and caches listings, and never sends RELEASE.
  static void Open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    Session& self = Of(request);
    self.answered_natively_++;
    if (self.no_open_) {
      fuse_reply_err(request, ENOSYS);
      return;
    }
    file->keep_cache = 1;
    fuse_reply_open(request, file);
  }
  static void Opendir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    Session& self = Of(request);
    self.answered_natively_++;
    if (self.no_opendir_) {
      fuse_reply_err(request, ENOSYS);
      return;
    }
    file->keep_cache = 1;
    file->cache_readdir = 1;
    fuse_reply_open(request, file);
  }
  template <typename... Arguments>
  static void ReadOnly(fuse_req_t request, Arguments...) {
    fuse_reply_err(request, EROFS);
  }
  template <typename... Arguments>
  static void NoIoctl(fuse_req_t request, Arguments...) {
    fuse_reply_err(request, ENOTTY);
  }
  // The kernel gave up waiting; the request is still open. Called with the request's lock held.
  static void Interrupted(fuse_req_t request, void* data) {
    Session& self = Of(request);
    if (self.registering_) {
      self.interrupted_ = true;
      return;
    }
    auto index = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(data));
    if (self.state_ != State::kServing || self.slots_[index].request != request) return;
    self.TellInterrupted(index);
  }

  // libfuse sends by this.
  static ssize_t Write(int fd, iovec* parts, int count, void* data) {
    auto& self = *static_cast<Session*>(data);
    auto* header = static_cast<fuse_out_header*>(parts[0].iov_base);
    if (self.init_flags_ != 0 && header->unique == self.init_unique_ && header->error == 0 && count == 2) {
      // Without this one lookup that waits holds up every other one in its directory. libfuse 3.14 knows the flag but does not send it.
      auto* answer = static_cast<fuse_init_out*>(parts[1].iov_base);
      if (parts[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE && answer->major == FUSE_KERNEL_VERSION) answer->flags |= self.init_flags_ & FUSE_PARALLEL_DIROPS;
      self.init_flags_ = 0;
    }
    ssize_t written = writev(fd, parts, count);
    // Of any other error than this one libfuse prints a line to stderr. The kernel has either given the request up, or takes a malformed answer for EIO.
    if (written < 0) errno = ENOENT;
    return written;
  }
  static ssize_t NoRead(int, void*, size_t, void*) {
    errno = ENOSYS;  // Serve() reads: libfuse's way prints to stderr, too
    return -1;
  }

  // Left out on purpose, so libfuse answers ENOSYS and the kernel asks once and never again: FLUSH and FSYNC (nothing is written), ACCESS (with
  // default_permissions the kernel checks by itself), POLL and BMAP (it has a default). RELEASE and RELEASEDIR never come. READDIR never comes
  // either, because READDIRPLUS is always used.
  static fuse_lowlevel_ops Table() {
    fuse_lowlevel_ops table = {};
    table.init = Init;
    table.lookup = Lookup;
    table.forget = Forget;
    table.forget_multi = ForgetMulti;
    table.getattr = Getattr;
    table.readlink = Readlink;
    table.open = Open;
    table.read = Read;
    table.opendir = Opendir;
    table.readdirplus = Readdirplus;
    table.getxattr = Getxattr;
    table.listxattr = Listxattr;
    table.lseek = Lseek;
    table.statfs = Statfs;
    table.ioctl = NoIoctl;
    table.setattr = ReadOnly;
    table.mknod = ReadOnly;
    table.mkdir = ReadOnly;
    table.unlink = ReadOnly;
    table.rmdir = ReadOnly;
    table.symlink = ReadOnly;
    table.rename = ReadOnly;
    table.link = ReadOnly;
    table.write = ReadOnly;
    table.setxattr = ReadOnly;
    table.removexattr = ReadOnly;
    table.create = ReadOnly;
    table.fallocate = ReadOnly;
    table.copy_file_range = ReadOnly;
    return table;
  }
};

void Session::Register(Napi::Env env, Napi::Object exports) {
  fuse_set_log_func(Log);
  exports.Set("Session", DefineClass(env, "Session", {
    InstanceMethod<&Session::Mount>("mount"),
    InstanceAccessor<&Session::Device>("device"),
    InstanceMethod<&Session::Close>("close"),
    InstanceMethod<&Session::ReplyError>("replyError"),
    InstanceMethod<&Session::ReplyEntry>("replyEntry"),
    InstanceMethod<&Session::ReplyNegative>("replyNegative"),
    InstanceMethod<&Session::ReplyAttr>("replyAttr"),
    InstanceMethod<&Session::ReplyDirents>("replyDirents"),
    InstanceMethod<&Session::ReplyBytes>("replyBytes"),
    InstanceMethod<&Session::ReplyBlobs>("replyBlobs"),
    InstanceMethod<&Session::ReplySize>("replySize"),
    InstanceMethod<&Session::ReplyOffset>("replyOffset"),
    InstanceMethod<&Session::ReplyStatfs>("replyStatfs"),
    InstanceMethod<&Session::SetAbsentXattrs>("setAbsentXattrs"),
    InstanceMethod<&Session::Push>("push"),
    InstanceMethod<&Session::InvalidateEntry>("invalidateEntry"),
    InstanceMethod<&Session::InvalidateNode>("invalidateNode"),
    InstanceMethod<&Session::Stats>("stats"),
  }));
}

Session::Session(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Session>(info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "options must be an object");
  Napi::Object options = info[0].As<Napi::Object>();
  mountpoint_ = BytesOf(options.Get("mountpoint"), "mountpoint");
  Napi::Value list = options.Get("mountOptions");
  if (!list.IsArray()) throw Napi::TypeError::New(env, "mountOptions must be an array");
  for (uint32_t i = 0; i < list.As<Napi::Array>().Length(); i++) mount_options_.push_back(list.As<Napi::Array>().Get(i).ToString().Utf8Value());
  posix_acl_ = options.Get("posixAcl").ToBoolean();
  Napi::Value owner = options.Get("owner");
  if (owner.IsObject()) {
    owner_ = Owner{static_cast<uid_t>(IntegerOf(owner.As<Napi::Object>().Get("uid"), "uid", UINT32_MAX)),
                   static_cast<gid_t>(IntegerOf(owner.As<Napi::Object>().Get("gid"), "gid", UINT32_MAX))};
  }
  Napi::Value handlers = options.Get("handlers");
  if (!handlers.IsObject()) throw Napi::TypeError::New(env, "handlers must be an object");
  receiver_ = Napi::Persistent(handlers.As<Napi::Object>());
  for (int i = 0; i < kHandlers; i++) {
    Napi::Value handler = handlers.As<Napi::Object>().Get(kHandlerNames[i]);
    if (handler.IsFunction()) handlers_[i] = Napi::Persistent(handler.As<Napi::Function>());
    else if (i != kListed) throw Napi::TypeError::New(env, std::string("handlers.") + kHandlerNames[i] + " must be a function");
  }
}

Session::~Session() {
  if (context_) napi_async_destroy(Env(), context_);
}

void Session::Mount(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (state_ != State::kNew) throw CodedError(env, "ERR_STATE", "the session was mounted before");
  uv_loop_t* loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "no event loop");
  if (!context_ && napi_async_init(env, receiver_.Value(), Napi::String::New(env, "daybook.Session"), &context_) != napi_ok) {
    throw Napi::Error::New(env, "no async context");
  }
  try {
    mount_point_ = daybook::Mount(mountpoint_, mount_options_);
  } catch (const MountError& failure) {
    throw SystemError(env, failure.error, failure.message);
  }

  // From here on libfuse only translates; fuse_session_destroy will close the descriptor.
  static const fuse_lowlevel_ops table = Operations::Table();
  char program[] = "daybook";
  char* argv[] = {program, nullptr};
  fuse_args arguments = {1, argv, 0};
  std::string said;
  log_target = &said;
  session_ = fuse_session_new(&arguments, &table, sizeof table, this);
  fuse_custom_io io = {};
  io.writev = Operations::Write;
  io.read = Operations::NoRead;
  bool attached = session_ && fuse_session_custom_io(session_, &io, mount_point_.fd) == 0;
  log_target = nullptr;
  fuse_opt_free_args(&arguments);
  int failure = attached ? 0 : EIO;
  if (attached) {
    poll_ = new uv_poll_t;
    poll_->data = this;
    failure = -uv_poll_init(loop, poll_, mount_point_.fd);  // makes it non-blocking, too
    if (failure != 0) {
      delete poll_;
      poll_ = nullptr;
    }
  }
  if (failure != 0) {
    if (session_) fuse_session_destroy(session_);
    if (!attached) close(mount_point_.fd);
    session_ = nullptr;
    Unmount(mount_point_);
    throw SystemError(env, failure, "libfuse: " + said);
  }
  async_ = new uv_async_t;
  async_->data = this;
  uv_async_init(loop, async_, OnAsync);
  uv_unref(reinterpret_cast<uv_handle_t*>(async_));  // a mount keeps the process alive, by its poll; a push alone does not
  uv_poll_start(poll_, UV_READABLE, OnPoll);
  open_handles_ = 2;
  napi_add_async_cleanup_hook(env, OnTeardown, this, &teardown_);
  Ref();  // until OnHandleClosed: nobody need hold the object while it is mounted
  state_ = State::kServing;
}

Napi::Value Session::Device(const Napi::CallbackInfo& info) {
  if (state_ == State::kNew) throw CodedError(info.Env(), "ERR_STATE", "not mounted");
  Napi::Object device = Napi::Object::New(info.Env());
  device.Set("major", mount_point_.major);
  device.Set("minor", mount_point_.minor);
  return device;
}

// ---- from the kernel to JavaScript

void Session::OnPoll(uv_poll_t* handle, int, int) {
  // An error status (the connection is gone) shows in read() as well.
  static_cast<Session*>(handle->data)->Serve();
}

void Session::Serve() {
  if (state_ != State::kServing) return;
  Napi::HandleScope scope(Env());
  std::optional<int> ended;
  const uint64_t until = uv_hrtime() + kBatchNs;
  busy_ = true;
  for (int i = 0; i < kBatch && state_ == State::kServing; i++) {
    ssize_t n = Receive();
    if (n < 0) {
      if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: a request was interrupted before it was read
      if (errno != EAGAIN) ended = errno == ENODEV ? 0 : errno;
      break;
    }
    Process(ReceiveBuffer(), static_cast<size_t>(n));
    if (fuse_session_exited(session_)) {
      ended = EPROTO;
      break;
    }
    last_served_ = uv_hrtime();
    if (last_served_ > until) break;  // the poll is level-triggered and comes back
  }
  FlushForgets();
  busy_ = false;
  if (state_ == State::kClosing) Finish({}, Ending::kByLoop);
  else if (ended) Finish(ended, Ending::kByLoop);
}

// Who goes through directories sends the next request microseconds after each answer. Where that is so, we look for it for a while before we sleep: to wake a thread on
// an idle processor costs the sender 10 us, on a virtual machine 50 and more. Not while an answer waits for something else, which the event loop would have to hear of.
ssize_t Session::Receive() {
  ssize_t n = read(mount_point_.fd, ReceiveBuffer(), kReceiveLength);
  const uint64_t now = uv_hrtime();
  if (n < 0 && errno == EAGAIN && expected_gap_ < kMaxGap && slots_.size() == free_slots_.size() && SpareProcessor()) {
    const uint64_t until = now + kSpinNs;
    do {
      for (int i = 0; i < 32; i++) Pause();
      n = read(mount_point_.fd, ReceiveBuffer(), kReceiveLength);
    } while (n < 0 && errno == EAGAIN && uv_hrtime() < until);
  }
  const int error = errno;
  if (n >= 0) {
    const uint64_t gap = std::min<uint64_t>(uv_hrtime() - last_served_, 4 * kMaxGap);
    expected_gap_ = expected_gap_ - expected_gap_ / 8 + gap / 8;
  }
  errno = error;
  return n;
}

// Within Serve(), or StopNotifier() with a buffer of its own.
void Session::Process(void* message, size_t length) {
  if (length < sizeof(fuse_in_header)) return;
  uint32_t opcode = static_cast<fuse_in_header*>(message)->opcode;
  if (opcode < requests_.size()) requests_[opcode]++;
  else other_requests_++;
  if (opcode == FUSE_INIT && length >= sizeof(fuse_in_header) + offsetof(fuse_init_in, flags2)) {
    init_unique_ = static_cast<fuse_in_header*>(message)->unique;
    init_flags_ = reinterpret_cast<fuse_init_in*>(static_cast<char*>(message) + sizeof(fuse_in_header))->flags;
  }
  napi_handle_scope scope = nullptr;
  if (state_ == State::kServing && napi_open_handle_scope(Env(), &scope) != napi_ok) scope = nullptr;
  std::string said;
  log_target = &said;
  fuse_buf buffer = {};
  buffer.size = length;
  buffer.mem = message;
  fuse_session_process_buf(session_, &buffer);
  log_target = nullptr;
  if (!said.empty() && scope) {
    napi_value text, error;
    if (napi_create_string_utf8(Env(), said.data(), said.size(), &text) == napi_ok && napi_create_error(Env(), nullptr, text, &error) == napi_ok) {
      Report("libfuse", error);
    }
  }
  if (scope) napi_close_handle_scope(Env(), scope);
}

double Session::IdOf(uint32_t index) const { return static_cast<double>(uint64_t{slots_[index].generation} << kIndexBits | index); }

// Null when scripts may no longer run; Call() then fails, too.
napi_value Session::Number(double value) {
  napi_value result = nullptr;
  if (state_ == State::kServing) napi_create_double(Env(), value, &result);
  return result;
}

napi_value Session::Bytes(std::string_view text) {
  napi_value result = nullptr;
  if (state_ == State::kServing) napi_create_buffer_copy(Env(), text.size(), text.data(), nullptr, &result);
  return result;
}

// arguments[0] is filled in. Answers by itself if JavaScript cannot be asked.
void Session::Ask(fuse_req_t request, Handler operation, uint64_t node, uint32_t size, napi_value* arguments, size_t count, uint64_t offset) {
  if (state_ != State::kServing) {
    fuse_reply_err(request, EIO);
    return;
  }
  uint32_t index;
  try {
    if (free_slots_.empty()) {
      if (slots_.size() >> kIndexBits) throw std::bad_alloc();
      free_slots_.reserve(slots_.size() + 1);  // so that giving the slot back cannot fail
      slots_.emplace_back();
      free_slots_.push_back(static_cast<uint32_t>(slots_.size() - 1));
    }
    index = free_slots_.back();
    free_slots_.pop_back();
  } catch (const std::bad_alloc&) {
    fuse_reply_err(request, ENOMEM);
    return;
  }
  Slot& slot = slots_[index];
  slot.request = request;
  slot.operation = operation;
  slot.size = size;
  slot.node = node;
  slot.offset = offset;
  const uint32_t generation = slot.generation;
  arguments[0] = Number(IdOf(index));
  bool called = Call(operation, arguments, count);

  // The handler may have made `slots_` grow by nothing, but the slot may have been answered and taken again.
  auto open = [&] { return slots_[index].request == request && slots_[index].generation == generation; };
  if (!open()) return;
  if (!called) {
    fuse_reply_err(Take(index), EIO);
    return;
  }
  // libfuse calls back at once, with the request's lock held, if the interruption was there before: an answer would free that lock.
  registering_ = true;
  interrupted_ = false;
  fuse_req_interrupt_func(request, Operations::Interrupted, reinterpret_cast<void*>(uintptr_t{index}));
  registering_ = false;
  if (interrupted_ && state_ == State::kServing) TellInterrupted(index);
}

void Session::TellInterrupted(uint32_t index) {
  napi_value arguments[] = {Number(IdOf(index)), Number(static_cast<double>(fuse_req_ctx(slots_[index].request)->pid))};
  Call(kInterrupt, arguments, 2);
}

// False if the handler threw (which was reported) or could not be called.
bool Session::Call(Handler handler, const napi_value* arguments, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (!arguments[i]) return false;
  }
  napi_env env = Env();
  napi_value receiver, function, result;
  if (napi_get_reference_value(env, receiver_, &receiver) != napi_ok || napi_get_reference_value(env, handlers_[handler], &function) != napi_ok) return false;
  // Promise continuations and process.nextTick run as this returns, so an answer given in one does not wait for the rest of the batch.
  napi_status status = napi_make_callback(env, context_, receiver, function, count, arguments, &result);
  if (status == napi_ok) return true;
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending) return false;
  napi_value error;
  if (napi_get_and_clear_last_exception(env, &error) != napi_ok) return false;
  failures_++;
  if (handler == kFailed) napi_fatal_exception(env, error);
  else Report(kHandlerNames[handler], error);
  return false;
}

void Session::Report(const char* operation, napi_value error) {
  napi_value arguments[] = {nullptr, error};
  if (napi_create_string_utf8(Env(), operation, NAPI_AUTO_LENGTH, &arguments[0]) == napi_ok) Call(kFailed, arguments, 2);
}

void Session::AddForget(uint64_t node, uint64_t count) {
  if (state_ != State::kServing || (node != FUSE_ROOT_ID && !(node & kDirectoryBit))) return;
  // The number may soon name another directory, which may have more entries.
  for (End& end : ends_) {
    if (end.node == node) end = {};
  }
  try {
    forgets_.push_back(static_cast<double>(node));
    forgets_.push_back(static_cast<double>(count));
  } catch (const std::bad_alloc&) {
    forgets_.resize(forgets_.size() & ~size_t{1});  // the directory stays known for longer than it need
  }
}

void Session::FlushForgets() {
  if (forgets_.empty() || state_ != State::kServing) return;
  napi_env env = Env();
  napi_value buffer, pairs;
  void* data;
  size_t length = forgets_.size() * sizeof(double);
  if (napi_create_arraybuffer(env, length, &data, &buffer) == napi_ok) {
    memcpy(data, forgets_.data(), length);
    if (napi_create_typedarray(env, napi_float64_array, forgets_.size(), buffer, 0, &pairs) == napi_ok) Call(kForget, &pairs, 1);
  }
  forgets_.clear();
  if (forgets_.capacity() > 65536) forgets_.shrink_to_fit();
}

// ---- from JavaScript to the kernel

uint32_t Session::Find(const Napi::CallbackInfo& info, uint32_t operations) {
  double id = NumberOf(info[0], "request");
  if (id >= 0 && id <= kMaxSafe && id == std::floor(id)) {
    auto number = static_cast<uint64_t>(id);
    uint64_t index = number & ((1u << kIndexBits) - 1);
    if (index < slots_.size() && slots_[index].request && slots_[index].generation == number >> kIndexBits) {
      if (!(operations >> slots_[index].operation & 1)) {
        throw CodedError(info.Env(), "ERR_WRONG_REPLY", std::string("a request ") + kHandlerNames[slots_[index].operation] + " has no such answer");
      }
      return static_cast<uint32_t>(index);
    }
  }
  throw CodedError(info.Env(), "ERR_ANSWERED", "the request was answered before");
}

fuse_req_t Session::Take(uint32_t index) {
  Slot& slot = slots_[index];
  fuse_req_t request = slot.request;
  slot.request = nullptr;
  slot.generation++;  // 2^32 requests of one slot later an id could fit again; nobody keeps one for that long
  free_slots_.push_back(index);
  return request;
}

void Session::FillAttr(const Record& record, uint64_t ino, ::fuse_attr* attr) const {
  memset(attr, 0, sizeof *attr);
  attr->ino = ino;
  attr->size = record.size;
  attr->blocks = record.blocks;
  attr->atime = static_cast<uint64_t>(record.atime);
  attr->mtime = static_cast<uint64_t>(record.mtime);
  attr->ctime = static_cast<uint64_t>(record.ctime);
  attr->atimensec = record.atime_ns;
  attr->mtimensec = record.mtime_ns;
  attr->ctimensec = record.ctime_ns;
  attr->mode = record.mode;
  attr->nlink = record.nlink;
  attr->uid = owner_ ? owner_->uid : record.uid;
  attr->gid = owner_ ? owner_->gid : record.gid;
  attr->rdev = record.rdev;
  attr->blksize = 4096;
}

void Session::ReplyError(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, ~0u);
  uint64_t error = IntegerOf(info[1], "errno", 511);  // what the kernel accepts
  if (error == 0 || error == ENOSYS) throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "errno is out of range");  // ENOSYS ends an operation for the whole mount
  fuse_reply_err(Take(index), static_cast<int>(error));
}

void Session::ReplyEntry(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kLookup);
  fuse_entry_out entry = {};
  entry.nodeid = IntegerOf(info[1], "node");
  RowsView rows = RowsOf(info[2]);
  uint64_t position = IntegerOf(info[3], "position", UINT32_MAX);
  if (position >= rows.count() || entry.nodeid == 0) throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "no such row or node");
  Record record = rows.At(static_cast<uint32_t>(position));
  FillAttr(record, info[4].IsNull() ? record.ino : InoOf(info[4], "ino"), &entry.attr);
  SetTimeout(SecondsOf(info[5], "attrTtl"), &entry.attr_valid, &entry.attr_valid_nsec);
  SetTimeout(SecondsOf(info[6], "entryTtl"), &entry.entry_valid, &entry.entry_valid_nsec);
  fuse_reply_buf(Take(index), reinterpret_cast<const char*>(&entry), sizeof entry);
}

void Session::ReplyNegative(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kLookup);
  double ttl = SecondsOf(info[1], "entryTtl");
  if (ttl == 0) {
    fuse_reply_err(Take(index), ENOENT);
    return;
  }
  fuse_entry_out entry = {};
  SetTimeout(ttl, &entry.entry_valid, &entry.entry_valid_nsec);
  fuse_reply_buf(Take(index), reinterpret_cast<const char*>(&entry), sizeof entry);
}

void Session::ReplyAttr(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kGetattr);
  RowsView rows = RowsOf(info[1]);
  uint64_t position = IntegerOf(info[2], "position", UINT32_MAX);
  if (position >= rows.count()) throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "no such row");
  Record record = rows.At(static_cast<uint32_t>(position));
  fuse_attr_out answer = {};
  FillAttr(record, info[3].IsNull() ? record.ino : InoOf(info[3], "ino"), &answer.attr);
  SetTimeout(SecondsOf(info[4], "attrTtl"), &answer.attr_valid, &answer.attr_valid_nsec);
  fuse_reply_buf(Take(index), reinterpret_cast<const char*>(&answer), sizeof answer);
}

// The records are written here rather than by fuse_add_direntry_plus, which wants names that end with a zero byte and a struct stat to convert.
Napi::Value Session::ReplyDirents(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kReaddirplus);
  RowsView rows = RowsOf(info[1]);
  if (!info[2].IsObject()) throw Napi::TypeError::New(info.Env(), "options must be an object");
  Napi::Object options = info[2].As<Napi::Object>();
  const uint64_t node = slots_[index].node, offset = slots_[index].offset, size = std::min(slots_[index].size, kMaxReply);
  uint64_t ino = InoOf(options.Get("ino"), "ino"), parent_ino = InoOf(options.Get("parentIno"), "parentIno");
  uint64_t file_base = IntegerOf(options.Get("fileBase"), "fileBase"), directory_base = IntegerOf(options.Get("directoryBase"), "directoryBase");
  const double ttl = SecondsOf(options.Get("ttl"), "ttl");
  bool immutable = options.Get("immutable").ToBoolean();
  const double* nodes = nullptr;
  Napi::Value given = options.Get("nodes");
  if (!given.IsNull()) {
    napi_typedarray_type type;
    size_t length;
    void* data;
    if (!given.IsTypedArray() || napi_get_typedarray_info(info.Env(), given, &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_float64_array || length < rows.count()) {
      throw Napi::TypeError::New(info.Env(), "nodes must be a Float64Array with one number per row");
    }
    nodes = static_cast<const double*>(data);
  }

  fuse_entry_out common = {};
  SetTimeout(ttl, &common.attr_valid, &common.attr_valid_nsec);
  SetTimeout(ttl, &common.entry_valid, &common.entry_valid_nsec);
  char* const buffer = DirentBuffer();
  size_t used = 0;
  // A place for the next entry, null if it does not fit.
  auto begin = [&](std::string_view name, uint64_t next) -> fuse_direntplus* {
    size_t length = FUSE_NAME_OFFSET_DIRENTPLUS + name.size();
    size_t padded = FUSE_DIRENT_ALIGN(length);
    if (padded > size - used) return nullptr;
    auto* entry = reinterpret_cast<fuse_direntplus*>(buffer + used);
    entry->entry_out = common;
    entry->dirent.off = next;
    entry->dirent.namelen = static_cast<uint32_t>(name.size());
    memcpy(entry->dirent.name, name.data(), name.size());
    memset(entry->dirent.name + name.size(), 0, padded - length);
    used += padded;
    return entry;
  };
  uint32_t entries = 0;
  uint64_t at = offset;
  const uint64_t end = uint64_t{rows.count()} + 2;
  for (; at < end; at++) {
    if (at < 2) {
      // Nodeid 0: nothing to remember, so nothing to forget.
      fuse_direntplus* entry = begin(at == 0 ? "." : "..", at + 1);
      if (!entry) break;
      entry->dirent.ino = entry->entry_out.attr.ino = at == 0 ? ino : parent_ino;
      entry->dirent.type = S_IFDIR >> 12;
      entry->entry_out.attr.mode = S_IFDIR;
    } else {
      auto position = static_cast<uint32_t>(at - 2);
      Record record = rows.At(position);
      std::string_view name = rows.Name(record);
      // The kernel takes one such name for a reason to refuse the whole directory.
      if (name.empty() || name.size() > NAME_MAX || name == "." || name == ".." || memchr(name.data(), '/', name.size())) continue;
      fuse_direntplus* entry = begin(name, at + 1);
      if (!entry) break;
      uint64_t number = record.ino;
      if (nodes) {
        double given_node = nodes[position];
        entry->entry_out.nodeid = given_node > 0 && given_node <= kMaxSafe ? static_cast<uint64_t>(given_node) : 0;
      } else if (record.IsDirectory()) {
        entry->entry_out.nodeid = kDirectoryBit | (directory_base + record.ordinal);
        number = DirectoryIno(ino, position);
      } else {
        entry->entry_out.nodeid = (file_base + position) | (record.HasXattrs() ? 0 : kNoXattrBit);
      }
      FillAttr(record, number, &entry->entry_out.attr);
      entry->dirent.ino = number;
      entry->dirent.type = (record.mode & S_IFMT) >> 12;
    }
    entries++;
  }
  if (at >= end && immutable) RememberEnd(node, end);
  fuse_reply_buf(Take(index), buffer, used);
  return Napi::Number::New(info.Env(), entries);
}

void Session::RememberEnd(uint64_t node, uint64_t offset) {
  if (IsEnd(node, offset)) return;
  ends_[next_end_++ % ends_.size()] = {node, offset};
}

bool Session::IsEnd(uint64_t node, uint64_t offset) const {
  if (offset < 2) return false;  // 0 is the start of every listing, and the free places'
  return std::any_of(ends_.begin(), ends_.end(), [&](const End& end) { return end.node == node && end.offset == offset; });
}

void Session::ReplyBytes(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kRead | 1u << kReadlink | 1u << kGetxattr | 1u << kListxattr);
  std::string_view bytes = BytesOf(info[1], "bytes");
  Handler operation = slots_[index].operation;
  if (bytes.size() > slots_[index].size || (operation != kRead && operation != kReadlink && slots_[index].size == 0)) {
    throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "more bytes than were asked for");
  }
  if (operation == kRead) bytes_read_ += bytes.size();
  fuse_reply_buf(Take(index), bytes.data(), bytes.size());
}

void Session::ReplyBlobs(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kRead);
  if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), "parts must be an array");
  Napi::Array parts = info[1].As<Napi::Array>();
  uint32_t count = parts.Length();
  if (count % 3 != 0) throw Napi::TypeError::New(info.Env(), "parts must be [blob | null, start, length, ...]");
  const size_t most = slots_[index].size;
  size_t total = 0;
  std::vector<std::shared_ptr<Chunk>> chunks;  // the answer is sent before this returns, so nobody can free them meanwhile; this is for certainty
  std::vector<iovec> pieces;
  chunks.reserve(count / 3);
  pieces.reserve(count / 3);
  for (uint32_t i = 0; i < count; i += 3) {
    Napi::HandleScope scope(info.Env());
    Napi::Value blob = parts.Get(i);
    uint64_t start = IntegerOf(parts.Get(i + 1), "start"), length = IntegerOf(parts.Get(i + 2), "length");
    if (length > most - total) throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "more bytes than were asked for");
    total += length;
    if (length == 0) continue;
    if (blob.IsNull()) {
      pieces.push_back({const_cast<void*>(Zeros()), length});
      continue;
    }
    std::shared_ptr<Chunk> chunk = Blob::Get(blob);
    if (start > chunk->size || length > chunk->size - start) throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "a part is outside of its blob");
    pieces.push_back({chunk->data + start, length});
    chunks.push_back(std::move(chunk));
  }
  bytes_read_ += total;
  if (pieces.size() <= kMaxParts) {
    fuse_reply_iov(Take(index), pieces.data(), static_cast<int>(pieces.size()));
    return;
  }
  std::vector<char> joined;
  joined.reserve(total);
  for (const iovec& piece : pieces) joined.insert(joined.end(), static_cast<char*>(piece.iov_base), static_cast<char*>(piece.iov_base) + piece.iov_len);
  fuse_reply_buf(Take(index), joined.data(), joined.size());
}

void Session::ReplySize(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kGetxattr | 1u << kListxattr);
  uint64_t size = IntegerOf(info[1], "size", UINT32_MAX);
  if (slots_[index].size != 0) throw CodedError(info.Env(), "ERR_WRONG_REPLY", "the bytes were asked for, not their number");
  fuse_reply_xattr(Take(index), size);
}

void Session::ReplyOffset(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kLseek);
  uint64_t offset = IntegerOf(info[1], "offset");
  fuse_reply_lseek(Take(index), static_cast<off_t>(offset));
}

void Session::ReplyStatfs(const Napi::CallbackInfo& info) {
  uint32_t index = Find(info, 1u << kStatfs);
  if (!info[1].IsObject()) throw Napi::TypeError::New(info.Env(), "stat must be an object");
  Napi::Object given = info[1].As<Napi::Object>();
  struct statvfs stat = {};
  stat.f_blocks = IntegerOf(given.Get("blocks"), "blocks");
  stat.f_bfree = stat.f_bavail = IntegerOf(given.Get("bfree"), "bfree");
  stat.f_files = IntegerOf(given.Get("files"), "files");
  stat.f_ffree = stat.f_favail = IntegerOf(given.Get("ffree"), "ffree");
  stat.f_bsize = stat.f_frsize = IntegerOf(given.Get("bsize"), "bsize", UINT32_MAX);
  stat.f_namemax = IntegerOf(given.Get("namemax"), "namemax", UINT32_MAX);
  fuse_reply_statfs(Take(index), &stat);
}

void Session::SetAbsentXattrs(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "names must be an array");
  Napi::Array names = info[0].As<Napi::Array>();
  std::vector<std::string> absent;
  for (uint32_t i = 0; i < names.Length(); i++) absent.push_back(names.Get(i).ToString().Utf8Value());
  absent_xattrs_ = std::move(absent);
}

// ---- notifications

Napi::Value Session::Push(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "items must be an array");
  Napi::Array items = info[0].As<Napi::Array>();
  auto job = std::make_unique<Notifier::Job>();
  job->kind = Notifier::Kind::kStore;
  uint32_t count = items.Length();
  job->items.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    Napi::HandleScope scope(info.Env());
    Napi::Value value = items.Get(i);
    if (!value.IsArray()) throw Napi::TypeError::New(info.Env(), "an item must be [node, offset, blob, start, length]");
    Napi::Array item = value.As<Napi::Array>();
    Notifier::Item entry;
    entry.node = IntegerOf(item.Get(0u), "node");
    entry.offset = IntegerOf(item.Get(1u), "offset");
    entry.chunk = Blob::Get(item.Get(2u));
    entry.start = IntegerOf(item.Get(3u), "start");
    entry.length = IntegerOf(item.Get(4u), "length", INT32_MAX);
    if (entry.start > entry.chunk->size || entry.length > entry.chunk->size - entry.start) {
      throw CodedError(info.Env(), "ERR_OUT_OF_RANGE", "an item is outside of its blob");
    }
    job->items.push_back(std::move(entry));
  }
  return Enqueue(std::move(job));
}

Napi::Value Session::InvalidateEntry(const Napi::CallbackInfo& info) {
  auto job = std::make_unique<Notifier::Job>();
  job->kind = Notifier::Kind::kInvalidateEntry;
  job->node = IntegerOf(info[0], "parent");
  job->name = BytesOf(info[1], "name");
  return Enqueue(std::move(job));
}

Napi::Value Session::InvalidateNode(const Napi::CallbackInfo& info) {
  auto job = std::make_unique<Notifier::Job>();
  job->kind = Notifier::Kind::kInvalidateNode;
  job->node = IntegerOf(info[0], "node");
  return Enqueue(std::move(job));
}

Napi::Value Session::Enqueue(std::unique_ptr<Notifier::Job> job) {
  napi_deferred deferred;
  napi_value promise;
  if (napi_create_promise(Env(), &deferred, &promise) != napi_ok) throw Napi::Error::New(Env());
  job->promise = deferred;
  if (state_ == State::kServing) {
    if (!notifier_) notifier_ = std::make_unique<Notifier>(mount_point_.fd, [async = async_] { uv_async_send(async); });
    try {
      notifier_->Add(std::move(job));
    } catch (const std::system_error& error) {
      napi_resolve_deferred(Env(), deferred, Napi::Number::New(Env(), 0));
    }
  } else {
    napi_resolve_deferred(Env(), deferred, job->kind == Notifier::Kind::kStore ? Napi::Number::New(Env(), 0) : Env().Undefined());
  }
  return Napi::Value(Env(), promise);
}

// Needs a handle scope. Promise continuations run later.
void Session::SettleJobs() {
  for (auto& job : notifier_->Collect()) {
    items_pushed_ += job->taken;
    bytes_pushed_ += job->bytes;
    auto deferred = static_cast<napi_deferred>(job->promise);
    if (job->kind == Notifier::Kind::kStore) napi_resolve_deferred(Env(), deferred, Napi::Number::New(Env(), job->taken));
    else if (job->error == 0) napi_resolve_deferred(Env(), deferred, Env().Undefined());
    else napi_reject_deferred(Env(), deferred, SystemError(Env(), job->error, "notification refused").Value());
  }
}

void Session::OnAsync(uv_async_t* handle) { static_cast<Session*>(handle->data)->OnNotified(); }

void Session::OnNotified() {
  if (state_ != State::kServing || !notifier_) return;
  Napi::HandleScope scope(Env());
  Napi::CallbackScope callback(Env(), context_);
  SettleJobs();
}

Napi::Value Session::Stats(const Napi::CallbackInfo& info) {
  Napi::Object stats = Napi::Object::New(info.Env());
  uint64_t others = other_requests_;
  for (uint32_t opcode = 0; opcode < requests_.size(); opcode++) {
    if (requests_[opcode] == 0) continue;
    if (const char* name = OpcodeName(opcode)) stats.Set(name, static_cast<double>(requests_[opcode]));
    else others += requests_[opcode];
  }
  stats.Set("other", static_cast<double>(others));
  stats.Set("native", static_cast<double>(answered_natively_));
  stats.Set("failed", static_cast<double>(failures_));
  stats.Set("pending", static_cast<double>(slots_.size() - free_slots_.size()));
  stats.Set("bytesRead", static_cast<double>(bytes_read_));
  stats.Set("pushed", static_cast<double>(items_pushed_));
  stats.Set("bytesPushed", static_cast<double>(bytes_pushed_));
  return stats;
}

// ---- end of life

void Session::Close(const Napi::CallbackInfo&) {
  if (state_ == State::kNew) state_ = State::kEnded;
  if (state_ != State::kServing) return;
  state_ = State::kClosing;
  AnswerAll(EIO);
  if (!busy_) Finish({}, Ending::kByScript);  // else when the request under way has been left: libfuse is on the stack
}

void Session::AnswerAll(int error) {
  for (uint32_t i = 0; i < slots_.size(); i++) {
    if (slots_[i].request) fuse_reply_err(Take(i), error);
  }
}

// The notifier may be in the kernel, waiting for a page whose reader waits for an answer of ours, perhaps to a request not even read yet.
// So requests go on being answered, with EIO, until it has returned.
void Session::StopNotifier() {
  if (!notifier_) return;
  int stopped = notifier_->Stop();
  if (stopped >= 0) {
    // The receive buffer may be in use by another session, in one of whose handlers this is.
    std::unique_ptr<char[]> buffer;
    pollfd watched[2] = {{stopped, POLLIN, 0}, {mount_point_.fd, POLLIN, 0}};
    while (true) {
      if (poll(watched, 2, -1) < 0 && errno != EINTR) break;
      if (watched[0].revents) break;
      if (!buffer) buffer.reset(new char[kReceiveLength]);
      ssize_t n = read(mount_point_.fd, buffer.get(), kReceiveLength);
      if (n > 0) Process(buffer.get(), static_cast<size_t>(n));
      else if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOENT) watched[1].fd = -1;  // gone, which lets the notifier go, too
    }
  }
  notifier_->Join();
}

void Session::Finish(std::optional<int> error, Ending ending) {
  state_ = State::kClosing;
  AnswerAll(EIO);
  StopNotifier();
  uv_close(reinterpret_cast<uv_handle_t*>(poll_), OnHandleClosed);  // before its descriptor is closed
  uv_close(reinterpret_cast<uv_handle_t*>(async_), OnHandleClosed);
  poll_ = nullptr;
  async_ = nullptr;
  // Closes the descriptor, which ends the connection: whoever looks at the mount while it is taken away gets an error, and does not wait for us.
  fuse_session_destroy(session_);
  session_ = nullptr;
  mount_point_.fd = -1;
  Unmount(mount_point_);
  state_ = State::kEnded;

  if (ending == Ending::kTeardown) return;
  if (notifier_ && ending == Ending::kByScript) SettleJobs();
  if (ending == Ending::kByScript) return;
  Napi::HandleScope scope(Env());
  if (notifier_) {
    Napi::CallbackScope callback(Env(), context_);  // runs the promises' continuations
    SettleJobs();
  }
  napi_value number;
  if (error && napi_create_int32(Env(), *error, &number) == napi_ok) Call(kClosed, &number, 1);
}

void Session::OnHandleClosed(uv_handle_t* handle) {
  auto* self = static_cast<Session*>(handle->data);
  if (handle->type == UV_POLL) delete reinterpret_cast<uv_poll_t*>(handle);
  else delete reinterpret_cast<uv_async_t*>(handle);
  if (--self->open_handles_ > 0) return;
  napi_async_cleanup_hook_handle teardown = self->teardown_;
  self->Unref();
  napi_remove_async_cleanup_hook(teardown);  // last: a closing environment goes on from here
}

// The process or worker ends; scripts no longer run. process.exit() in a handler comes here with libfuse on the stack, but does not return there.
void Session::OnTeardown(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<Session*>(data);
  if (self->state_ == State::kServing || self->state_ == State::kClosing) self->Finish({}, Ending::kTeardown);
}

}  // namespace daybook
