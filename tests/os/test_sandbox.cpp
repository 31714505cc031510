// What a child that works on untrusted bytes can do, and what its end looks like.
#include "host/os/sandbox.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <new>

#include "tests/support/catch.h"

namespace mnist {

// A hostile file makes HDF5 or a decoder crash or hang: the caller only sees an error.
TEST_CASE("a parser that crashes or hangs is an error like any other", "[sandbox]") {
  std::byte byte{};
  const auto received = [&](const auto& work) {
    Sandbox sandbox(work, 1);
    return sandbox.receive(std::span(&byte, 1));
  };
  CHECK(received([](const Sandbox::Send& send) { send(std::array{std::byte{7}}); }));
  CHECK(byte == std::byte{7});
  CHECK_FALSE(received([](const Sandbox::Send&) {}));
  CHECK_FALSE(received([](const Sandbox::Send&) { raise(SIGSEGV); }));
  CHECK_FALSE(received([](const Sandbox::Send&) { abort(); }));
  CHECK_FALSE(received([](const Sandbox::Send&) { throw std::bad_alloc(); }));
  CHECK_FALSE(received([](const Sandbox::Send& send) {
    while (getpid() > 0) continue;
    send({});
  }));
}

// A server's child that held a client's socket would keep its connection open.
TEST_CASE("a sandbox has none of the caller's files", "[sandbox]") {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  FileDescriptor ours(sockets[0]);
  const FileDescriptor theirs(sockets[1]);
  const int high = 200;
  REQUIRE(dup2(ours.get(), high) == high);
  FileDescriptor same(high);

  Sandbox sandbox([](const Sandbox::Send& send) {
    std::array<std::byte, 256> open{};
    for (size_t i = 0; i < open.size(); ++i) open[i] = std::byte(fcntl(int(i), F_GETFD) >= 0);
    send(open);
    pause();
  });
  std::array<std::byte, 256> open{};
  REQUIRE(sandbox.receive(open));
  for (size_t i = 0; i < open.size(); ++i) {
    CAPTURE(i);
    CHECK(bool(open[i]) == (i < 4));  // the standard streams and its pipe
  }

  ours.close();
  same.close();
  char byte;
  CHECK(recv(theirs.get(), &byte, 1, MSG_DONTWAIT) == 0);  // closed, though the child lives
}

#ifndef __SANITIZE_ADDRESS__  // it needs to open some
TEST_CASE("a sandbox opens no file", "[sandbox]") {
  Sandbox sandbox([](const Sandbox::Send& send) {
    send(std::array{std::byte(open("/dev/null", O_RDONLY) < 0)});
  });
  std::byte refused{};
  REQUIRE(sandbox.receive(std::span(&refused, 1)));
  CHECK(refused == std::byte{1});
}
#endif

}  // namespace mnist
