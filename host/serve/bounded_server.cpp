#include "host/serve/bounded_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <system_error>
#include <utility>

#include "host/error.h"
#include "host/serve/connection.h"
#include "host/serve/request_rules.h"

namespace mnist {
namespace {

using namespace std::chrono_literals;
using httplib::Request;

constexpr int kMaxConnections = 64;  // each has a thread; more wait to be accepted
constexpr auto kGrace = 2s;          // in the end, for requests that are at work

}  // namespace

BoundedServer::BoundedServer(size_t max_body_bytes) : max_body_bytes_(max_body_bytes) {
  set_payload_max_length(max_body_bytes);
  set_tcp_nodelay(true);
  set_idle_interval(100ms);
  // The library's default lets a second server have the same port.
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  new_task_queue = [this] { return new Threads(*this); };
}

int BoundedServer::take_port(const std::string& host, int port) {
  errno = 0;
  const int taken = port > 0 ? (bind_to_port(host, port) ? port : 0) : bind_to_any_port(host);
  if (taken <= 0)
    throw Error(ExitCode::kUnavailable,
                fmt::format("cannot listen on {}: {}. Is the port taken by another program, or the "
                            "address not one of this machine's? --port and --host choose others.",
                            authority(host, port),
                            errno != 0 ? std::generic_category().message(errno) : "no such host"));
  ::listen(svr_sock_, kMaxConnections);  // the library's queue holds five
  return taken;
}

void BoundedServer::start() {
  listening_ = true;
  listener_ = std::thread([this] {
    listen_after_bind();
    listening_ = false;
  });
}

bool BoundedServer::end() {
  ending_ = true;
  {
    const std::lock_guard lock(mutex_);
    for (const socket_t socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  one_ended_.notify_all();
  listener_.join();
  std::unique_lock lock(mutex_);
  return one_ended_.wait_for(lock, kGrace, [&] { return threads_ == 0; });
}

void BoundedServer::Threads::enqueue(std::function<void()> serve) {
  {
    std::unique_lock lock(server_.mutex_);
    server_.one_ended_.wait(lock,
                            [&] { return server_.threads_ < kMaxConnections || server_.ending_; });
    ++server_.threads_;
  }
  const auto run = [&server = server_, serve = std::move(serve)] {
    serve();
    const std::lock_guard lock(server.mutex_);
    --server.threads_;
    server.one_ended_.notify_all();
  };
  try {
    std::thread(run).detach();
  } catch (const std::system_error&) {
    run();  // the system has no thread to spare: one after the other
  }
  on_idle();
}

// One request per connection: what a refused request leaves unread never passes for the next one.
bool BoundedServer::process_and_close_socket(socket_t socket) {
  Connection connection(socket);
  {
    const std::lock_guard lock(mutex_);
    sockets_.insert(socket);
    if (ending_) ::shutdown(socket, SHUT_RDWR);
  }
  try {
    bool closed = false;
    process_request(connection, true, closed, [&](Request& request) {
      // What the library would do with these is slow at best.
      request.ranges.clear();
      request.headers.erase("Range");
      request.headers.erase("Accept-Encoding");
      connection.expect_body(max_body_bytes_);
    });
    connection.finish();
  } catch (const std::exception&) {  // out of memory: this client gets no answer
  }
  const std::lock_guard lock(mutex_);
  sockets_.erase(socket);
  return true;
}

}  // namespace mnist
