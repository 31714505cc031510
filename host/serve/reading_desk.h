// Brings pictures from the server's threads to the one thread that the engine belongs to.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>

#include "host/data/pictures/picture_digits.h"
#include "host/recognition/recognizer.h"

namespace mnist {

// A GPU is chosen per thread, and a Recognizer serves one thread at a time.
class ReadingDesk {
 public:
  // On the engine's thread; throws what Recognizer::read() throws.
  explicit ReadingDesk(Recognizer& recognizer);

  // On any thread: waits for the reading, and throws what Recognizer::read() throws, or
  // std::future_error once work() has ended.
  PictureReading read(PictureDigits digits);

  // On the engine's thread: reads what comes, until `stop`, asked ten times a second, says so.
  void work(const std::function<bool()>& stop);

 private:
  using Task = std::packaged_task<PictureReading()>;

  Recognizer& recognizer_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<Task> tasks_;
  bool closed_ = false;
};

}  // namespace mnist
