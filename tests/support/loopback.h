// A web server on 127.0.0.1 that misbehaves as told.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mnist::test {

struct WebRequest {
  std::string path;
  int64_t range_start = -1;  // of "Range: bytes=N-"
  std::string user_agent;
};

struct WebAnswer {
  int status = 200;
  std::vector<uint8_t> body;
  std::string headers;      // more of them, each ended by \r\n
  int64_t cut_after = -1;   // bytes of the body that are sent before the connection is reset
  bool with_length = true;  // Content-Length is that of the whole body
  int silent_ms = 0;        // pause before the body
};

// The whole file, or the part asked for.
inline WebAnswer serve_file(const WebRequest& request, const std::vector<uint8_t>& file) {
  WebAnswer answer;
  answer.body = file;
  if (request.range_start < 0) return answer;
  const auto size = static_cast<int64_t>(file.size());
  if (request.range_start >= size) {
    answer.status = 416;
    answer.body.clear();
    return answer;
  }
  answer.status = 206;
  answer.body.assign(file.begin() + request.range_start, file.end());
  answer.headers = "Content-Range: bytes " + std::to_string(request.range_start) + "-" +
                   std::to_string(size - 1) + "/" + std::to_string(size) + "\r\n";
  return answer;
}

class LoopbackServer {
 public:
  using Handler = std::function<WebAnswer(const WebRequest&)>;

  explicit LoopbackServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (listener_ < 0 || bind(listener_, generic, length) != 0 || listen(listener_, 16) != 0 ||
        getsockname(listener_, generic, &length) != 0)
      throw std::runtime_error("no loopback server");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~LoopbackServer() {
    stopping_ = true;
    acceptor_.join();
    for (std::thread& connection : connections_) connection.join();
    close(listener_);
  }
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  std::vector<WebRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void accept_all() {
    while (!stopping_) {
      pollfd waiting{listener_, POLLIN, 0};
      if (poll(&waiting, 1, 20) <= 0) continue;
      const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection >= 0) connections_.emplace_back([this, connection] { answer(connection); });
    }
  }

  static std::string header(const std::string& head, const std::string& name) {
    const size_t start = head.find(name);
    if (start == head.npos) return "";
    return head.substr(start + name.size(), head.find('\r', start) - start - name.size());
  }

  void answer(int connection) {
    std::string head;
    char buffer[4096];
    while (head.find("\r\n\r\n") == head.npos) {
      const ssize_t count = recv(connection, buffer, sizeof buffer, 0);
      if (count <= 0) break;
      head.append(buffer, static_cast<size_t>(count));
    }
    WebRequest request;
    request.path = head.substr(4, head.find(' ', 4) - 4);
    if (const std::string range = header(head, "Range: bytes="); !range.empty())
      request.range_start = std::stoll(range);
    request.user_agent = header(head, "User-Agent: ");
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const WebAnswer web = handler_(request);
    std::string start =
        "HTTP/1.1 " + std::to_string(web.status) + " Status\r\nConnection: close\r\n";
    if (web.with_length) start += "Content-Length: " + std::to_string(web.body.size()) + "\r\n";
    start += web.headers + "\r\n";
    send_all(connection, start.data(), start.size());

    const bool cut = web.cut_after >= 0;
    const size_t size = cut ? static_cast<size_t>(web.cut_after) : web.body.size();
    if (web.silent_ms > 0) {
      pollfd waiting{connection, POLLIN, 0};
      poll(&waiting, 1, web.silent_ms);  // until the other side gives up
    }
    send_all(connection, web.body.data(), size);
    if (cut) {
      // A reset throws away what the other side has not read yet: give it time.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const linger at_once{1, 0};
      setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    close(connection);
  }

  static void send_all(int connection, const void* data, size_t size) {
    const char* next = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t count = send(connection, next, size, MSG_NOSIGNAL);
      if (count <= 0) return;
      next += count;
      size -= static_cast<size_t>(count);
    }
  }

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;
  std::vector<WebRequest> requests_;
  std::vector<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace mnist::test
