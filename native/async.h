// One piece of work on the thread pool with a promise.
#pragma once
#include <napi.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace daybook {

// Made and destroyed on the JS thread; freed when its last piece of work is done.
class AsyncTask {
 public:
  explicit AsyncTask(Napi::Env env) : env_(env), deferred_(Napi::Promise::Deferred::New(env)) {}
  virtual ~AsyncTask() = default;
  AsyncTask(const AsyncTask&) = delete;
  AsyncTask& operator=(const AsyncTask&) = delete;

  // JS thread. Runs `parts` pieces of work; takes the task.
  static Napi::Value Start(std::unique_ptr<AsyncTask> task, size_t parts = 1) {
    const Napi::Promise promise = task->deferred_.Promise();
    AsyncTask* const shared = task.release();
    shared->open_ = parts;
    if (parts == 0) {
      shared->Settle();
      delete shared;
      return promise;
    }
    for (size_t part = 0; part < parts; part++) {
      auto* work = new Work{shared, part, nullptr};
      const Napi::String name = Napi::String::New(shared->env_, "daybook:work");
      const bool made = napi_create_async_work(shared->env_, nullptr, name, Execute, Complete, work, &work->handle) == napi_ok;
      if (!made || napi_queue_async_work(shared->env_, work->handle) != napi_ok) Napi::Error::Fatal("AsyncTask::Start", "no work can be queued");
    }
    return promise;
  }

  // JS thread. Keeps a JavaScript value from being collected while the task runs.
  void Hold(const Napi::Value& value) {
    if (value.IsObject()) held_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }

 protected:
  // Pool thread; parts run at the same time.
  virtual void Run(size_t part) = 0;
  // JS thread, when all parts are done; a Napi::Error thrown here rejects.
  virtual Napi::Value Result(Napi::Env env) = 0;

 private:
  struct Work {
    AsyncTask* task;
    size_t part;
    napi_async_work handle;
  };

  static void Execute(napi_env, void* data) {
    Work* work = static_cast<Work*>(data);
    try {
      work->task->Run(work->part);
    } catch (...) {
      work->task->out_of_memory_ = true;
    }
  }

  static void Complete(napi_env env, napi_status, void* data) {
    Work* work = static_cast<Work*>(data);
    AsyncTask* const task = work->task;
    napi_delete_async_work(env, work->handle);
    delete work;
    if (--task->open_ > 0) return;
    std::unique_ptr<AsyncTask> owned(task);
    Napi::HandleScope scope(env);
    owned->Settle();
  }

  void Settle() {
    // While the environment is torn down nothing can be told to JavaScript, and nobody waits.
    try {
      try {
        if (out_of_memory_) throw Napi::Error::New(env_, "out of memory");
        deferred_.Resolve(Result(env_));
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
      }
    } catch (const Napi::Error&) {
    }
  }

  Napi::Env env_;
  Napi::Promise::Deferred deferred_;
  std::vector<Napi::ObjectReference> held_;
  size_t open_ = 0;
  std::atomic<bool> out_of_memory_ = false;
};

}  // namespace daybook
