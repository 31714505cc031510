#include "host/serve/reading_desk.h"

#include <chrono>
#include <utility>

namespace mnist {

ReadingDesk::ReadingDesk(Recognizer& recognizer) : recognizer_(recognizer) {
  recognizer_.read({28, 28, {FoundDigit{}}, ""});  // the first one takes the longest
}

PictureReading ReadingDesk::read(PictureDigits digits) {
  Task task([this, digits = std::move(digits)] { return recognizer_.read(digits); });
  std::future<PictureReading> reading = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) tasks_.push_back(std::move(task));
  }
  came_.notify_one();
  return reading.get();  // a task that was dropped breaks its promise
}

void ReadingDesk::work(const std::function<bool()>& stop) {
  std::unique_lock lock(mutex_);
  while (!stop()) {
    if (!came_.wait_for(lock, std::chrono::milliseconds(100), [&] { return !tasks_.empty(); }))
      continue;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
  closed_ = true;
  tasks_.clear();
}

}  // namespace mnist
