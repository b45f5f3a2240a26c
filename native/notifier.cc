#include "notifier.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <system_error>
#include <utility>

namespace daybook {
namespace {

constexpr size_t kMaxItems = 16;  // of one store
constexpr size_t kMaxStore = 8 << 20;

bool Follows(const Notifier::Item& before, const Notifier::Item& item) {
  return item.node == before.node && item.offset == before.offset + before.length;
}

}  // namespace

Notifier::~Notifier() {
  Stop();
  Join();
}

void Notifier::Add(std::unique_ptr<Job> job) {
  if (!thread_.joinable()) {
    stopped_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stopped_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    // Signals belong to the thread on which Node expects them; a new thread inherits the mask.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      close(stopped_fd_);
      stopped_fd_ = -1;
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

std::vector<std::unique_ptr<Notifier::Job>> Notifier::Collect() {
  std::lock_guard lock(mutex_);
  return std::exchange(finished_, {});
}

int Notifier::Stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  return stopped_fd_;
}

void Notifier::Join() {
  if (thread_.joinable()) thread_.join();
  if (stopped_fd_ >= 0) close(stopped_fd_);
  stopped_fd_ = -1;
  std::lock_guard lock(mutex_);
  for (auto& job : queue_) finished_.push_back(std::move(job));
  queue_.clear();
}

void Notifier::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) break;
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    Do(*job);
    lock.lock();
    finished_.push_back(std::move(job));
    done_();
  }
  lock.unlock();
  eventfd_write(stopped_fd_, 1);
}

void Notifier::Do(Job& job) {
  if (job.kind == Kind::kStore) {
    for (size_t begin = 0; begin < job.items.size();) {
      {
        std::lock_guard lock(mutex_);
        if (stop_) break;
      }
      // The kernel keeps whole pages only, so the page that two items share must come in one piece.
      size_t end = begin + 1, length = job.items[begin].length;
      while (end < job.items.size() && end - begin < kMaxItems && Follows(job.items[end - 1], job.items[end]) && length + job.items[end].length <= kMaxStore) {
        length += job.items[end++].length;
      }
      int error = Store(&job.items[begin], end - begin, length);
      // ENOENT: the kernel does not know the inode, so there is nothing to keep. Whatever else it says, it has not taken these bytes and will ask.
      if (error == 0) {
        job.taken += static_cast<uint32_t>(end - begin);
        job.bytes += length;
      }
      // memory goes back as soon as it can, not when the whole job is done
      for (; begin < end; begin++) job.items[begin].chunk.reset();
      if (error == ENODEV) break;
    }
    job.items.clear();
    return;
  }
  fuse_out_header header = {};
  if (job.kind == Kind::kInvalidateEntry) {
    fuse_notify_inval_entry_out body = {};
    body.parent = job.node;
    body.namelen = static_cast<uint32_t>(job.name.size());
    header.error = FUSE_NOTIFY_INVAL_ENTRY;
    iovec parts[] = {{&header, sizeof header}, {&body, sizeof body}, {job.name.data(), job.name.size() + 1}};
    job.error = Write(parts, 3);
  } else {
    fuse_notify_inval_inode_out body = {};
    body.ino = job.node;  // length 0: all of it
    header.error = FUSE_NOTIFY_INVAL_INODE;
    iovec parts[] = {{&header, sizeof header}, {&body, sizeof body}};
    job.error = Write(parts, 2);
  }
  if (job.error == ENOENT || job.error == ENODEV) job.error = 0;  // not cached, or no longer mounted: nothing is left to be invalid
}

int Notifier::Store(const Item* items, size_t count, size_t length) {
  fuse_out_header header = {};
  header.error = FUSE_NOTIFY_STORE;
  fuse_notify_store_out body = {};
  body.nodeid = items->node;
  body.offset = items->offset;
  body.size = static_cast<uint32_t>(length);
  iovec parts[2 + kMaxItems] = {{&header, sizeof header}, {&body, sizeof body}};
  for (size_t i = 0; i < count; i++) parts[2 + i] = {items[i].chunk->data + items[i].start, items[i].length};
  return Write(parts, static_cast<int>(2 + count));
}

int Notifier::Write(iovec* parts, int count) {
  auto* header = static_cast<fuse_out_header*>(parts[0].iov_base);
  header->len = 0;
  for (int i = 0; i < count; i++) header->len += static_cast<uint32_t>(parts[i].iov_len);
  ssize_t n;
  do n = writev(fd_, parts, count);
  while (n < 0 && errno == EINTR);
  return n < 0 ? errno : 0;
}

}  // namespace daybook
