#include "file_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "async.h"
#include "posix.h"

namespace daybook {
namespace {

constexpr napi_type_tag kStreamTag = {0x6461796273747265, 0x7c0f3e91ad2846b5};
constexpr size_t kReadLength = 512 << 10;

// What JavaScript's object and work under way share.
struct StreamState {
  std::shared_ptr<ScanData> data;
  uint32_t position = 0;
  std::shared_ptr<const Chunker> chunker;
  int fd = -1;
  bool given = false;  // the descriptor was not opened here
  bool ended = false;
  bool busy = false;
  std::shared_ptr<Chunk> buffer;  // begins with a chunk; kMaxLength and one read long
  size_t filled = 0;
  size_t searched = 0;
  uint64_t length = 0;

  ~StreamState() { Close(); }
  void Close() {
    if (fd >= 0) close(fd);
    fd = -1;
    buffer.reset();
  }
};

thread_local Napi::FunctionReference* stream_constructor = nullptr;
thread_local std::shared_ptr<StreamState> pending;

// Reads on until there are chunks of so many bytes, or the file ends.
class NextTask : public AsyncTask {
 public:
  NextTask(Napi::Env env, std::shared_ptr<StreamState> state, size_t wanted) : AsyncTask(env), state_(std::move(state)), wanted_(wanted) {
    state_->busy = true;
  }

 protected:
  void Run(size_t) override {
    StreamState& state = *state_;
    if (state.ended) return;
    if (state.fd < 0 && !state.given) {
      state.fd = OpenEntry(state.data.get(), state.position, &error_, &syscall_);
      if (state.fd < 0) return;
    }
    if (state.buffer == nullptr) state.buffer = Chunk::Allocate(Chunker::kMaxLength + kReadLength);
    if (state.buffer == nullptr) throw std::bad_alloc();
    for (size_t got = 0; got < wanted_;) {
      const size_t cut = state.chunker->Cut(state.buffer->data, state.filled, state.searched);
      if (cut > 0) {
        got += cut;
        Take(cut);
        continue;
      }
      state.searched = state.filled;
      const ssize_t count = read(state.fd, state.buffer->data + state.filled, kReadLength);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        error_ = errno;
        syscall_ = "read";
        return;
      }
      if (count == 0) {
        if (state.filled > 0) Take(state.filled);
        End();
        return;
      }
      state.filled += static_cast<size_t>(count);
      state.length += static_cast<size_t>(count);
    }
  }

  Napi::Value Result(Napi::Env env) override {
    state_->busy = false;
    if (error_ != 0) {
      state_->ended = true;
      state_->Close();
      throw ErrnoError(env, error_, syscall_, state_->given ? "" : state_->data->PathOf(state_->data->entries[state_->position]));
    }
    return Pieces::Wrap(env, std::move(pieces_));
  }

 private:
  void Take(size_t length) {
    StreamState& state = *state_;
    pieces_.push_back(Piece::Of(state.buffer->data, length));
    memmove(state.buffer->data, state.buffer->data + length, state.filled - length);
    state.filled -= length;
    state.searched = 0;
    std::vector<uint8_t>& content = state.data->entries[state.position].content;
    content.insert(content.end(), pieces_.back().id.begin(), pieces_.back().id.end());
  }

  void End() {
    StreamState& state = *state_;
    state.data->entries[state.position].stat.st_size = static_cast<off_t>(state.length);
    state.ended = true;
    state.Close();
  }

  std::shared_ptr<StreamState> state_;
  const size_t wanted_;
  std::vector<Piece> pieces_;
  int error_ = 0;
  const char* syscall_ = "";
};

class FileStream : public Napi::ObjectWrap<FileStream> {
 public:
  explicit FileStream(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileStream>(info), state_(std::move(pending)) {
    if (state_ == nullptr) throw Napi::TypeError::New(info.Env(), "streams come from the addon");
    napi_type_tag_object(info.Env(), info.This(), &kStreamTag);
  }

  Napi::Value Next(const Napi::CallbackInfo& info) {
    if (state_->busy) throw Napi::Error::New(info.Env(), "the stream is being read");
    const double wanted = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 1;
    return AsyncTask::Start(std::make_unique<NextTask>(info.Env(), state_, static_cast<size_t>(std::max(1.0, wanted))));
  }

  Napi::Value Ended(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), state_->ended); }

  void Close(const Napi::CallbackInfo&) {
    state_->ended = true;
    // A read under way closes it with the last reference.
    if (!state_->busy) state_->Close();
  }

 private:
  std::shared_ptr<StreamState> state_;
};

}  // namespace

Napi::Object OpenFileStream(Napi::Env env, std::shared_ptr<ScanData> data, uint32_t position, std::shared_ptr<const Chunker> chunker, int fd) {
  (void)env;
  pending = std::make_shared<StreamState>();
  pending->data = std::move(data);
  pending->position = position;
  pending->chunker = std::move(chunker);
  pending->fd = fd;
  pending->given = fd >= 0;
  return stream_constructor->New({});
}

int OpenEntry(ScanData* data, uint32_t position, int* error, const char** syscall) {
  ScanEntry& entry = data->entries[position];
  const std::string path = data->PathOf(entry);
  // Not blocking: in the meantime the file may have been replaced by a FIFO.
  constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  int fd = open(path.c_str(), kFlags | O_NOATIME);
  if (fd < 0 && errno == EPERM) fd = open(path.c_str(), kFlags);
  struct stat now;
  *syscall = "open";
  if (fd < 0 || fstat(fd, &now) != 0) {
    *error = errno;
    if (fd >= 0) close(fd);
    return -1;
  }
  if (!S_ISREG(now.st_mode)) {
    // As if it had been replaced a moment later: what was found is gone.
    close(fd);
    *error = ESTALE;
    return -1;
  }
  const struct stat& before = entry.stat;
  const bool same = now.st_dev == before.st_dev && now.st_ino == before.st_ino && now.st_ctim.tv_sec == before.st_ctim.tv_sec && now.st_ctim.tv_nsec == before.st_ctim.tv_nsec;
  if (!same) {
    entry.xattrs.clear();
    ScanOne(data, position, false);
    entry.stat = now;
  }
  entry.content.clear();
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return fd;
}

void RegisterFileStream(Napi::Env env, Napi::Object) {
  stream_constructor = new Napi::FunctionReference(Napi::Persistent(FileStream::DefineClass(env, "FileStream", {
      FileStream::InstanceMethod("next", &FileStream::Next),
      FileStream::InstanceMethod("close", &FileStream::Close),
      FileStream::InstanceAccessor("ended", &FileStream::Ended, nullptr),
  })));
  stream_constructor->SuppressDestruct();
}

}  // namespace daybook
