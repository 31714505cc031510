#include "host/serve/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace mnist {
namespace {

using namespace std::chrono_literals;

constexpr auto kHeadTime = 5s;   // for the request line and the headers
constexpr auto kBodyTime = 60s;  // for the picture
constexpr auto kAnswerTime = 60s;
constexpr auto kStallTime = 5s;   // without a byte
constexpr auto kLingerTime = 1s;  // for the client to close the connection after its answer

}  // namespace

Connection::Connection(int socket) : socket_(socket), deadline_(Clock::now() + kHeadTime) {}

void Connection::expect_body(size_t bytes) {
  bytes_left_ = bytes;
  deadline_ = Clock::now() + kBodyTime;
}

void Connection::finish() {
  ::shutdown(socket(), SHUT_WR);
  deadline_ = Clock::now() + kLingerTime;
  while (wait_for(POLLIN) && ::recv(socket(), buffer_.data(), buffer_.size(), 0) > 0) continue;
}

bool Connection::wait_for(short event) const {
  const auto now = Clock::now();
  const auto until = std::min<Clock::time_point>(deadline_, now + kStallTime);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now);
  struct pollfd ready = {socket(), event, 0};
  return left > 0ms && uninterrupted([&] { return ::poll(&ready, 1, int(left.count())); }) > 0;
}

bool Connection::is_readable() const {
  return begin_ < end_ || wait_for(POLLIN);
}

bool Connection::is_writable() const {
  return wait_for(POLLOUT);
}

ssize_t Connection::read(char* bytes, size_t size) {
  if (begin_ == end_) {
    if (!wait_for(POLLIN)) return -1;
    const ssize_t got =
        uninterrupted([&] { return ::recv(socket(), buffer_.data(), buffer_.size(), 0); });
    if (got <= 0) return got;
    begin_ = 0;
    end_ = size_t(got);
  }
  size = std::min({size, end_ - begin_, bytes_left_});
  if (size == 0) return -1;
  std::memcpy(bytes, &buffer_[begin_], size);
  begin_ += size;
  bytes_left_ -= size;
  return ssize_t(size);
}

ssize_t Connection::write(const char* bytes, size_t size) {
  if (!answering_) deadline_ = Clock::now() + kAnswerTime;
  answering_ = true;
  if (!wait_for(POLLOUT)) return -1;
  return uninterrupted([&] { return ::send(socket(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

// For logs, which there are not.
void Connection::get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const {}
void Connection::get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const {}

}  // namespace mnist
