// One client's connection, bounded in bytes and in time whatever the client does.
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstddef>

#include "host/os/posix_io.h"

namespace mnist {

inline constexpr size_t kMaxHeadBytes = 32'768;  // the request line and all headers

// cpp-httplib's own stream lets a line of a header grow without end, and a client that sends a byte
// every few seconds hold its thread for ever.
class Connection final : public httplib::Stream {
 public:
  explicit Connection(int socket);  // owned

  // From now on so many bytes more may come, in a minute.
  void expect_body(size_t bytes);

  // After the answer: waits a moment for the client to have read it. To close at once would throw
  // it away where some of the request is still unread.
  void finish();

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* bytes, size_t size) override;  // 0: the client has ended; -1: no more
  ssize_t write(const char* bytes, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_.get(); }

 private:
  using Clock = std::chrono::steady_clock;

  // Until bytes can come or go; false: the client stalls, or its time is up.
  bool wait_for(short event) const;

  FileDescriptor socket_;
  Clock::time_point deadline_;
  bool answering_ = false;
  size_t bytes_left_ = kMaxHeadBytes;
  std::array<char, 16'384> buffer_;
  size_t begin_ = 0, end_ = 0;  // what of the buffer has not been read yet
};

}  // namespace mnist
