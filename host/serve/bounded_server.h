// cpp-httplib's server, bounded in clients, in their bytes and time, and in the time that it takes
// to end.
#pragma once

#include <httplib.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace mnist {

class BoundedServer : public httplib::Server {
 public:
  explicit BoundedServer(size_t max_body_bytes);

  // `port` 0: one that is free. Returns the port; throws Error(kUnavailable) if that or the address
  // cannot be had.
  int take_port(const std::string& host, int port);

  void start();  // answers, on threads of its own

  // False: it has ended by itself, since the system has closed its port.
  bool listening() const { return listening_; }

  // To be called after start(): hangs up on all clients. False: a request is still at work, on a
  // thread that uses this object.
  bool end();

 private:
  // A thread for each connection, and no more of them than allowed.
  class Threads final : public httplib::TaskQueue {
   public:
    explicit Threads(BoundedServer& server) : server_(server) {}
    void enqueue(std::function<void()> serve) override;
    void on_idle() override {
      if (server_.ending_) server_.stop();
    }
    void shutdown() override {}

   private:
    BoundedServer& server_;
  };

  bool process_and_close_socket(socket_t socket) override;

  const size_t max_body_bytes_;
  std::thread listener_;
  std::atomic<bool> listening_ = false;
  std::atomic<bool> ending_ = false;
  std::mutex mutex_;  // of what follows
  std::condition_variable one_ended_;
  int threads_ = 0;
  std::set<socket_t> sockets_;
};

}  // namespace mnist
