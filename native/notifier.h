// What a session tells the kernel unasked: contents for its page cache, and what to forget.
#pragma once
#include <sys/uio.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "blob.h"

namespace daybook {

// One thread, begun with the first notification. The kernel may hold a notification back until a page or directory is unlocked, and the lock's
// holder may be waiting for a reply of ours: so a notification must never be written by the thread that answers requests.
class Notifier {
 public:
  struct Item {
    uint64_t node;
    uint64_t offset;
    std::shared_ptr<Chunk> chunk;
    size_t start;
    size_t length;
  };
  enum class Kind { kStore, kInvalidateEntry, kInvalidateNode };
  struct Job {
    Kind kind;
    std::vector<Item> items;  // kStore
    uint64_t node = 0;        // the others
    std::string name;         // kInvalidateEntry
    uint32_t taken = 0;       // items which the kernel took
    uint64_t bytes = 0;       // of them
    int error = 0;            // errno of an invalidation, or 0
    void* promise = nullptr;  // the owner's; not touched here
  };

  // `fd` must stay open until Join() has returned. `done` is called on the notifier's thread when there is something to Collect().
  Notifier(int fd, std::function<void()> done) : fd_(fd), done_(std::move(done)) {}
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  // Owner's thread. In order, one after the other.
  void Add(std::unique_ptr<Job> job);
  // Owner's thread. Jobs that are finished, in order.
  std::vector<std::unique_ptr<Job>> Collect();
  // Owner's thread. No further item is begun; returns a descriptor that becomes readable when the thread has left the kernel, -1 if it never began.
  // The caller must go on answering requests until then.
  int Stop();
  // Owner's thread, after Stop(): waits, and moves what was not done to the finished jobs.
  void Join();

 private:
  void Run();          // its own thread, as all below
  void Do(Job& job);
  // Neighbours in one file, as one run of bytes.
  int Store(const Item* items, size_t count, size_t length);
  int Write(iovec* parts, int count);

  const int fd_;
  const std::function<void()> done_;
  std::thread thread_;
  int stopped_fd_ = -1;  // eventfd
  std::mutex mutex_;     // guards what follows
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::vector<std::unique_ptr<Job>> finished_;
  bool stop_ = false;
};

}  // namespace daybook
