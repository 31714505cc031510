// Catch2's main; the seed of random test data is its own (--rng-seed), printed by the reporter.
#define CATCH_CONFIG_RUNNER
#include "tests/support/catch.h"

int main(int argc, char** argv) {
  return Catch::Session().run(argc, argv);
}
